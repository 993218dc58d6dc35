"""Plans of stages: what is refused, and what it says about the difference."""

import pytest
from tests.pipeline.finishing import finish

from vlmixer.artifacts import files
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import MIX
from vlmixer.pipeline.image.survey import SURVEY_UNITS
from vlmixer.pipeline.units.finishing import Finished
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage

PLAN = Plan({"views": 1, "detector": {"name": "a", "options": {"size": 1}}}, ["i"], {"v": "1"})
OTHER = Plan({"views": 2, "detector": {"name": "a", "options": {"size": 3}}}, ["i"], {"v": "1"})
SAID = r"setting detector\.options\.size \(was 1, is 3\); setting views \(was 1, is 2\) changed since"


@pytest.fixture
def stage(tmp_path):
    stage = Stage(MIX, str(tmp_path))
    assert begin_stage(stage, PLAN, overwrite=False) is None
    return stage


def test_a_stage_without_a_finished_unit_takes_the_new_plan(stage):
    assert begin_stage(stage, OTHER, overwrite=False) is None
    files.publish_bytes(stage.stats("mixed-00000"), b"{}")
    assert begin_stage(stage, OTHER, overwrite=False) is None
    with pytest.raises(UserError, match="setting views"):
        begin_stage(stage, PLAN, overwrite=False)


def test_units_that_prepare_do_not_count(stage):
    files.publish_bytes(stage.stats("survey-00000"), b"{}")
    assert begin_stage(stage, OTHER, overwrite=False, preparation=[SURVEY_UNITS]) is None
    assert not files.exists(stage.stats("survey-00000"))


def test_a_begun_stage_names_the_changed_keys(stage):
    files.publish_bytes(stage.stats("mixed-00000"), b"{}")
    with pytest.raises(UserError, match=SAID):
        begin_stage(stage, OTHER, overwrite=False)


def test_a_finished_stage_names_the_changed_keys(stage):
    details = ShardsDetails(1, (), "v", "h", "d", "b", {}, 0, {})
    finished = finish(stage, PLAN, details)
    found = begin_stage(stage, PLAN, overwrite=False)
    assert found is not None
    assert found.settings == PLAN.settings
    assert Finished.of(found) == finished
    with pytest.raises(UserError, match=SAID) as raised:
        begin_stage(stage, OTHER, overwrite=False)
    assert "input" not in str(raised.value)
    with pytest.raises(UserError, match="the input files or the results of an earlier stage changed"):
        begin_stage(stage, Plan(PLAN.settings, ["j"], {"v": "1"}), overwrite=False)
