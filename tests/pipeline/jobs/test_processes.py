"""Worker processes that die: at their start, in the middle of a unit, and with their parent."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.processes import WorkerProcess, last_words, local_runner
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit

UNITS = [Unit(f"unit-{number}", number) for number in range(4)]


MODULE = """
import os
import time
from dataclasses import dataclass
from pathlib import Path

from vlmixer.pipeline.units.unit import UnitResult


@dataclass(frozen=True)
class KilledWorker:
    # Its process kills itself in the first unit, as the system does where memory is short, unless `mark` is there.
    mark: str
    signal: int

    def load(self):
        return None

    def run(self, unit, resource):
        if not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), self.signal)
        time.sleep(0.05)
        return UnitResult(None)
"""


@pytest.fixture
def killed_worker(tmp_path, monkeypatch) -> Callable[[int], object]:
    """Makes a worker that a signal kills. Its module is found by worker processes, too."""
    (tmp_path / "killed.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "killed", raising=False)
    return lambda number: importlib.import_module("killed").KilledWorker(str(tmp_path / "mark"), number)


@pytest.fixture
def stage(tmp_path) -> Stage:
    stage = Stage(TAG, str(tmp_path))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    return stage


def run(stage: Stage, worker: Any, **engine: Any) -> None:
    Engine(2, **engine).run(stage, UNITS, int, lambda units: units | DoUnits(stage, worker), label="tag")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_that_dies_in_the_middle_ends_the_run_and_the_next_one_finishes(stage, killed_worker, number):
    worker = killed_worker(number)
    began = time.monotonic()
    with pytest.raises(UserError, match=rf"a worker process \(pid \d+\) was killed \({number.name}\)") as raised:
        run(stage, worker)
    assert time.monotonic() - began < 60
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("Finished work is kept: rerun the command to resume.")
    assert pending(stage, UNITS)
    run(stage, worker)
    assert pending(stage, UNITS) == []


def test_a_worker_that_dies_at_its_start_ends_the_run_with_its_last_words(stage, killed_worker):
    # As where a library is missing: the module cannot be imported.
    began = time.monotonic()
    with pytest.raises(UserError, match=r"ended with exit code 1: .*No module named vlmixer\.no_such_module"):
        run(stage, killed_worker(0), worker_module="vlmixer.no_such_module")
    assert time.monotonic() - began < 60


def test_a_worker_that_dies_before_the_next_one_has_started_ends_the_run(stage, killed_worker, tmp_path, monkeypatch):
    worker, began = killed_worker(0), tmp_path / "began"
    (tmp_path / "dies.py").write_text(
        f"import os, sys, time\nwhile not os.path.exists({str(began)!r}): time.sleep(0.01)\nsys.exit(7)\n"
    )
    start = WorkerProcess.start_worker
    started: list[WorkerProcess] = []

    def start_late(self: WorkerProcess) -> None:
        if started:  # the second: it is known to the first, and has no process yet
            began.touch()
            assert self._failed.wait(60), "the death of the first has not reached the second"
        started.append(self)
        start(self)

    monkeypatch.setattr(WorkerProcess, "start_worker", start_late)
    with pytest.raises(UserError, match=r"a worker process \(pid \d+\) ended with exit code 7\."):
        run(stage, worker, worker_module="dies")
    assert [each._process is not None for each in started] == [True, False]


def test_one_worker_needs_no_process():
    assert local_runner(PipelineOptions([]), 1, "unused")._default_environment is not None


def test_last_words():
    assert last_words(7, 1, ["Traceback", "ImportError: no libfoo."]) == (
        "a worker process (pid 7) ended with exit code 1: ImportError: no libfoo. Finished work is kept: rerun the "
        "command to resume."
    )
    assert "was killed (SIGKILL), by hand or by the system for lack of memory" in last_words(7, -9, ["Killed"])
    assert "ended with exit code 0. Finished" in last_words(7, 0, [])
