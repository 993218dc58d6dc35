"""Does one unit of work, in the process that received it."""

import time
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.pipeline.units.listing import Listed, with_content
from vlmixer.pipeline.units.results import publish_result
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.timing import UnitTime, clock, record
from vlmixer.pipeline.units.unit import Content, Resource, Unit, UnitResult, Worker


def do_unit(
    stage: AnyStage,
    worker: Worker[Content, Resource],
    unit: Unit[Content | Listed[Content]],
    load: Callable[[], Resource],
) -> UnitResult[Any] | None:
    """Do the unit and publish its result, unless it has one: a runner that retries may send a unit twice.

    Returns the result; None if it was there.

    load: gives the worker's resource, which a process loads once. Two processes may do the same unit at once: both
    publish the same bytes under the same names.
    """
    began, used = clock(), time.thread_time()
    resource = load()
    if files.has_file(stage.stats(unit.name)):
        return None
    loaded = clock()
    result = worker.run(with_content(stage, unit), resource)
    publish_result(stage, unit, result)
    pa.default_memory_pool().release_unused()  # or what one unit needed is held while the next one needs as much again
    # The clock takes away waiting, as the system reports it: a little too much for the shortest times.
    loading, seconds = max(loaded - began, 0.0), max(clock() - loaded, 0.0)
    record(stage.out, UnitTime(stage.name, unit.name, loading, seconds, time.thread_time() - used))
    return result
