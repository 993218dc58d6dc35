"""Timing of calls that take turns, and ratios of them. What a command and its processes hold is in watching.py."""

import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Taken:
    """Seconds of wall-clock time, and of CPU time of this process and its finished children, over all threads."""

    wall: float
    cpu: float

    def __sub__(self, other: "Taken") -> "Taken":
        return Taken(self.wall - other.wall, self.cpu - other.cpu)

    def __mul__(self, factor: float) -> "Taken":
        return Taken(self.wall * factor, self.cpu * factor)


def clocks() -> Taken:
    """Both clocks now."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return Taken(time.monotonic(), sum(entry.ru_utime + entry.ru_stime for entry in used))


def timed(do: Callable[[], object]) -> Taken:
    """What a call takes."""
    before = clocks()
    do()
    return clocks() - before


def in_turn(rounds: int, calls: Mapping[str, Callable[[], object]]) -> dict[str, list[Taken]]:
    """What each call takes in each round; one round runs all of them once."""
    taken: dict[str, list[Taken]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(timed(call))
    return taken


def median(taken: Sequence[Taken]) -> Taken:
    """The medians of wall-clock and CPU time."""
    return Taken(statistics.median(one.wall for one in taken), statistics.median(one.cpu for one in taken))


def spread(values: Sequence[float]) -> str:
    """Median and range of a ratio: "1.82 (1.66 to 1.98)"."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
