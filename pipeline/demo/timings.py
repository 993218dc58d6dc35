"""`vlmixer demo --timings`: wall-clock and processor time of each step, and how much of it was work on units."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vlmixer.pipeline.jobs.worker_server import WorkerServer
from vlmixer.pipeline.units.timing import read_times

IMPORTS, SERVER = "imports", "imports for workers"


@dataclass(frozen=True)
class Step:
    """Seconds by the clock, and processor seconds of all processes."""

    name: str
    wall: float
    cpu: float


class Timings:
    """What the steps of a command take. began: `time.monotonic()` at its start."""

    def __init__(self, began: float, server: WorkerServer | None) -> None:
        self._server = server
        self._steps = [Step(IMPORTS, time.monotonic() - began, self._cpu())]

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measure the block, in which no other step is measured."""
        wall, cpu = time.monotonic(), self._cpu()
        yield
        self._steps.append(Step(name, time.monotonic() - wall, self._cpu() - cpu))

    def to_table(self, out: str) -> str:
        """A table of the steps. out: the output folder, whose logs have the times of units."""
        works: dict[str, float] = {}
        for unit in read_times(out):
            works[unit.stage] = works.get(unit.stage, 0.0) + unit.cpu
        server = [Step(SERVER, 0.0, self._server.own_seconds)] if self._server else []
        steps = [*self._steps, *server]
        total = Step("all", sum(step.wall for step in steps), sum(step.cpu for step in steps))
        lines = [f"{'':<22}{'seconds':>10}{'processor':>11}{'of it work on units':>21}"]
        for step in (*steps, total):
            work = f"{works[step.name]:.1f}" if step.name in works else ""
            wall = "" if step.name == SERVER else f"{step.wall:.1f}"
            lines.append(f"{step.name:<22}{wall:>10}{step.cpu:>11.1f}{work:>21}".rstrip())
        return "\n".join(lines)

    def _cpu(self) -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        workers = self._server.worked if self._server else 0.0
        return sum(each.ru_utime + each.ru_stime for each in used) + workers
