"""Worker processes: where they come from; and how they die: at the start, amid a unit, with the parent."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.processes import WorkerProcess, last_words, local_runner
from vlmixer.pipeline.jobs.worker_server import WorkerServer, worker_server
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit

UNITS = [Unit(f"unit-{number}", number) for number in range(4)]


MODULE = """
import os
import signal
import sys
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


@dataclass(frozen=True)
class NotingWorker:
    # Notes which process did a unit, which one started that, and whether torch was imported before.
    folder: str

    def load(self):
        return "torch" in sys.modules

    def run(self, unit, resource):
        Path(self.folder, f"{unit.name}-{time.monotonic()}").write_text(f"{os.getpid()} {os.getppid()} {resource}")
        time.sleep(0.05)
        return UnitResult(None)


@dataclass(frozen=True)
class ParentKiller:
    # Kills the process that started its own.

    def load(self):
        return None

    def run(self, unit, resource):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
"""


@pytest.fixture
def workers(tmp_path, monkeypatch) -> Any:
    """The module above. It is found by worker processes, too."""
    (tmp_path / "own_workers.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delitem(sys.modules, "own_workers", raising=False)
    return importlib.import_module("own_workers")


@pytest.fixture
def killed_worker(tmp_path, workers) -> Callable[[int], object]:
    """Makes a worker that a signal kills."""
    return lambda number: workers.KilledWorker(str(tmp_path / "mark"), number)


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
    with (
        WorkerServer("vlmixer.no_such_module") as server,
        pytest.raises(UserError, match=r"ended with exit code 1: .*No module named vlmixer\.no_such_module"),
    ):
        run(stage, killed_worker(0), server=server)
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
    with (
        WorkerServer("dies") as server,
        pytest.raises(UserError, match=rf"a worker process \(pid {server.pid}\) ended with exit code 7\."),
    ):
        run(stage, worker, server=server)
    assert [each._process is not None for each in started] == [True, False]


def noted(folder: Path) -> list[tuple[int, int, str]]:
    """What NotingWorker wrote: process, the one that started it, whether torch was there."""
    texts = [path.read_text().split() for path in folder.glob("unit-*")]
    return [(int(process), int(parent), torch) for process, parent, torch in texts]


def test_the_workers_of_all_jobs_come_from_one_process_that_has_imported_what_they_need(stage, workers, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    with WorkerServer() as server:
        for folder in (first, second):
            folder.mkdir()
            run(stage, workers.NotingWorker(str(folder)), server=server)
            for unit in UNITS:  # to be done again
                Path(stage.work, f"{unit.name}.json").unlink()
            server.import_packages(["no_such_package", "torch"])
    assert {(parent, torch) for _, parent, torch in noted(first)} == {(server.pid, "False")}
    assert {(parent, torch) for _, parent, torch in noted(second)} == {(server.pid, "True")}
    assert len(noted(first)) == len(noted(second)) == len(UNITS)
    pids = [{process for process, _, _ in noted(folder)} for folder in (first, second)]
    assert not pids[0] & pids[1]
    assert not [pid for pid in (server.pid, *pids[0], *pids[1]) if Path(f"/proc/{pid}").exists()]


def test_workers_may_start_anew(stage, workers, tmp_path):
    # As on a Mac.
    with WorkerServer(warm=False) as server:
        server.import_packages(["torch"])
        run(stage, workers.NotingWorker(str(tmp_path)), server=server)
    assert {(parent, torch) for _, parent, torch in noted(tmp_path)} == {(server.pid, "False")}


def test_the_process_that_workers_come_from_is_killed(stage, workers):
    with (
        WorkerServer() as server,
        pytest.raises(UserError, match=rf"a worker process \(pid {server.pid}\) was killed \(SIGKILL\)") as raised,
    ):
        run(stage, workers.ParentKiller(), server=server)
    assert "\n" not in str(raised.value)


SERVER = """
import os, socket, sys, time
from vlmixer.pipeline.jobs.worker import serve


def begin():
    if os.environ["DO"] == "wait":
        print("waits", flush=True)
        time.sleep(60)
    print(os.getcwd(), sorted(os.environ), len(os.listdir("/proc/self/fd")), flush=True)
    sys.exit(int(os.environ["DO"]))


serve(socket.socket(fileno=int(sys.argv[2])), begin)
"""


@pytest.fixture
def small_server(tmp_path, monkeypatch) -> Iterator[WorkerServer]:
    """A server whose workers say something, and end as the variable DO says."""
    (tmp_path / "small_server.py").write_text(SERVER)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with WorkerServer("small_server") as server:
        yield server


def test_a_worker_gets_its_environment_and_folder_and_its_output_and_code_come_back(
    small_server, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    waiting = small_server.start({"DO": "wait"})
    assert waiting.output.readline() == "waits\n"
    done = [small_server.start({"DO": str(code), "MORE": "\udcff"}) for code in (0, 7)]
    said = [worker.output.read() for worker in done]
    # 4: the standard ones, and the listing itself.
    assert said == [f"{tmp_path} ['DO', 'MORE'] 4\n"] * 2
    ends = [worker.wait() for worker in done]
    assert [end and end.code for end in ends] == [0, 7]
    waiting.kill()
    end = waiting.wait()
    assert end is not None
    assert end.code == -signal.SIGKILL
    assert waiting.output.read() == ""


def test_workers_end_with_their_server(small_server):
    worker = small_server.start({"DO": "wait"})
    assert worker.output.readline() == "waits\n"
    small_server.close()
    assert worker.wait() is None
    assert worker.output.read() == ""


def test_one_worker_needs_no_process():
    assert local_runner(PipelineOptions([]), None)._default_environment is not None
    for how in ((1, ()), (2, ("--runner=FlinkRunner",))):
        with worker_server(*how) as server:
            assert server is None


def test_last_words():
    assert last_words(7, 1, ["Traceback", "ImportError: no libfoo."]) == (
        "a worker process (pid 7) ended with exit code 1: ImportError: no libfoo. Finished work is kept: rerun the "
        "command to resume."
    )
    assert "was killed (SIGKILL), by hand or by the system for lack of memory" in last_words(7, -9, ["Killed"])
    assert "ended with exit code 0. Finished" in last_words(7, 0, [])
