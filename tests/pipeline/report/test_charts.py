"""Curves as points in SVG units: x from 0 to 320, y from 170 (value 0) up to 0."""

import pytest

from vlmixer.pipeline.report.charts import curve, smoothed


def test_points_fill_the_area_and_the_axis_begins_at_nothing() -> None:
    drawn = curve("loss", [10, 20, 30], [4.0, 2.0, 1.0])
    assert drawn.raw == drawn.smooth == "0.0,0.0 160.0,85.0 320.0,127.5"
    assert drawn.x_ticks == ((0.0, "10"), (320.0, "30"))
    assert drawn.y_ticks == ((170.0, "0"), (85.0, "2"), (0.0, "4"))
    assert (drawn.first, drawn.last) == (4.0, 1.0)


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0.2, "0.2"), (0.021, "0.03"), (0.95, "1"), (1.0, "1"), (6.1, "8"), (8.5, "10"), (1234.0, "2000"), (0.0, "1")],
)
def test_the_axis_ends_at_a_round_number(highest: float, top: str) -> None:
    assert curve("loss", [0, 1], [highest, 0.0]).y_ticks[-1] == (0.0, top)


def test_one_point_is_drawn() -> None:
    assert curve("loss", [500], [2.0]).raw == "0.0,0.0"


def test_first_and_last_are_means_of_a_tenth() -> None:
    drawn = curve("loss", range(20), [float(value) for value in range(20, 0, -1)])
    assert (drawn.first, drawn.last) == (19.5, 1.5)


def test_smoothing_takes_the_neighbours_there_are() -> None:
    assert smoothed([0.0, 3.0, 6.0, 0.0], 1) == [1.5, 3.0, 3.0, 3.0]
    assert smoothed([5.0, 1.0], 0) == [5.0, 1.0]
