"""`--timings`: wall-clock and processor time of each step of a command, and what a plan had said of it."""

import json
import logging
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from vlmixer.pipeline.jobs.worker_server import WorkerServer
from vlmixer.pipeline.planning.estimate import TRAIN
from vlmixer.pipeline.units.timing import read_times

LOG = logging.getLogger("vlmixer")

START, SERVER = "start", "imports for workers"


@dataclass(frozen=True)
class Step:
    """Seconds by the clock, and processor seconds of all processes."""

    name: str
    wall: float
    cpu: float


@dataclass(frozen=True)
class Planned:
    """What a plan said of a stage: seconds by the clock, and processor seconds; None for training, which it times by
    the clock alone."""

    wall: float
    cpu: float | None


def plan_apart(arguments: Sequence[str], workers: int) -> dict[str, Planned]:
    """By stage, what `vlmixer plan` with these arguments says. {} and a message if it fails.

    It runs in a process of its own, so that it imports and loads nothing for the command that is to be measured.
    """
    LOG.info("plan: measuring a sample")
    line = [sys.executable, "-P", "-m", "vlmixer", "plan", *arguments, "--json", "--workers", str(workers)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        LOG.warning("plan: there is none to compare with: %s", why)
        return {}
    stages = json.loads(done.stdout)["stages"]
    return {
        each["stage"]: Planned(
            each["seconds"][str(workers)],
            None if each["stage"] == TRAIN else each["processor_seconds"][str(workers)],
        )
        for each in stages
    }


class Timings:
    """What the steps of a command take. began: `time.monotonic()` at its start. out: its output folder, whose logs have
    the times of units."""

    def __init__(self, began: float, server: WorkerServer | None, out: str) -> None:
        self._server, self._out = server, out
        self._before = _work_by_stage(out)
        self._left_out = 0.0
        self._steps = [Step(START, time.monotonic() - began, self._cpu())]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block, in which no other step is measured."""
        wall, cpu = time.monotonic(), self._cpu()
        yield
        self._steps.append(Step(name, time.monotonic() - wall, self._cpu() - cpu))

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Measure nothing in the block: neither its time nor that of processes that start and end in it."""
        before = _used(resource.RUSAGE_CHILDREN)
        yield
        self._left_out += _used(resource.RUSAGE_CHILDREN) - before

    def to_table(self, planned: Mapping[str, Planned] | None = None) -> str:
        """A table of the steps. planned: see `plan_apart`; for none, the columns are missing."""
        works = {stage: work - self._before.get(stage, 0.0) for stage, work in _work_by_stage(self._out).items()}
        server = [Step(SERVER, 0.0, self._server.own_seconds)] if self._server else []
        steps = [*self._steps, *server]
        total = Step("all", sum(step.wall for step in steps), sum(step.cpu for step in steps))
        rows = [["", "seconds", "planned", "processor", "planned", "of it work on units"]]
        for step in (*steps, total):
            said = (planned or {}).get(step.name)
            wall = None if step.name == SERVER else step.wall
            numbers = (wall, said and said.wall, step.cpu, said and said.cpu, works.get(step.name))
            rows.append([step.name, *(f"{number:.1f}" if number is not None else "" for number in numbers)])
        if not planned:
            rows = [[row[0], row[1], row[3], row[5]] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows
        )

    def _cpu(self) -> float:
        workers = self._server.worked if self._server else 0.0
        return _used(resource.RUSAGE_SELF) + _used(resource.RUSAGE_CHILDREN) + workers - self._left_out


def _work_by_stage(out: str) -> dict[str, float]:
    """Processor seconds of the units that are recorded in the folder."""
    works: dict[str, float] = {}
    for unit in read_times(out):
        works[unit.stage] = works.get(unit.stage, 0.0) + unit.cpu
    return works


def _used(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime
