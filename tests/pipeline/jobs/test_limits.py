"""Links in the place of files of ours, and a system that allows few open files: one message, and nothing is touched."""

import os
import resource
import subprocess
import sys

import pytest

from vlmixer.artifacts.errors import WriteError
from vlmixer.artifacts.lock import locked
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.engine import require_open_files
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.timing import UnitTime, record


def test_a_lock_that_is_a_link_leaves_its_target_alone(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(WriteError, match="logs/lock: is a link"), locked(str(tmp_path / "logs")):
        pass
    assert (tmp_path / "precious").read_text() == "mine"
    (tmp_path / "logs" / "lock").unlink()
    (tmp_path / "logs" / f"units-{os.getpid()}.jsonl").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic links"):
        record(str(tmp_path), UnitTime("tag", "find-00000", 0, 0, 0))
    assert (tmp_path / "precious").read_text() == "mine"


@pytest.mark.parametrize("name", ["tagged", "work", "work/tag", "rejects"])
def test_a_folder_that_is_a_link_is_refused(tmp_path, name):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine").write_text("mine")
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WriteError, match=f"{name}: is a link"):
        begin_stage(Stage(TAG, str(tmp_path / "out")), Plan({}, [], {}), overwrite=True)
    assert (tmp_path / "elsewhere" / "mine").read_text() == "mine"


FEW_FILES = """
import resource, sys
from vlmixer.pipeline.jobs.engine import require_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (40, int(sys.argv[1])))
require_open_files(2)
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_limit_of_open_files_is_raised_or_the_call_refused():
    raised = subprocess.run([sys.executable, "-c", FEW_FILES, "100"], capture_output=True, text=True, check=True)
    assert raised.stdout == "64\n"
    refused = subprocess.run([sys.executable, "-c", FEW_FILES, "40"], capture_output=True, text=True, check=False)
    assert "CallError: 2 workers need 64 open files, and the system allows 40." in refused.stderr


def test_enough_open_files_are_left_as_they_are():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    require_open_files(1)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_too_few_open_files_for_any_work_are_noticed_before_results_are_removed(tmp_path):
    (tmp_path / "a.txt").write_text("a dog\n")
    config = tmp_path / "config.yaml"
    config.write_text(f"vocabulary: coco\ntext: {{inputs: [{tmp_path}/a.txt], spacy_model: rules}}\n")
    command = [sys.executable, "-m", "vlmixer", "tag", str(config), "--out", str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    limited = ["bash", "-c", 'ulimit -n 40; exec "$0" "$@"', *command, "--overwrite"]
    refused = subprocess.run(limited, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1] == (
        "error: 1 worker needs 48 open files, and the system allows 40. Raise the limit (ulimit -n 48)."
    )
    assert (tmp_path / "out" / "tagged" / "manifest.json").exists()
