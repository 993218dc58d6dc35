"""How a stage is cut into passes and units, as the stage itself states it.

A stage names its units by UnitKind, and says with StagePass how many there are for a corpus of a given size. The stage
plans by these, and pipeline/planning counts and times units by them, so that no name and no formula exists twice.
"""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class UnitKind:
    """Units of one kind of a stage. Their names are PREFIX-00000, PREFIX-00001 and so on."""

    stage: str
    prefix: str
    digits: int = 5

    def name(self, number: int) -> str:
        """Name of unit `number`."""
        return f"{self.prefix}-{number:0{self.digits}d}"

    def includes(self, name: str) -> bool:
        """Whether a unit of the stage, or a file of one, is of this kind."""
        return name.startswith(f"{self.prefix}-")


def finish_kind(stage: str) -> UnitKind:
    """The kind of a stage's last unit, the only one, which writes what is made from all others."""
    return UnitKind(stage, "finish")


@dataclass(frozen=True)
class UnitLoad:
    """How many units of a kind there are, and how many pieces (sentences, images, …) they process together."""

    kind: UnitKind
    units: int
    pieces: float


@dataclass(frozen=True)
class StagePass:
    """Units that run in parallel, after those of the pass before.

    new_job: whether the pass is a Beam job of its own. Otherwise it runs in the processes of the pass before.
    """

    name: str
    loads: tuple[UnitLoad, ...]
    new_job: bool = True

    @property
    def units(self) -> int:
        """Units of all kinds."""
        return sum(load.units for load in self.loads)


def finish_pass(stage: str, pieces: float) -> StagePass:
    """The pass of a stage's last unit."""
    return StagePass("finish", (UnitLoad(finish_kind(stage), 1, pieces),), new_job=False)


def count_units(amount: float, size: float) -> int:
    """How many units of at most `size` it takes for `amount`."""
    return math.ceil(amount / size) if amount > 0 else 0
