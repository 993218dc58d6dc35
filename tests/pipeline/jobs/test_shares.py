"""Stages whose units several commands share: the same bytes as from one command, and what is refused."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.pipeline.jobs.small_corpus import contents, make_corpus, run

PAGE = (Path(__file__).parents[3] / "docs" / "slurm.md").read_text(encoding="utf-8")
SCRIPTS = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
"""stage.sh, what queues it, share.sh, what queues both; training."""

SBATCH = """#!{python}
# Runs a job here, its tasks at once, and gives its number when it has ended.
import os, re, subprocess, sys
options = [each for each in sys.argv[1:] if each.startswith("-")]
named = dict(each.lstrip("-").partition("=")[::2] for each in options)
script = [each for each in sys.argv[1:] if not each.startswith("-")]
before = named.get("dependency", "afterok:").removeprefix("afterok:")
assert not before or os.path.exists(f"job-{{before}}"), f"nothing to wait for: {{before}}"
first, last = map(int, re.fullmatch(r"(\\d+)-(\\d+)", named.get("array", "0-0")).groups())
tasks = [
    subprocess.Popen(
        ["bash", *script],
        env=os.environ | {{"SLURM_ARRAY_TASK_ID": str(task), "SLURM_CPUS_PER_TASK": "1"}},
        stdout=open(f"{{'-'.join(script)}}-{{task}}.log", "w"),
        stderr=subprocess.STDOUT,
    )
    for task in range(first, last + 1)
]
if any([task.wait() for task in tasks]):
    sys.exit("a task failed")
number = len([name for name in os.listdir() if name.startswith("job-")]) + 1
open(f"job-{{number}}", "w").close()
print(number)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A corpus, and what one command makes of it."""
    corpus = make_corpus(tmp_path_factory.mktemp("shares"))
    assert run(corpus.write_config(), corpus.folder / "whole") == 0
    return corpus, contents(corpus.folder / "whole")


def program(path: Path, text: str) -> None:
    """Write an executable file."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def test_the_scripts_of_the_page_give_the_bytes_of_one_command(finished, tmp_path):
    corpus, whole = finished
    stage, _, share, chain, _ = (script.replace("/shared/out", str(tmp_path / "out")) for script in SCRIPTS)
    program(tmp_path / "bin" / "sbatch", SBATCH.format(python=sys.executable))
    program(tmp_path / "bin" / "srun", '#!/bin/sh\nexec "$@"\n')
    program(tmp_path / "bin" / "vlmixer", f'#!/bin/sh\nexec {sys.executable} -m vlmixer "$@"\n')
    (tmp_path / "stage.sh").write_text(stage)
    (tmp_path / "share.sh").write_text(share)
    (tmp_path / "my.yaml").write_text(corpus.write_config().read_text())
    program(tmp_path / "quadrants.py", (corpus.folder / "quadrants.py").read_text())
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-e", "-c", chain.replace("16", "3")], cwd=tmp_path, env=environment, check=True)
    assert contents(tmp_path / "out") == whole
    logs = [(tmp_path / f"share.sh-detect-3-{task}.log").read_text() for task in (1, 2, 3)]
    assert all(f"detect: 1 of 3 units, share {task}/3, are done" in log for task, log in enumerate(logs, 1))
    assert "detect: 3 of 3 units, 150 images" in (tmp_path / "stage.sh-detect-0.log").read_text()


def test_shares_one_after_the_other_and_one_that_is_missing(finished, tmp_path, capsys):
    corpus, whole = finished
    config, out = corpus.write_config(), tmp_path / "out"
    for stage, shares in (("tag", 2), ("detect", 2), ("index", 0), ("mix", 2)):
        for number in range(1, shares + 1):
            assert run(config, out, "--only-units", f"{number}/{shares}", command=stage) == 0
            assert f"share {number}/{shares}, are done" in capsys.readouterr().err
            if stage == "mix":
                break  # what the other share leaves, the last command does
        assert not (out / "reports" / f"{stage}.html").exists()
        assert run(config, out, command=stage) == 0
    assert contents(out) == whole


def test_a_share_of_a_finished_stage_has_nothing_to_do(finished):
    corpus, whole = finished
    assert run(corpus.write_config(), corpus.folder / "whole", "--only-units", "1/4", command="mix") == 0
    assert contents(corpus.folder / "whole") == whole


def test_shares_with_another_config_are_refused(finished, tmp_path, capsys):
    corpus, _ = finished
    out = tmp_path / "out"
    assert run(corpus.write_config(), out, "--only-units", "1/2", command="tag") == 0
    other = corpus.write_config("other.yaml", text={"tag_modifiers": True})
    # The first may not have ended a unit yet, so even then its plan stands.
    for result in (out / "work" / "tag").glob("*-*.json"):
        result.unlink()
    assert run(other, out, "--only-units", "2/2", command="tag") == 1
    assert "setting tag_modifiers (was False, is True) changed since" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only-units", "0/4"], "--only-units 0/4: expected the number of a share, from 1"),
        (["--only-units", "5/4"], "--only-units 5/4: expected"),
        (["--only-units", "3"], "--only-units 3: expected"),
        (["--only-units", "1/2", "--overwrite"], "Give one of the two"),
        (["--only-units", "1/2", "--out", "memory://shares"], "memory://shares: --only-units needs an --out"),
    ],
)
def test_calls_that_are_wrong(finished, tmp_path, capsys, options, said):
    corpus, _ = finished
    assert run(corpus.write_config(), tmp_path / "out", *options, command="detect") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
