"""`vlmixer run --extend`: takes added, changed and removed inputs into a finished result.

The new result has the bytes of a run over all inputs. What was found in photos that are unchanged is taken over; the
other stages are redone where something before them changed. It is made next to the old one (pipeline/replacing).
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

from vlmixer.artifacts import contents, dropped, files, manifest
from vlmixer.artifacts.details import AnyDetails
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, STAGES, TAG, StageType
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.jobs.chain import STEPS, StageRun, counts_line
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.replacing import next_result
from vlmixer.pipeline.units.changes import PlanChanged
from vlmixer.pipeline.units.finishing import Finished

LOG = logging.getLogger("vlmixer")
MADE_FROM = {TAG: (), DETECT: (), INDEX: (DETECT,), MIX: (TAG, DETECT, INDEX)}
"""The stages that each stage reads from."""


def extend(config: Config, engine: Engine, import_paths: Sequence[str]) -> tuple[StageType[AnyDetails], ...]:
    """Bring the result in `config.out` up to its inputs. Returns the stages that were redone; none if it was current.

    An interrupted extension continues. Raises UserError if more than the inputs changed, and what the stages raise.
    """
    vocabulary = load_vocabulary(config.vocabulary)
    here = StageRun(config, vocabulary, engine, False, tuple(import_paths))
    redone: list[StageType[AnyDetails]] = []
    for stage in STAGES:
        finished = None if any(other in redone for other in MADE_FROM[stage]) else _as_it_is(here, stage)
        if finished is None:
            if not redone:
                made = next_result.begin(config.out, {"command": "run --extend", "config": config.to_yaml()})
                dropped.publish(made, dropped.read(config.out))
            for other in MADE_FROM[stage]:
                if other not in redone:
                    next_result.take_stage(config.out, other)
            finished = _anew(here, stage)
            redone.append(stage)
        LOG.info("%s", counts_line(finished))
    if redone:
        for stage in STAGES:
            if stage not in redone:
                next_result.take_stage(config.out, stage)
        files.publish_bytes(files.join(made, contents.CONFIG), config.to_yaml().encode())
        next_result.publish(config.out)
    return tuple(redone)


def _as_it_is(here: StageRun, stage: StageType[AnyDetails]) -> Finished[AnyDetails] | None:
    """The stage where it is: finished before, or now if it was not. None if it was finished with other inputs."""
    try:
        return STEPS[stage.name](here)
    except PlanChanged as changed:
        if not changed.inputs_only or not files.has_file(_manifest(here.config.out, stage)):
            raise
        return None


def _anew(here: StageRun, stage: StageType[AnyDetails]) -> Finished[AnyDetails]:
    """The stage in the next result."""
    out = here.config.out
    earlier = out if files.has_file(_manifest(out, stage)) else ""
    there = replace(here, config=replace(here.config, out=next_result.folder_of(out)), earlier=earlier)
    try:
        return STEPS[stage.name](there)
    except PlanChanged:  # since an earlier extension, which was interrupted
        return STEPS[stage.name](replace(there, overwrite=True))


def _manifest(out: str, stage: StageType[AnyDetails]) -> str:
    return files.join(out, stage.folder, manifest.NAME)
