"""What long runs say while they run, also after a restart."""

import logging
import time

from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.units.progress import ProgressCount, progress
from vlmixer.pipeline.units.results import publish_result
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult


def counts(read, **rejected):
    return Counts(read, read - sum(rejected.values()), rejected)


def test_items_a_second_rejects_by_reason_and_time_left():
    tally = ProgressCount("images", units=10)
    assert tally.describe(3) == "0 images"
    tally.add([counts(64, no_region=3, duplicate=10)], fresh=True)
    tally.add([counts(36, no_region=2)], fresh=True)
    expected = "100 images, 5 images/s, 15 not used (10 duplicate, 5 no_region), about 80 s left"
    assert tally.describe(20) == expected


def test_what_was_done_before_a_restart_does_not_count_for_the_speed():
    tally = ProgressCount("images", units=10)
    for _ in range(8):
        tally.add([counts(64, no_region=1)], fresh=False)
    assert tally.describe(50) == "512 images, 8 not used (8 no_region)"
    tally.add([counts(64)], fresh=True)
    assert tally.describe(6000) == "576 images, 0.0107 images/s, 8 not used (8 no_region), about 1 h 40 min left"
    tally.add([counts(64)], fresh=True)
    assert tally.describe(600) == "640 images, 0.213 images/s, 8 not used (8 no_region)"


def test_lines_while_units_are_done_and_after_a_restart(tmp_path, caplog):
    stage = Stage(DETECT, str(tmp_path))
    for name in ("part-0", "survey-0"):
        publish_result(stage, Unit(name, None), UnitResult(None, {"images": counts(10, no_region=1)}))
    with (
        caplog.at_level(logging.INFO),
        progress(stage, "detect", ["part-0", "part-1", "part-2"], "images", seconds_per_line=0),
    ):
        publish_result(stage, Unit("part-1", None), UnitResult(None, {"images": counts(20, duplicate=2)}))
        time.sleep(0.8)
        publish_result(stage, Unit("part-2", None), UnitResult(None, {"images": counts(5)}))
    assert "detect: 1 of 3 units were done before" in caplog.text
    assert "detect: 2 of 3 units, 30 images, " in caplog.text
    assert " images/s, 3 not used (2 duplicate, 1 no_region), about " in caplog.text
    assert caplog.messages[-1].startswith("detect: 3 of 3 units, 35 images, ")
    assert caplog.messages[-1].endswith("3 not used (2 duplicate, 1 no_region)")
