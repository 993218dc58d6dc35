"""What is around the work goes wrong: no room, no rights, a second run, a folder of an earlier version."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.pipeline.finishing import finish
from tests.pipeline.jobs.small_corpus import Corpus, contents, make_corpus, run

from vlmixer.artifacts import manifest
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.files import TEMPORARY
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage

ROOT = Path(__file__).parents[3]


def command(config: Path, out: Path, *arguments: str, most: int | None = None) -> subprocess.Popen:
    """`vlmixer run` as a process; `most`: bytes that it may write into a file."""
    call = [sys.executable, "-m", "vlmixer", "run", str(config), "--out", str(out), *arguments]
    limit = None if most is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    return subprocess.Popen(
        call, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit
    )  # fmt: skip


@pytest.mark.parametrize(
    ("most", "stage", "workers"), [(1_000, "work/tag", 1), (30_000, "regions", 2), (60_000, "work/index", 1)]
)
def test_where_a_file_cannot_grow_one_line_says_so_and_the_rest_is_done_later(
    small_run: Corpus, tmp_path, most, stage, workers
):
    config, out = small_run.write_config(), tmp_path / "out"
    failed = command(config, out, "--workers", str(workers), most=most)
    _, said = failed.communicate()
    assert failed.returncode == 1, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith(f"error: {out}/{stage}")
    assert ": cannot be written: File too large. Allow larger files (ulimit -f), then rerun the" in errors[0]
    assert errors[0].endswith("finished work is kept.")
    assert "Traceback" not in said, said[-6000:]
    # Another worker may have been ended with the command; what it had begun goes with the next one.
    assert workers > 1 or not [path for path in out.rglob("*") if TEMPORARY in path.name]
    assert run(config, out) == 0
    assert not [path for path in out.rglob("*") if TEMPORARY in path.name]
    assert contents(out) == contents(small_run.folder / "out")


def test_an_output_below_a_file_is_one_error(small_run: Corpus, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(small_run.write_config(), tmp_path / "file" / "out") == 1
    said = capsys.readouterr().err
    assert "cannot be written: Not a directory. Make it writable, or give another --out" in said
    assert said.count("\n") == 1


def test_of_two_runs_at_once_the_second_is_refused_and_the_first_is_whole(small_run: Corpus, tmp_path, monkeypatch):
    config, out, hold = small_run.write_config(), tmp_path / "out", tmp_path / "hold"
    other = small_run.write_config("other.yaml", seed=4)
    monkeypatch.setenv("QUADRANTS_HOLD", str(hold))
    hold.touch()
    first = command(config, out)
    deadline = time.monotonic() + 120
    while not (out / "work" / "detect").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    for again in (command(config, out), command(other, out, "--overwrite")):
        _, said = again.communicate()
        assert again.returncode == 1
        assert f"another run is using this folder (process {first.pid} on " in said
    hold.unlink()
    _, said = first.communicate()
    assert first.returncode == 0, said
    assert contents(out) == contents(small_run.folder / "out")
    assert not (out / "logs" / "lock").exists()


@pytest.fixture(scope="module")
def earlier(tmp_path_factory) -> Corpus:
    """A corpus with a finished run in `now`, and in `out` as if by the schema version before ours."""
    corpus = make_corpus(tmp_path_factory.mktemp("earlier"))
    assert run(corpus.write_config(), corpus.folder / "now") == 0
    shutil.copytree(corpus.folder / "now", corpus.folder / "out")
    for path in (corpus.folder / "out").glob("*/manifest.json"):
        content = json.loads(path.read_bytes()) | {"schema_version": manifest.SCHEMA_VERSION - 1}
        path.write_bytes(manifest.canonical(content, indent=1))
    return corpus


COMMANDS = [
    *(f"{stage} CONFIG --out OUT" for stage in ("run", "tag", "detect", "index", "mix")),
    "verify OUT", "verify OUT --bytes", "verify OUT/bank",
    "show OUT --html PAGE", "show OUT --key x", "show OUT/shards --json",
    "bank stats OUT/bank", "bank query OUT/bank --concept dog", "bank show OUT/bank --html PAGE",
    "bank serve OUT/bank --port 0", "bank drop OUT/bank --images CONFIG --out NEW",
    "bank merge OUT/bank OUT/bank --out NEW", "train CONFIG --out NEW --set out=OUT",
]  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_a_folder_of_an_earlier_version_is_refused_by_every_command(earlier: Corpus, tmp_path, capsys, line):
    places = {
        "CONFIG": str(earlier.folder / "config.yaml"),
        "OUT": str(earlier.folder / "out"),
        "PAGE": str(tmp_path / "page.html"),
        "NEW": str(tmp_path / "new"),
    }
    before = contents(earlier.folder / "out")
    for name, path in places.items():
        line = line.replace(name, path)
    assert main(line.split()) == 1
    printed = capsys.readouterr()
    said = [text for text in (printed.out + printed.err).splitlines() if "schema version" in text]
    old, new = manifest.SCHEMA_VERSION - 1, manifest.SCHEMA_VERSION
    assert said
    assert all(
        f"manifest.json: written with schema version {old}, this program reads {new}. Use the" in text for text in said
    )
    if "verify" not in line:
        assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.err
    assert contents(earlier.folder / "out") == before


def test_an_earlier_version_may_be_done_afresh(earlier: Corpus, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(earlier.folder / "out", out)
    assert run(earlier.write_config(), out, "--overwrite") == 0
    assert contents(out) == contents(earlier.folder / "now")


def test_workers_end_with_a_command_that_is_killed(small_run: Corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("QUADRANTS_DELAY", "0.2")
    process = command(small_run.write_config(), tmp_path / "out", "--workers", "2")
    deadline = time.monotonic() + 120
    while not (children := _workers(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    children += _started_by(process.pid)
    process.kill()
    process.communicate()
    assert children
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in children if Path(f"/proc/{child}").exists()]


def test_a_worker_that_is_killed_ends_the_command_with_one_line_and_the_next_one_finishes(
    small_run: Corpus, tmp_path, monkeypatch
):
    config, out = small_run.write_config(), tmp_path / "out"
    monkeypatch.setenv("QUADRANTS_DELAY", "0.05")
    process = command(config, out, "--workers", "2")
    deadline = time.monotonic() + 120
    while not list((out / "work" / "detect").glob("part-*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    first, *_ = children = _workers(process.pid)
    os.kill(first, signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    assert "Traceback" not in said, said[-6000:]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert errors == [
        line for line in said.splitlines()[-1:] if f"a worker process (pid {first}) was killed (SIGKILL)" in line
    ]
    assert not [child for child in children if Path(f"/proc/{child}").exists()]
    monkeypatch.delenv("QUADRANTS_DELAY")
    assert run(config, out, workers=2) == 0
    assert contents(out) == contents(small_run.folder / "out")


def _workers(command: int) -> list[int]:
    """The worker processes of a command, without the process that they come from."""
    return [worker for server in _started_by(command) for worker in _started_by(server)]


def _started_by(parent: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if (
                    int(stat[1]) == parent
                    and "vlmixer.pipeline.jobs.worker" in Path(f"/proc/{entry}/cmdline").read_text()
                ):
                    found.append(int(entry))
            except OSError:
                continue
    return found


def test_what_a_lost_worker_had_begun_is_gone_when_the_stage_is_finished(tmp_path):
    stage = Stage(TAG, str(tmp_path))
    details = TaggedDetails("rules", "coco", "-", mentions={}, not_meant={}, sources={}, not_split=0)
    plan = Plan({}, [], {})
    assert begin_stage(stage, plan, overwrite=False) is None
    for folder in (stage.folder, stage.rejects):
        Path(folder).mkdir(exist_ok=True)
        Path(folder, f"part-00000.parquet{TEMPORARY}0123").write_bytes(b"half")
    finish(stage, plan, details)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["contents.json", "manifest.json"]
