"""The plan of one stage: its passes, and the time that these take with a number of workers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

EFFICIENCY = 0.8
"""What each of several workers achieves, compared with a single one. With two workers, 0.84 was measured for tagging
and 0.76 for detection."""


@dataclass(frozen=True)
class PassPlan:
    """Equal units with `seconds` of work in all.

    A single worker is the launcher's own process: it needs `load` seconds before it can work. Several workers are
    processes of their own, copies of one that has imported what they need: they need `start` seconds, side by side.
    """

    name: str
    units: int
    seconds: float
    start: float = 0.0
    load: float = 0.0

    def begin(self, workers: int) -> float:
        """Seconds until work begins."""
        return self.start if self._used(workers) > 1 else self.load * (self.units > 0)

    def starts(self, workers: int) -> float:
        """Processor seconds until all workers can work."""
        return self.begin(workers) * self._used(workers)

    def work(self, workers: int, efficiency: float) -> float:
        """Seconds of work by the clock. One worker does a whole unit."""
        used = self._used(workers)
        return self.seconds * math.ceil(self.units / used) / self.units / efficiency if used > 1 else self.seconds

    def _used(self, workers: int) -> int:
        return min(workers, self.units)


@dataclass(frozen=True)
class StagePlan:
    """What a stage will take.

    launcher: seconds of the launcher's own work, which no worker shares. items: the number of inputs, by kind.
    memory: bytes of the largest process. done: the share of the units that is done already.
    """

    stage: str
    passes: tuple[PassPlan, ...]
    launcher: float
    items: Mapping[str, int]
    input_bytes: int
    output_bytes: int
    memory: int
    done: float = 0.0

    @property
    def units(self) -> int:
        """Units of all passes."""
        return sum(each.units for each in self.passes)

    @property
    def work(self) -> float:
        """Processor seconds that are left, without starts of processes."""
        return (self.launcher + sum(each.seconds for each in self.passes)) * (1 - self.done)

    def time(self, workers: int, efficiency: float = EFFICIENCY) -> float:
        """Seconds by the clock that are left."""
        if self.done >= 1:
            return 0.0
        work = self.launcher + sum(each.work(workers, efficiency) for each in self.passes)
        return work * (1 - self.done) + sum(each.begin(workers) for each in self.passes)

    def processor(self, workers: int) -> float:
        """Processor seconds that are left, with starts of processes."""
        return self.work + sum(each.starts(workers) for each in self.passes) if self.done < 1 else 0.0

    def cost(self, workers: int, price: float, efficiency: float = EFFICIENCY) -> float:
        """The cost of all workers while the stage runs. price: of one worker for one hour."""
        return workers * price * self.time(workers, efficiency) / 3600
