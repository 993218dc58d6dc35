"""The table of --timings."""

import time

import pytest

from vlmixer.pipeline.planning.timings import Planned, Timings, plan_apart
from vlmixer.pipeline.units.timing import UnitTime, record


def spin(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.fixture
def timings(tmp_path) -> Timings:
    """Those of a command that ran before in the same folder."""
    out = str(tmp_path)
    record(out, UnitTime("tag", "part-0", 0.0, 1.0, 7.0))
    made = Timings(time.monotonic() - 5, None, out)
    with made.step("tag"):
        spin(0.06)
    with made.step("train"):
        pass
    for cpu in (0.25, 0.5):
        record(out, UnitTime("tag", "part-1", 0.0, 1.0, cpu))
    return made


def test_each_step_has_its_time_and_the_work_of_its_units(timings):
    head, *lines = timings.to_table().splitlines()
    assert head.split() == ["seconds", "processor", "of", "it", "work", "on", "units"]
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == ["start", "tag", "train", "all"]
    assert float(rows[0][1]) >= 5
    assert float(rows[1][2]) >= 0.1  # 0.06 and more, rounded
    assert rows[1][3:] == ["0.8"]
    assert rows[2][1:] == ["0.0", "0.0"]


def test_what_was_planned_is_beside_it(timings):
    head, start, tag, train, _ = timings.to_table({"tag": Planned(12.34, 5.67)}).splitlines()
    assert head.split()[:4] == ["seconds", "planned", "processor", "planned"]
    assert [tag.split()[column] for column in (2, 4, 5)] == ["12.3", "5.7", "0.8"]
    assert len(start.split()) == len(train.split()) == 3


def test_a_plan_that_fails_is_none(tmp_path, caplog):
    assert plan_apart([str(tmp_path / "absent.yaml")], 2) == {}
    assert "plan: there is none to compare with: error: " in caplog.text
