"""Units as Beam transforms: list them, do them."""

import atexit
import gc
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.shared import Shared

from vlmixer.artifacts.manifest import Counts
from vlmixer.pipeline.beam.metrics import count, measure
from vlmixer.pipeline.units.doing import do_unit
from vlmixer.pipeline.units.failures import check_under_way, keeping_error
from vlmixer.pipeline.units.listing import Listed, each_unit
from vlmixer.pipeline.units.results import read_counts
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Content, Resource, Unit, Worker


class ListUnits(beam.PTransform):
    """PBegin → PCollection[Unit]: the units that `publish_units` wrote to file `name`, with contents of this type, or
    `Listed` for long ones."""

    def __init__(self, stage: AnyStage, name: str, content: type) -> None:
        super().__init__()
        self._stage = stage
        self._name = name
        self._content = content

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection:
        return (
            begin
            | "Begin" >> beam.Impulse()
            | "ReadUnits" >> beam.FlatMap(_read_units, self._stage, self._name, self._content).with_output_types(Unit)
        )


@no_annotations  # Beam would take the type variables for types of elements.
def _read_units(
    _: bytes, stage: AnyStage, name: str, content: type[Content]
) -> Iterator[Unit[Content | Listed[Content]]]:
    check_under_way(stage)
    return each_unit(stage, name, content)


class DoUnits(beam.PTransform):
    """PCollection[Unit] → PCollection[str], the names of the units done; their results are on disk.

    A unit that fails is not among them; its error is kept in the work folder. hints: Beam's resource hints for the step
    that does the work, and only for it.
    """

    def __init__(
        self, stage: AnyStage, worker: Worker[Content, Resource], hints: Mapping[str, str] | None = None
    ) -> None:
        super().__init__()
        self._stage = stage
        self._worker = worker
        self._hints = dict(hints or {})

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        do = beam.ParDo(_DoUnit(self._stage, self._worker)).with_output_types(str)
        return (
            units
            | "SpreadUnits" >> beam.Reshuffle()
            | "DoUnit" >> (do.with_resource_hints(**self._hints) if self._hints else do)
        )


class _DoUnit(beam.DoFn):
    def __init__(self, stage: AnyStage, worker: Worker[Any, Any]) -> None:
        self._stage = stage
        self._worker = worker
        self._shared = Shared()
        self._resource: Any = None
        self._folder = os.getcwd()

    def setup(self) -> None:
        # So that relative paths of the config mean the same as here, if the worker has such a folder.
        if os.path.isdir(self._folder):
            os.chdir(self._folder)

    @no_annotations
    def process(self, unit: Unit[Any]) -> Iterator[str]:
        began = time.monotonic()
        result = None
        with keeping_error(self._stage, unit.name) as attempt:
            result = do_unit(self._stage, self._worker, unit, self._load)
        if attempt.done:
            # An attempt that the engine gave up may have left the result, but its counters are lost.
            counts = read_counts(self._stage, [unit.name])[0] if result is None else result.counts
            _count(self._stage.name, counts, time.monotonic() - began)
            yield unit.name

    def _load(self) -> Any:
        """The worker's resource, loaded once per process."""
        if self._resource is None:
            self._resource = self._shared.acquire(lambda: _Loaded(self._worker.load()))
            # What is loaded stays. Without this, the collector's searches through it took a tenth of tagging's time.
            gc.collect()
            gc.freeze()
            atexit.register(gc.unfreeze)  # or libraries complain at the end about objects that are left
        return self._resource.value


def _count(stage: str, counts: Mapping[str, Counts], seconds: float) -> None:
    """Let the engine's pages show what a unit did."""
    for kind, entry in counts.items():
        count(stage, kind, entry.written)
        measure(stage, f"{kind}_per_unit", entry.read)
        for reason, number in entry.rejected.items():
            count(stage, reason, number)
    measure(stage, "milliseconds_per_unit", round(1000 * seconds))


class _Loaded:
    """Shared holds weak references, which not every resource allows."""

    def __init__(self, value: Any) -> None:
        self.value = value
