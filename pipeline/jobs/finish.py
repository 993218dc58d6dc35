"""The last unit of a stage: it writes what is made from all its units, and the manifest, so that the launcher need not.

On a cluster this runs on a worker, and a corpus of any size leaves the launcher as small as it was.
"""

from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.finishing import Complete, Finished, complete_manifest, finish_unit
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Unit, UnitResult


class Finish(beam.PTransform):
    """PCollection[str], the units done → PCollection[str], the last unit. after: how many units must be done before.

    Does nothing if one of them failed.
    """

    def __init__(self, stage: AnyStage, complete: Complete, after: int) -> None:
        super().__init__()
        self._stage, self._complete, self._after = stage, complete, after

    def expand(self, done: beam.PCollection) -> beam.PCollection:
        return (
            done
            | "CountUnits" >> beam.combiners.Count.Globally()
            | "ListLast" >> beam.FlatMap(_last_unit, self._stage, self._after)
            | "WriteLast" >> DoUnits(self._stage, FinishWorker(self._stage, self._complete))
        )


def unfinished(stage: AnyStage) -> bool:
    """Whether the unit is left."""
    return bool(pending(stage, [finish_unit(stage)]))


@no_annotations
def _last_unit(done: int, stage: AnyStage, after: int) -> list[Unit[None]]:
    return [finish_unit(stage)] if done >= after and not any_failed(stage) else []


@dataclass(frozen=True)
class FinishWorker:
    """Does the unit."""

    stage: AnyStage
    complete: Complete

    def load(self) -> None:
        return None

    def run(self, unit: Unit[None], resource: None) -> UnitResult[Finished[Any]]:
        return complete_manifest(self.stage, self.complete)
