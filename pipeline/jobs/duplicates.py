"""The search for images that repeat an earlier one, between the survey and detection. pipeline/image/duplicates.py has
its logic."""

from collections.abc import Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.pipeline.image.duplicates import LAYOUT, DuplicateFiles, Layout
from vlmixer.pipeline.image.survey import DUPLICATES, SPREAD
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult


class FindDuplicates(beam.PTransform):
    """PCollection[Unit[int]], the groups of the survey's parts (`group_units`) → PCollection[str], the units done."""

    def __init__(self, stage: Stage[RegionsDetails]) -> None:
        super().__init__()
        self._stage = stage

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        stage = self._stage
        return (
            groups
            | "SpreadDigests" >> DoUnits(stage, SpreadWorker(stage))
            | "CountGroups" >> beam.combiners.Count.Globally()
            | "ListShares" >> beam.FlatMap(_share_units, stage)
            | "CompareDigests" >> DoUnits(stage, CompareWorker(stage))
        )


def group_units(layout: Layout) -> list[Unit[int]]:
    """One unit per group of parts; contents: its number."""
    return [Unit(SPREAD.name(number), number) for number in range(len(layout.groups))]


def share_units(layout: Layout) -> list[Unit[int]]:
    """One unit per share of the digests; contents: its number."""
    return [Unit(DUPLICATES.name(number), number) for number in range(layout.shares)]


def compared(stage: Stage[RegionsDetails]) -> bool:
    """Whether all duplicates are found."""
    if not files.has_file(files.join(stage.work, LAYOUT)):
        return False
    layout = DuplicateFiles(stage.work).layout
    return not pending(stage, [*group_units(layout), *share_units(layout)])


@no_annotations
def _share_units(groups: int, stage: Stage[RegionsDetails]) -> Sequence[Unit[int]]:
    """Units of shares, once all digests are spread over them. None if a unit failed before."""
    if not groups or any_failed(stage):
        return []
    layout = DuplicateFiles(stage.work).layout
    return share_units(layout) if groups == len(layout.groups) else []


@dataclass(frozen=True)
class SpreadWorker:
    """Writes the digests of a group of parts by share. Unit content: the group."""

    stage: Stage[RegionsDetails]

    def load(self) -> DuplicateFiles:
        return DuplicateFiles(self.stage.work)

    def run(self, unit: Unit[int], resource: DuplicateFiles) -> UnitResult[None]:
        resource.spread(unit.content)
        return UnitResult(None)


@dataclass(frozen=True)
class CompareWorker:
    """Finds the duplicates of a share. Unit content: the share."""

    stage: Stage[RegionsDetails]

    def load(self) -> DuplicateFiles:
        return DuplicateFiles(self.stage.work)

    def run(self, unit: Unit[int], resource: DuplicateFiles) -> UnitResult[None]:
        resource.compare(unit.content)
        return UnitResult(None)
