"""The table of `vlmixer demo --timings`."""

import time

from vlmixer.pipeline.demo.timings import Timings
from vlmixer.pipeline.units.timing import UnitTime, record


def test_each_step_has_its_time_and_the_work_of_its_units(tmp_path):
    timings = Timings(time.monotonic() - 5, None)
    with timings.step("tag"):
        spin = time.process_time() + 0.06
        while time.process_time() < spin:
            pass
    with timings.step("train"):
        pass
    for cpu in (0.25, 0.5):
        record(str(tmp_path), UnitTime("tag", "part-0", 0.0, 1.0, cpu))
    head, *lines = timings.to_table(str(tmp_path)).splitlines()
    assert head.split() == ["seconds", "processor", "of", "it", "work", "on", "units"]
    rows = [line.split() for line in lines]
    assert [row[0] for row in rows] == ["imports", "tag", "train", "all"]
    assert float(rows[0][1]) >= 5
    assert float(rows[1][2]) >= 0.1  # 0.06 and more, rounded
    assert rows[1][3:] == ["0.8"]
    assert rows[2][1:] == ["0.0", "0.0"]
