"""The table of stages, and the tables by stage of other packages: none of them may lack a stage."""

from vlmixer.artifacts import stages
from vlmixer.pipeline.commands.run import WHAT_STAGES_DO
from vlmixer.pipeline.jobs.chain import STEPS
from vlmixer.pipeline.verification.verify import CHECKERS


def test_every_table_by_stage_has_every_stage():
    for table in (STEPS, WHAT_STAGES_DO):
        assert tuple(table) == stages.NAMES
    assert tuple(CHECKERS) == tuple(stage.name for stage in (*stages.WITH_MANIFEST, stages.FINETUNE))


def test_names_and_folders_are_unique():
    assert len(set(stages.NAMES)) == len(set(stages.FOLDERS)) == len(stages.STAGES)


def test_a_stage_is_found_by_its_name():
    assert [stages.find(name) for name in stages.NAMES] == list(stages.STAGES)
    assert stages.find("bake") is None
