"""Scores of tasks: means over examples, apart by group, with bootstrap intervals, and against another run.

The bootstrap draws photos, each with all that was asked about it, because questions on one photo do not fail
independently.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rng import generator
from vlmixer.model.scoring import CONFIDENCE, Estimate

RESAMPLES = 1000


@dataclass(frozen=True)
class Measure:
    """A score: the mean of `values`, (n,) float64, one per unit, or, if it is no mean, `whole` (as BLEU).

    `units`: (n,) the keys of the units, by which another run's are matched. `photos`: (n,) what is drawn together in
    the bootstrap. `groups`: of each unit, as in Example. `scale`: that of percent is 100.
    """

    name: str
    values: np.ndarray
    units: Sequence[str]
    photos: Sequence[str]
    groups: Sequence[Mapping[str, str]] = ()
    whole: float | None = None
    scale: float = 100.0

    @property
    def value(self) -> float:
        """The score."""
        found = self.whole if self.whole is not None else float(np.mean(self.values)) if len(self.values) else 0.0
        return found * self.scale


@dataclass(frozen=True)
class GroupOf:
    """The score of the units of one group: `kind` such as "question type", its `name`."""

    kind: str
    name: str
    units: int
    value: float


def estimate(measure: Measure, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The score with its 95 % interval; the interval is empty for a score that is no mean."""
    return _interval(measure.value, measure.values * measure.scale, measure, seed, resamples)


def difference(measure: Measure, other: Measure, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """`measure` minus that of another run, with its interval: both are taken on the same photos in each draw.

    Raises CallError if the two are not of the same units.
    """
    if sorted(measure.units) != sorted(other.units):
        common = len({*measure.units} & {*other.units})
        raise CallError(
            f"{measure.name}: the two runs were scored on different examples ({len(measure.units):,} and "
            f"{len(other.units):,}, {common:,} in common). Score both on the same files and photos."
        )
    place = {unit: row for row, unit in enumerate(other.units)}
    theirs = other.values[[place[unit] for unit in measure.units]] if len(other.values) else other.values
    return _interval(measure.value - other.value, (measure.values - theirs) * measure.scale, measure, seed, resamples)


def by_group(measure: Measure) -> list[GroupOf]:
    """The scores of the groups, kind by kind, the largest groups first."""
    found: list[GroupOf] = []
    for kind in dict.fromkeys(kind for groups in measure.groups for kind in groups):
        members: dict[str, list[float]] = {}
        for groups, value in zip(measure.groups, measure.values, strict=True):
            if kind in groups:
                members.setdefault(groups[kind], []).append(float(value))
        rows = [GroupOf(kind, name, len(m), float(np.mean(m)) * measure.scale) for name, m in members.items()]
        found += sorted(rows, key=lambda row: (-row.units, row.name))
    return found


def _interval(value: float, values: np.ndarray, measure: Measure, seed: int, resamples: int) -> Estimate:
    if not len(values) or measure.whole is not None:
        return Estimate(value, value, value)
    _, photo = np.unique(np.asarray(measure.photos), return_inverse=True)
    sums, counts = np.bincount(photo, values), np.bincount(photo)
    random = generator(seed, "bootstrap", measure.name)
    means = np.empty(resamples)
    for draw in range(resamples):
        chosen = random.integers(len(sums), size=len(sums))
        means[draw] = sums[chosen].sum() / counts[chosen].sum()
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, float(low), float(high))


def to_json(measure: Measure, found: Estimate) -> dict[str, Any]:
    """Plain data: the score, its interval, the number of units."""
    return {"name": measure.name, "units": len(measure.units), **vars(found)}
