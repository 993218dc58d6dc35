"""Costs that grow linearly, and the line through measured points."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class LinearCost:
    """Seconds or bytes: `fixed`, and `each` for every piece."""

    fixed: float = 0.0
    each: float = 0.0

    def at(self, pieces: float) -> float:
        """The cost of this many pieces."""
        return self.fixed + self.each * pieces


def fit(points: Sequence[tuple[float, float]]) -> LinearCost:
    """The line through measured (pieces, cost) by least squares. Neither part of it is negative."""
    count = len(points)
    if not count:
        return LinearCost()
    mean_x, mean_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    each = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
    if each <= 0:
        return LinearCost(max(mean_y, 0.0), 0.0)
    if mean_y - each * mean_x < 0:  # then through the origin, by the same measure
        return LinearCost(0.0, sum(x * y for x, y in points) / sum(x * x for x, _ in points))
    return LinearCost(mean_y - each * mean_x, each)
