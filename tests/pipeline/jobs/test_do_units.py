"""Units as Beam's transforms see them: only what is done is reported as done."""

from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from tests.pipeline.engine_retries import retry_bundles

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

UNITS = [Unit(f"unit-{number}", number) for number in range(6)]


@dataclass(frozen=True)
class OddFails:
    """Fails for odd numbers."""

    def load(self) -> None:
        return None

    def run(self, unit: Unit[int], resource: None) -> UnitResult[None]:
        if unit.content % 2:
            raise UserError(f"{unit.name}: odd")
        return UnitResult(None)


def test_a_failing_unit_is_not_reported_as_done(tmp_path):
    stage = Stage(TAG, str(tmp_path))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)

    def build(units: beam.PCollection) -> None:
        done = units | DoUnits(stage, OddFails())
        assert_that(done, equal_to(["unit-0", "unit-2", "unit-4"]))

    with pytest.raises(UserError, match="unit-1: odd"):
        Engine(1).run(stage, UNITS, int, build, label="tag")
    assert [unit.name for unit in pending(stage, UNITS)] == ["unit-1", "unit-3", "unit-5"]


@dataclass(frozen=True)
class Counted:
    """Has counts."""

    def load(self) -> None:
        return None

    def run(self, unit: Unit[int], resource: None) -> UnitResult[None]:
        return UnitResult(None, {"sentences": Counts(unit.content + 3, unit.content, {"no_mention": 2, "too_long": 1})})


@dataclass(frozen=True)
class FailsOnce(Counted):
    """Fails in the first attempt at unit 3, after which the engine does the other units of its bundle again, too."""

    folder: str

    def run(self, unit: Unit[int], resource: None) -> UnitResult[None]:
        tried = Path(self.folder, "tried")
        if unit.content == 3 and not tried.exists():
            tried.touch()
            raise RuntimeError("the worker is gone")
        return super().run(unit, resource)


@pytest.mark.parametrize("fails", [False, True])
def test_counts_are_counters_and_distributions_of_the_engine(tmp_path, monkeypatch, fails):
    stage = Stage(TAG, str(tmp_path))
    begin_stage(stage, Plan({}, [], {}), overwrite=False)
    errors = retry_bundles(monkeypatch)
    pipeline = beam.Pipeline(runner=FnApiRunner())
    done = pipeline | beam.Create(UNITS) | DoUnits(stage, FailsOnce(str(tmp_path)) if fails else Counted())
    assert_that(done, equal_to([unit.name for unit in UNITS]))
    result = pipeline.run()
    result.wait_until_finish()
    assert len(errors) == fails
    found = result.metrics().query(MetricsFilter().with_namespace("vlmixer"))
    counters = {each.key.metric.name: each.committed for each in found["counters"]}
    assert counters == {"tag/sentences": 15, "tag/no_mention": 12, "tag/too_long": 6}
    distributions = {each.key.metric.name: each.committed for each in found["distributions"]}
    per_unit = distributions["tag/sentences_per_unit"]
    assert (per_unit.count, per_unit.sum, per_unit.min, per_unit.max) == (6, 33, 3, 8)
    assert distributions["tag/milliseconds_per_unit"].count == 6
