"""One unit: done by two at once, done again, failing."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import CallError, UserError, WriteError
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.units import doing
from vlmixer.pipeline.units.doing import do_unit
from vlmixer.pipeline.units.failures import any_failed, keeping_error, raise_error
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.results import read_result
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.timing import read_times
from vlmixer.pipeline.units.unit import Unit, UnitResult

UNIT = Unit("part-00000", "some words")


@dataclass
class WriteWorker:
    """Writes the unit's content to a file; before it publishes, it waits at the barrier."""

    stage: Stage
    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(1))
    runs: int = 0

    def load(self) -> str:
        return "!"

    def run(self, unit: Unit[str], resource: str) -> UnitResult[None]:
        self.runs += 1
        with files.publishing(files.join(self.stage.folder, unit.name)) as file:
            file.write((unit.content + resource).encode())
            self.barrier.wait(timeout=30)
        output = manifest.output_of(self.stage.folder, unit.name, 1)
        return UnitResult(None, {"sentences": Counts(1, 1)}, outputs=(output,))


@pytest.fixture
def stage(tmp_path):
    stage = Stage(TAG, str(tmp_path))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    return stage


def test_two_workers_on_one_unit_both_finish_with_one_result(stage):
    worker = WriteWorker(stage, threading.Barrier(2))
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(do_unit, stage, worker, UNIT, worker.load) for _ in range(2)]
        first, second = (each.result() for each in both)
    assert first is not None
    assert first == second
    assert do_unit(stage, worker, UNIT, worker.load) is None  # it has its result
    assert worker.runs == 2
    assert files.list_files(stage.folder) == [UNIT.name]
    assert files.read_bytes(files.join(stage.folder, UNIT.name)) == b"some words!"
    assert files.list_files(stage.work) == [f"{UNIT.name}.json", "plan.json"]
    (output,) = read_result(stage, UNIT.name, type(None)).outputs
    assert output == manifest.output_of(stage.folder, UNIT.name, 1)
    assert pending(stage, [UNIT]) == []


def test_a_unit_with_a_result_is_not_done_again(stage):
    worker = WriteWorker(stage)
    for _ in range(2):
        do_unit(stage, worker, UNIT, worker.load)
    assert worker.runs == 1


@pytest.mark.parametrize("kind", [UserError, CallError])
def test_a_failing_unit_is_not_done_and_its_error_is_raised_later(stage, kind):
    with keeping_error(stage, UNIT.name) as attempt:
        raise kind("the file is gone")
    assert not attempt.done
    assert any_failed(stage)
    with pytest.raises(kind, match="the file is gone"):
        raise_error(stage)


def test_too_little_memory_is_the_unit_s_error(stage):
    with keeping_error(stage, UNIT.name):
        raise MemoryError("Unable to allocate 9 GiB")
    with pytest.raises(UserError, match=r"^out of memory \(Unable to allocate 9 GiB\)\. Give the process more"):
        raise_error(stage)


def test_where_nothing_can_be_written_no_other_unit_is_tried(stage):
    with pytest.raises(WriteError), keeping_error(stage, UNIT.name):
        raise WriteError("the disk is full")
    files.remove(stage.plan)
    with pytest.raises(WriteError, match="another run has replaced this one"), keeping_error(stage, UNIT.name):
        pass


def test_a_unit_that_ends_well_is_done(stage):
    with keeping_error(stage, UNIT.name) as attempt:
        pass
    assert attempt.done
    assert not any_failed(stage)


def test_no_time_is_below_zero(stage, monkeypatch):
    """The clock may run back a little where the processor is shared."""
    ticks = iter([5.0, 4.99, 4.98])
    monkeypatch.setattr(doing, "clock", lambda: next(ticks))
    worker = WriteWorker(stage, threading.Barrier(1))
    do_unit(stage, worker, UNIT, worker.load)
    (found,) = read_times(stage.out)
    assert (found.load, found.seconds) == (0.0, 0.0)
    assert found.cpu > 0
