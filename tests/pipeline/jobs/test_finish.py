"""The last unit of a stage: after all others, once, and not if one of them failed."""

from dataclasses import dataclass
from functools import partial

import apache_beam as beam
import pytest

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Manifest, output_of
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish, unfinished
from vlmixer.pipeline.units.finishing import completed, finish_stage, publish_known, with_results
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import AnyStage, Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

UNITS = [Unit(f"unit-{number}", number) for number in range(4)]


@dataclass(frozen=True)
class Writes:
    """Writes its number to a file of the work folder; fails for `broken`."""

    stage: AnyStage
    broken: int

    def load(self) -> None:
        return None

    def run(self, unit: Unit[int], resource: None) -> UnitResult[None]:
        if unit.content == self.broken:
            raise UserError(f"{unit.name}: broken")
        files.publish_bytes(files.join(self.stage.work, f"{unit.name}.txt"), str(unit.content).encode())
        return UnitResult(None, {"numbers": Counts(1, 1)})


def join(stage: AnyStage, units: int, known: Manifest) -> Manifest:
    """Write the numbers to one file of the stage's folder."""
    found = [files.read_bytes(files.join(stage.work, f"unit-{number}.txt")) for number in range(units)]
    files.publish_bytes(files.join(stage.folder, "all.txt"), b"".join(found))
    results = read_results(stage, [unit.name for unit in UNITS], type(None))
    return with_results(known, results, [output_of(stage.folder, "all.txt", units)])


def run(stage: Stage[TaggedDetails], *, broken: int = -1) -> None:
    left = pending(stage, UNITS)
    finish = Finish(stage, partial(join, stage, len(UNITS)), len(left))

    def build(units: beam.PCollection) -> None:
        _ = units | DoUnits(stage, Writes(stage, broken)) | finish

    Engine(1).run(stage, left, int, build, label="tag")


@pytest.fixture
def stage(tmp_path) -> Stage[TaggedDetails]:
    stage, plan = Stage(TAG, str(tmp_path)), Plan({}, [], {})
    begin_stage(stage, plan, overwrite=False)
    publish_known(stage, plan, TaggedDetails("rules", "coco", "-", {}, {}, {}, 0))
    return stage


def test_it_writes_what_all_units_left(stage):
    assert unfinished(stage)
    run(stage)
    assert not unfinished(stage)
    assert files.read_bytes(files.join(stage.folder, "all.txt")) == b"0123"
    assert not files.exists(files.join(stage.folder, manifest.NAME))  # until all is checked
    found = completed(stage)
    assert found.counts == {"numbers": Counts(4, 4)}
    assert finish_stage(stage, max_bad_fraction=0.0) == found
    published = manifest.read(stage.folder, TAG)
    assert published.content_hash == found.content_hash
    (output,) = published.outputs
    assert (output.name, output.rows, output.bytes) == ("all.txt", 4, 4)


def test_it_waits_until_a_unit_that_failed_is_done(stage):
    with pytest.raises(UserError, match="unit-2: broken"):
        run(stage, broken=2)
    assert unfinished(stage)
    assert not files.exists(files.join(stage.folder, "all.txt"))
    run(stage)  # only unit 2 is left
    assert files.read_bytes(files.join(stage.folder, "all.txt")) == b"0123"


def test_it_is_all_that_is_left_after_a_kill_behind_the_other_units(stage):
    run(stage)
    files.remove(stage.stats("finish-00000"))
    assert pending(stage, UNITS) == []
    run(stage)
    assert not unfinished(stage)
