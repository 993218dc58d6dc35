"""Numbers on a bank: what there is of each concept, how pure and varied it is, what the text wants."""

import numpy as np
import pytest
from tests.bank.small import DIM, Given, small_bank

from vlmixer.bank.quality import bank_quality
from vlmixer.bank.stats import bank_stats

RNG = np.random.default_rng(0)


def around(name, centre, count, spread=0.05):
    return [Given(f"{name}{row}-0", 0.9 - 0.01 * row, centre + RNG.normal(0, spread, DIM)) for row in range(count)]


@pytest.fixture
def bank(tmp_path):
    axes = np.eye(DIM)
    return small_bank(
        str(tmp_path),
        {
            "dog": around("dog", axes[0], 20),
            "cat": around("cat", axes[1], 12),
            "wolf": around("wolf", axes[0], 12),
            "varied": around("varied", 0 * axes[0], 20, spread=1.0),
            "single": around("single", axes[5], 1),
            "none": [],
        },
    )


def test_a_concept_apart_is_pure_and_one_that_looks_like_another_is_not(bank):
    quality = bank_quality(bank)
    found = {entry.concept: entry for entry in quality.concepts}
    assert set(found) == {"dog", "cat", "wolf", "varied", "single"}
    cat, wolf = found["cat"].impurity, found["wolf"].impurity
    assert cat is not None
    assert wolf is not None
    assert cat < 0.1
    assert wolf > 0.4
    assert found["wolf"].mistaken_for == "dog"
    assert (found["single"].impurity, found["single"].mistaken_for) == (None, None)
    shares = [entry.impurity or 0 for entry in quality.concepts]
    assert shares == sorted(shares, reverse=True)
    assert quality.impurity == pytest.approx(np.mean([e.impurity for e in quality.concepts if e.impurity is not None]))


def test_variety_is_the_mean_distance_of_two_patches(bank):
    found = {entry.concept: entry for entry in bank_quality(bank).concepts}
    assert found["varied"].variety > 0.7 > 0.1 > found["dog"].variety
    unit = bank.features(bank.patches("cat").patch_ids).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = (unit @ unit.T)[np.triu_indices(12, 1)]
    assert found["cat"].variety == pytest.approx(1 - pairs.mean(), abs=1e-3)
    assert found["single"].variety == 0


def test_quality_tells_what_was_left_out_and_is_the_same_twice(bank):
    quality = bank_quality(bank)
    dogs = next(entry for entry in quality.concepts if entry.concept == "dog")
    assert (dogs.patches, dogs.candidates, dogs.near_duplicates) == (20, 60, 10)
    assert quality == bank_quality(bank)
    table = quality.to_table().splitlines()
    assert len(table) == 2 + 5
    assert quality.to_json()["concepts"][0]["concept"] == quality.concepts[0].concept


def test_the_quality_of_an_empty_bank(tmp_path):
    assert bank_quality(small_bank(str(tmp_path), {"dog": []})).concepts == ()


def test_stats(bank):
    stats = bank_stats(bank)
    dogs = next(entry for entry in stats.concepts if entry.concept == "dog")
    scores = 0.9 - 0.01 * np.arange(20)
    assert dogs.scores == pytest.approx(np.quantile(scores, (0.1, 0.5, 0.9)))
    assert dogs.sizes == pytest.approx([np.sqrt(40 * 20)] * 3)
    assert (dogs.mentions, stats.wanted) == (None, None)
    assert (stats.patches, len(stats.concepts)) == (65, 6)
    assert stats.concepts[-1].scores is None
    assert "without patches (1): none" in stats.to_table()


def test_what_the_text_wants_and_the_bank_lacks(bank):
    stats = bank_stats(bank, {"dog": 7, "none": 3, "unicorn": 11, "cat": 0})
    assert stats.wanted == {"unicorn": 11, "none": 3}
    mentions = {entry.concept: entry.mentions for entry in stats.concepts}
    assert (mentions["dog"], mentions["cat"], mentions["wolf"], mentions["none"]) == (7, 0, 0, 3)
    assert "mentioned in the text but without patches (2): unicorn (11), none (3)" in stats.to_table()
