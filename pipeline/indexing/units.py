"""How the stage `index` is cut into units: groups of parts of regions/, then concepts."""

from collections.abc import Sequence
from dataclasses import dataclass

from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.units.passes import StagePass, UnitKind, UnitLoad, count_units, finish_pass
from vlmixer.pipeline.units.unit import Unit

CUTS = "cuts"
"""Name of the only unit of its kind."""
PLACES = UnitKind("index", "places")
GATHER = UnitKind("index", "candidates")
CHOOSE = UnitKind("index", "concepts")


@dataclass(frozen=True)
class Group:
    """Consecutive parts of regions/: their names, and the number of the first part among all parts."""

    number: int
    first: int
    parts: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Name of the unit that gathers candidates in the group."""
        return GATHER.name(self.number)

    @property
    def places(self) -> str:
        """Name of the unit that lists places in the group."""
        return PLACES.name(self.number)


@dataclass(frozen=True)
class IndexSizes:
    """Sizes of the units."""

    regions_per_group: int = 4096
    """Parts are read in groups of about this many regions, or of more for a large corpus."""
    max_groups: int = 512
    """A concept's candidates are in at most this many files."""
    max_concept_units: int = 256

    def group_size(self, regions: float) -> int:
        """Regions of a group."""
        return max(self.regions_per_group, count_units(regions, self.max_groups))

    def plan_groups(self, parts: Sequence[Output]) -> list[Group]:
        """All parts that have regions, in groups."""
        parts = [part for part in parts if part.rows]
        size = self.group_size(sum(part.rows for part in parts))
        groups: list[Group] = []
        names: list[str] = []
        held = 0
        for number, part in enumerate(parts):
            names.append(part.name)
            held += part.rows
            if held >= size or number == len(parts) - 1:
                groups.append(Group(len(groups), number + 1 - len(names), tuple(names)))
                names, held = [], 0
        return groups

    def concepts_per_unit(self, concepts: int) -> int:
        """One, unless there are many concepts."""
        return max(count_units(concepts, self.max_concept_units), 1)

    def plan_concepts(self, numbers: Sequence[int]) -> list[Unit[tuple[int, ...]]]:
        """Units of concepts (ids)."""
        numbers = sorted(numbers, key=str)  # in the order of the digits: the names of the rejects' files depend on it
        size = self.concepts_per_unit(len(numbers))
        starts = range(0, len(numbers), size)
        return [Unit(CHOOSE.name(start // size), tuple(numbers[start : start + size])) for start in starts]

    def passes(self, regions: float, concepts: int, patches: float) -> tuple[StagePass, ...]:
        """The passes for this many regions of this many concepts, from which this many patches are chosen."""
        groups = count_units(regions, self.group_size(regions))
        units = count_units(concepts, self.concepts_per_unit(concepts))
        return (
            StagePass("gather", (UnitLoad(GATHER, groups, regions),)),
            StagePass("choose", (UnitLoad(CHOOSE, units, concepts),), new_job=False),
            finish_pass("index", patches),
        )


SIZES = IndexSizes()
