"""Curves for a page, as the points of SVG polylines."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 320.0, 170.0
"""The drawing area of a curve, in SVG units. The labels are outside it."""


@dataclass(frozen=True)
class Curve:
    """A measured value over the steps. `raw` and `smooth` are "x,y x,y …"; ticks are (place on the axis, label)."""

    title: str
    raw: str
    smooth: str
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]
    first: float
    last: float


def curve(title: str, steps: Sequence[int], values: Sequence[float]) -> Curve:
    """The curve of `values` at `steps` (ascending; at least one of each). The vertical axis begins at 0.

    `first` and `last` are means over the first and the last tenth of the points.
    """
    top = _round_up(max(values)) or 1.0
    begin, end = steps[0], max(steps[-1], steps[0] + 1)

    def points(heights: Sequence[float]) -> str:
        return " ".join(
            f"{(step - begin) / (end - begin) * WIDTH:.1f},{HEIGHT - height / top * HEIGHT:.1f}"
            for step, height in zip(steps, heights, strict=True)
        )

    tenth = max(len(values) // 10, 1)
    return Curve(
        title=title,
        raw=points(values),
        smooth=points(smoothed(values, len(values) // 40)),
        x_ticks=((0.0, f"{begin:,}"), (WIDTH, f"{end:,}")),
        y_ticks=tuple((HEIGHT - share * HEIGHT, f"{share * top:g}") for share in (0.0, 0.5, 1.0)),
        first=sum(values[:tenth]) / tenth,
        last=sum(values[-tenth:]) / tenth,
    )


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """Each value's mean with its neighbours up to `reach` away; near the ends there are fewer."""
    means = []
    for index in range(len(values)):
        near = values[max(index - reach, 0) : index + reach + 1]
        means.append(sum(near) / len(near))
    return means


def _round_up(value: float) -> float:
    """The smallest of 1, 2, 3, 4, 5, 6, 8, 10 times a power of ten that is not below `value`; 0 for 0."""
    if value <= 0:
        return 0.0
    unit = 1.0
    while unit > value:
        unit /= 10
    while unit * 10 < value:
        unit *= 10
    return next(unit * factor for factor in (1, 2, 3, 4, 5, 6, 8, 10) if unit * factor >= value)
