"""The last unit of a stage: it writes what is made from all its units, so that the launcher need not.

On a cluster this runs on a worker, and a corpus of any size leaves the launcher as small as it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.passes import finish_kind
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.results import read_result
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Unit, UnitResult

Write = Callable[[], Sequence[Output]]
"""Writes files of the stage's folder, and returns their records. It is sent to a worker."""


class Finish(beam.PTransform):
    """PCollection[str], the units done → PCollection[str], the last unit. after: how many units must be done before.

    Does nothing if one of them failed.
    """

    def __init__(self, stage: AnyStage, write: Write, after: int) -> None:
        super().__init__()
        self._stage, self._write, self._after = stage, write, after

    def expand(self, done: beam.PCollection) -> beam.PCollection:
        return (
            done
            | "CountUnits" >> beam.combiners.Count.Globally()
            | "ListLast" >> beam.FlatMap(_last_unit, self._stage, self._after)
            | "WriteLast" >> DoUnits(self._stage, FinishWorker(self._write))
        )


def finish_unit(stage: AnyStage) -> Unit[None]:
    """The unit."""
    return Unit(finish_kind(stage.name).name(0), None)


def unfinished(stage: AnyStage) -> bool:
    """Whether the unit is left."""
    return bool(pending(stage, [finish_unit(stage)]))


def finished_outputs(stage: AnyStage) -> tuple[Output, ...]:
    """The files that the unit wrote."""
    return read_result(stage, finish_unit(stage).name, type(None)).outputs


@no_annotations
def _last_unit(done: int, stage: AnyStage, after: int) -> list[Unit[None]]:
    return [finish_unit(stage)] if done >= after and not any_failed(stage) else []


@dataclass(frozen=True)
class FinishWorker:
    """Does the unit."""

    write: Write

    def load(self) -> None:
        return None

    def run(self, unit: Unit[None], resource: None) -> UnitResult[None]:
        return UnitResult(None, outputs=tuple(self.write()))
