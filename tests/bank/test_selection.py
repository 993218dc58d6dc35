from typing import Any

import numpy as np
import pytest

from vlmixer.bank.selection import PLACE, best, candidate_limit, choose, normalised, particular, ranks


def places(*rows):
    return np.array(list(rows), PLACE)


def around(*degrees):
    """Features at these angles about a mean that all of them share."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians), np.full(len(degrees), 9.0)], axis=1)


def test_best_does_not_depend_on_the_order_in_which_places_come():
    found = places((-0.5, 0, 0), (-0.9, 1, 4), (-0.7, 0, 1), (-0.9, 0, 9), (-0.1, 0, 2))
    rng = np.random.default_rng(0)
    for _ in range(20):
        shuffled = rng.permutation(found)
        assert best(shuffled, 3).tolist() == [(-0.9, 0, 9), (-0.9, 1, 4), (-0.7, 0, 1)]
        halves = np.concatenate([best(shuffled[:2], 3), best(shuffled[2:], 3)])
        assert best(halves, 3).tolist() == [(-0.9, 0, 9), (-0.9, 1, 4), (-0.7, 0, 1)]


@pytest.mark.parametrize("selection", ["score", "diverse"])
def test_rank_follows_the_score(selection):
    scores = np.array([0.9, 0.25], np.float32)
    assert ranks(selection, scores, [], 0).tolist() == [-float(scores[0]), -0.25]


def test_random_rank_depends_on_seed_and_patch_alone():
    ids = [f"p{number}" for number in range(50)]
    found = ranks("random", np.zeros(50), ids, 0)
    assert np.array_equal(found, ranks("random", np.ones(50), ids, 0))
    assert not np.array_equal(np.argsort(found), np.argsort(ranks("random", np.zeros(50), ids, 1)))
    assert ((found >= 0) & (found < 1)).all()
    assert ranks("random", np.zeros(1), ["p7"], 0)[0] == found[7]


def test_diverse_looks_at_more_candidates():
    assert candidate_limit("score", 10) == candidate_limit("random", 10) == 10
    assert candidate_limit("diverse", 10) == 40


@pytest.mark.parametrize("selection", ["score", "random"])
def test_score_and_random_keep_the_first(selection):
    chosen = choose(selection, np.ones((5, 2)), 3, 0.9)
    assert (chosen.kept, chosen.duplicates, chosen.over_limit) == ([0, 1, 2], [], [3, 4])


def test_near_duplicates_of_a_better_candidate_are_dropped():
    chosen = choose("diverse", around(0, 1, 90, 91, 180, 270), 10, 0.98)
    assert sorted(chosen.kept) == [0, 2, 4, 5]
    assert chosen.duplicates == [1, 3]
    assert chosen.over_limit == []


def test_a_duplicate_of_a_dropped_one_only_is_kept():
    found = around(0, 10, 20, 180, 190, 200)
    # Neighbours are at ten degrees, as seen from the mean.
    assert choose("diverse", found, 10, float(np.cos(np.deg2rad(12)))).duplicates == [1, 4]


def test_duplicates_are_the_same_as_one_by_one_over_many_blocks():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(700, 4))
    unit = particular(features)
    fresh: list[Any] = []
    for row in range(len(unit)):
        if not fresh or (unit[fresh] @ unit[row]).max() <= 0.95:
            fresh.append(row)
    assert 20 < len(fresh) < 650
    assert choose("diverse", features, 1000, 0.95).duplicates == sorted(set(range(700)) - set(fresh))


def test_what_all_have_in_common_makes_no_duplicates():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(50, 16)) + 100
    assert (normalised(features) @ normalised(features).T).min() > 0.98
    assert choose("diverse", features, 100, 0.95).duplicates == []


def test_diverse_begins_with_the_best_and_goes_on_with_what_is_far_from_it():
    chosen = choose("diverse", around(0, 20, 180, 200, 90, 270), 2, 0.999)
    assert chosen.kept == [0, 2]
    assert chosen.over_limit == [1, 3, 4, 5]


def test_diverse_prefers_the_better_of_two_that_are_as_far():
    assert choose("diverse", around(0, 120, 240), 2, 0.99).kept == [0, 1]


def test_an_outlier_among_the_last_does_not_come_first():
    rng = np.random.default_rng(3)
    features = np.concatenate([rng.normal(size=(99, 8)), [[50.0] * 8]])
    assert 99 not in choose("diverse", features, 20, 0.99).kept


def test_every_candidate_ends_in_one_list_and_never_more_than_the_limit_are_kept():
    rng = np.random.default_rng(0)
    for count in (0, 1, 5, 40):
        features = rng.normal(size=(count, 3)).astype(np.float16)
        for limit in (1, 5, 100):
            chosen = choose("diverse", features, limit, 0.9)
            assert sorted(chosen.kept + chosen.duplicates + chosen.over_limit) == list(range(count))
            assert len(chosen.kept) == min(limit, count - len(chosen.duplicates))
            assert chosen == choose("diverse", features, limit, 0.9)


def test_features_of_zeros_are_like_nothing():
    assert choose("diverse", np.zeros((3, 2)), 5, 0.9).duplicates == []


def test_normalised():
    rows = normalised(np.array([[3, 4], [0, 0], [0, 60000]], np.float16))
    assert rows.dtype == np.float32
    assert rows.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0], [0, 1]]
