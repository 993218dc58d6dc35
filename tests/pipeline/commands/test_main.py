"""What every subcommand has in common: exit codes, usage, what goes to stdout and what to stderr, Beam's arguments."""

import contextlib
import io
import json
import subprocess
import sys

import pytest
from tests.pipeline.jobs.small_corpus import make_corpus

import vlmixer
from vlmixer.artifacts import manifest
from vlmixer.pipeline.commands.options import print_json


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["bank"],
        ["bank", "nonsense", "x"],
        ["eval", "retrieval"],
        ["verify"],
        ["verify", "x", "--nonsense"],
        ["show", "x", "-n", "0"],
        ["bank", "query", "x", "-k", "none"],
        ["run", "x.yaml", "--workers", "0"],
    ],
)
def test_a_wrong_call_prints_the_usage_and_gives_2(call, arguments):
    code, printed, said = call(*arguments)
    assert code == 2
    assert printed == ""
    assert "usage: " in said


def test_help_goes_to_stdout(call):
    code, printed, _ = call("--help")
    assert code == 0
    for name in ("demo", "run", "tag", "detect", "index", "mix", "verify", "show", "bank", "train", "eval"):
        assert f"    {name} " in printed


def test_the_version_is_the_packages(call):
    assert call("--version") == (0, f"{vlmixer.__version__}\n", "")


@pytest.mark.parametrize("command", ["run", "tag", "train"])
def test_a_config_that_is_not_there(call, tmp_path, command):
    code, printed, said = call(command, tmp_path / "none.yaml")
    assert code == 2
    assert printed == ""
    assert said.startswith("error: ")
    assert "none.yaml" in said
    assert "Traceback" not in said


def test_an_unknown_key_names_the_nearest(call, small_run, tmp_path):
    code, _, said = call("tag", small_run.write_config(), "--out", tmp_path, "--set", "text.feild=x")
    assert code == 2
    assert "'field'" in said


def test_failed_work_gives_1_and_one_message(call, small_run, tmp_path):
    code, printed, said = call("index", small_run.write_config(), "--out", tmp_path)
    assert code == 1
    assert printed == ""
    assert [line for line in said.splitlines() if line.startswith("error: ")]
    assert "vlmixer detect" in said
    assert "Traceback" not in said


def test_messages_of_a_run_are_kept_in_its_logs(call, small_run, tmp_path):
    code, printed, said = call("tag", small_run.write_config(), "--out", tmp_path / "out", "--workers", 1)
    assert code == 0
    assert printed.startswith("tagged by rules, vocabulary ")
    counts = manifest.read(str(tmp_path / "out" / "tagged")).counts["sentences"]
    said_of_it = f"{counts.written} of {counts.read} sentences"
    assert said_of_it in said
    [log] = (tmp_path / "out" / "logs").glob("*.log")
    assert said_of_it in log.read_text()


def test_arguments_after_the_dashes_reach_beam(call, small_run, tmp_path):
    config = small_run.write_config()
    runner = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
    code, _, _ = call("tag", config, "--out", tmp_path / "good", "--", f"--runner={runner}")
    assert code == 0
    made, expected = tmp_path / "good" / "tagged", small_run.folder / "out" / "tagged"
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in expected.iterdir() if path.is_file()
    }


def test_a_wrong_argument_for_beam(call, small_run, tmp_path):
    arguments = ["tag", small_run.write_config(), "--out", tmp_path, "--", "--direct_running_mode=nonsense"]
    code, _, said = call(*arguments)
    assert code == 2
    assert "nonsense" in said


def test_the_users_files_do_not_hide_packages_from_workers(tmp_path):
    """A `torch.py` of the user's lies in the working folder and next to the config, where detectors are looked for."""
    corpus = make_corpus(tmp_path)
    for name in ("torch.py", "numpy.py", "vlmixer.py"):
        (tmp_path / name).write_text("raise RuntimeError('a file of the user')\n")
    program = "import sys; from vlmixer.pipeline.commands.main import main; sys.exit(main(sys.argv[1:]))"
    config = corpus.write_config(images={"inputs": [str(corpus.photos / "000*.jpg")]})
    arguments = ["detect", str(config), "--out", "out", "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_run_ends_with_a_summary(call, small_run):
    code, printed, _ = call("run", small_run.write_config(), "--out", small_run.folder / "out", "--workers", 1)
    assert code == 0
    out = small_run.folder / "out"
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == ["tag", "detect", "index", "mix"]
    assert f"  {out}/reports/tagging.html" in lines
    assert f"  {out}/reports/run.html" in lines
    assert "What the detector sees" in (out / "reports" / "run.html").read_text()
    assert any(f"vlmixer show {out} " in line for line in lines)


def test_timings_are_printed_beside_the_plan(call, small_run):
    code, printed, _ = call("run", small_run.write_config(), "--out", small_run.folder / "out", "--timings")
    assert code == 0
    (at,) = [number for number, line in enumerate(printed.splitlines()) if line.split()[:2] == ["seconds", "planned"]]
    rows = [line.split() for line in printed.splitlines()[at + 1 :]]
    assert [row[0] for row in rows][:5] == ["start", "tag", "detect", "index", "mix"]
    assert [row[2] for row in rows[1:5]] == ["0.0"] * 4, "all stages are done already"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", None])
def test_json_is_valid_in_any_encoding_of_stdout(encoding):
    data = io.BytesIO()
    stream = io.StringIO() if encoding is None else io.TextIOWrapper(data, encoding, errors="backslashreplace")
    with contextlib.redirect_stdout(stream):
        print_json({"source": "Hündchen 犬 \ud800.jpg"})
        stream.flush()
    text = stream.getvalue() if isinstance(stream, io.StringIO) else data.getvalue().decode(encoding or "")
    assert json.loads(text) == {"source": "Hündchen 犬 \ud800.jpg"}
