"""The last pass of a stage: its units, of which a share may be done alone, and the unit that finishes it."""

from collections.abc import Sequence
from typing import NoReturn

import apache_beam as beam

from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish, unfinished
from vlmixer.pipeline.units.finishing import Complete
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.share import ShareDone
from vlmixer.pipeline.units.stage import AnyStage
from vlmixer.pipeline.units.unit import Content, Unit


def do_last_pass(
    stage: AnyStage,
    engine: Engine,
    units: Sequence[Unit[Content]],
    content: type[Content],
    transform: beam.PTransform,
    complete: Complete,
    *,
    items: str,
) -> None:
    """Do the units that are left, and the unit that finishes the stage.

    transform: PCollection[Unit[Content]] → PCollection[str], the units done. complete: see Finish. items: what units
    count, such as "images". Raises ShareDone if the engine does only a share: then its units are done.
    """
    if engine.share is not None:
        do_share(stage, engine, units, content, transform, items=items)
    left = pending(stage, units)
    with progress(stage, stage.name, [unit.name for unit in units], items):
        if left or unfinished(stage):
            finish = Finish(stage, complete, len(left))
            engine.run(
                stage, left, content, lambda units: units | transform | "Finish" >> finish, label=stage.name
            )  # fmt: skip


def do_share(
    stage: AnyStage,
    engine: Engine,
    units: Sequence[Unit[Content]],
    content: type[Content],
    transform: beam.PTransform,
    *,
    items: str,
) -> NoReturn:
    """Do those of the units that are the engine's share and are left; the rest as `do_last_pass`. Raises ShareDone."""
    assert engine.share is not None
    mine = engine.share.take(units)
    names = [unit.name for unit in mine]
    left = pending(stage, mine)
    with progress(stage, f"{stage.name} {engine.share}", names, items):
        if left:
            engine.run(stage, left, content, lambda units: units | transform, label=stage.name, among=frozenset(names))
    raise ShareDone(
        f"{stage.name}: {len(mine)} of {len(units)} units, share {engine.share}, are done. When all shares are, run "
        "the command without --only-units: it finishes the stage."
    )
