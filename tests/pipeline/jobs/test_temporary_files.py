"""No temporary file stays: neither Beam's folders, one per pipeline, nor what a kill leaves in OUT."""

import os
import shutil
import tempfile

import apache_beam as beam
import pytest
from tests.pipeline.jobs import small_corpus

from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.plan import Plan, begin_stage
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def look(temporary):
    return sorted(name for name in os.listdir(temporary) if name.startswith("beam"))


def begun(folder):
    """A stage that is under way."""
    stage = Stage(TAG, str(folder))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    return stage


def run(stage, build):
    Engine(1).run(stage, [Unit("one", 1)], int, build, label="tag")


def test_nothing_is_there_while_a_pipeline_runs(temporary, tmp_path):
    """So that nothing is left where the process is killed."""
    seen = tmp_path / "seen"

    def work(number):
        seen.write_text(str(look(temporary)))
        return number

    run(begun(tmp_path), lambda units: units | beam.Map(work))
    assert seen.read_text() == "[]"
    assert look(temporary) == []


def test_nothing_is_left_by_failures(temporary, tmp_path):
    def fails(number):
        raise ValueError("no number is good")

    def cannot_be_built(units):
        raise KeyError("while it is built")

    stage = begun(tmp_path)
    with pytest.raises(ValueError, match="no number"):
        run(stage, lambda units: units | beam.Map(fails))
    with pytest.raises(KeyError):
        run(stage, cannot_be_built)
    assert look(temporary) == []


def test_what_a_kill_left_beside_the_stages_goes_with_the_next_run(small_run, tmp_path):
    out = shutil.copytree(small_run.folder / "out", tmp_path / "out")
    left = [out / f"{name}.tmp-0123456789abcdef" for name in ("config.yaml", "contents.json", "reports/mixing.html")]
    for path in left:
        path.write_text("half")
    kept = out / "notes.tmp-mine.txt"
    kept.write_text("mine")
    assert small_corpus.run(small_run.write_config(), out) == 0
    assert [path.exists() for path in [*left, kept]] == [False, False, False, True]
