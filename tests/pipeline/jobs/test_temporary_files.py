"""Beam makes a folder in the temporary folder for every pipeline; none of ours may stay, however a run ends."""

import os
import tempfile

import apache_beam as beam
import pytest

from pipeline.jobs.engine import Engine
from pipeline.jobs.work import Stage


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def look(temporary):
    return sorted(name for name in os.listdir(temporary) if name.startswith("beam"))


def test_nothing_is_there_while_a_pipeline_runs(temporary, tmp_path):
    """So that nothing is left where the process is killed."""
    seen = tmp_path / "seen"

    def work(number):
        seen.write_text(str(look(temporary)))
        return number

    Engine(1).run(Stage("tag", str(tmp_path)), lambda pipeline: pipeline | beam.Create([1]) | beam.Map(work), 1)
    assert seen.read_text() == "[]"
    assert look(temporary) == []


def test_nothing_is_left_by_failures(temporary, tmp_path):
    def fails(number):
        raise ValueError("no number is good")

    def cannot_be_built(pipeline):
        raise KeyError("while it is built")

    stage = Stage("tag", str(tmp_path))
    with pytest.raises(ValueError, match="no number"):
        Engine(1).run(stage, lambda pipeline: pipeline | beam.Create([1]) | beam.Map(fails), 1)
    with pytest.raises(KeyError):
        Engine(1).run(stage, cannot_be_built, 1)
    assert look(temporary) == []
