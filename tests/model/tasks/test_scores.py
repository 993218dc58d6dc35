"""Scores with intervals over photos, by group, and against another run."""

import numpy as np
import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.model.tasks.scores import Measure, by_group, difference, estimate


def measure(values, photos=None, units=None, groups=()):
    names = [str(n) for n in range(len(values))]
    return Measure("accuracy", np.array(values, np.float64), units or names, photos or names, groups)


def test_the_interval_is_that_of_drawing_photos():
    values = [1.0, 0.0] * 200
    alone = estimate(measure(values))
    assert alone.value == 50
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * 50 / 20, rel=0.1)
    # Twenty questions of a photo that are right or wrong together are one observation.
    together = estimate(measure(sorted(values), [str(n // 20) for n in range(400)]))
    assert together.high - together.low == pytest.approx(2 * 1.96 * 50 / np.sqrt(20), rel=0.2)


def test_a_difference_is_paired_by_example_and_photo():
    one = measure([1, 1, 0, 1] * 50)
    other = measure([0, 1, 0, 1] * 50)
    found = difference(one, other)
    assert found.value == 25
    assert 0 < found.low < 25 < found.high < 40
    same = difference(one, one)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    order = np.random.default_rng(0).permutation(200)
    shuffled = Measure(
        "accuracy", other.values[order], [other.units[n] for n in order], [other.photos[n] for n in order]
    )
    assert difference(one, shuffled) == found
    with pytest.raises(CallError, match=r"different examples \(200 and 100, 100 in common\)"):
        difference(one, measure([0] * 100))


def test_groups_are_largest_first():
    groups = [{"type": "how many"}, {"type": "what"}, {"type": "what"}, {}]
    found = by_group(measure([1, 0, 1, 0], groups=groups))
    assert [(group.kind, group.name, group.units, group.value) for group in found] == [
        ("type", "what", 2, 50), ("type", "how many", 1, 100),
    ]  # fmt: skip


def test_a_score_that_is_no_mean_has_no_interval():
    bleu = Measure("BLEU-4", np.zeros(0), [], [], whole=0.25)
    assert estimate(bleu) == estimate(bleu)
    assert (estimate(bleu).low, estimate(bleu).value, estimate(bleu).high) == (25, 25, 25)


def test_no_examples_score_nothing():
    assert estimate(measure([])).value == 0
