"""Finishes a stage that has no units, for tests of what comes before and after them."""

from vlmixer.artifacts.stages import Details
from vlmixer.pipeline.units.finishing import Finished, complete_manifest, finish_stage, finish_unit, publish_known
from vlmixer.pipeline.units.plan import Plan
from vlmixer.pipeline.units.results import publish_result
from vlmixer.pipeline.units.stage import Stage


def finish(stage: Stage[Details], plan: Plan, details: Details) -> Finished[Details]:
    """Publish a manifest with these details."""
    publish_known(stage, plan, details)
    publish_result(stage, finish_unit(stage), complete_manifest(stage, lambda known: known))
    return finish_stage(stage, max_bad_fraction=0.0)
