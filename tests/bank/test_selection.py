import random

import numpy as np
import pytest

from bank.selection import Candidate, best, candidate_limit, choose, normalised, rank


def candidates(scores):
    return [Candidate(-score, f"p{number:02d}", "part", number, ()) for number, score in enumerate(scores)]


def angles(*degrees):
    """Features of length 1 at these angles."""
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def test_best_does_not_depend_on_the_order_in_which_candidates_come():
    found = candidates([0.5, 0.9, 0.7, 0.9, 0.1])
    expected = ["p01", "p03", "p02"]
    shuffled = random.Random(0)
    for _ in range(20):
        shuffled.shuffle(found)
        assert [candidate.patch_id for candidate in best(found, 3)] == expected
        halves = best(found[:2], 3) + best(found[2:], 3)
        assert [candidate.patch_id for candidate in best(halves, 3)] == expected


def test_rank_follows_the_score():
    for selection in ("score", "diverse"):
        assert rank(selection, 0.9, "a", 0) < rank(selection, 0.2, "b", 0)
        assert rank(selection, 0.9, "a", 0) == rank(selection, 0.9, "b", 1)


def test_random_rank_depends_on_seed_and_patch_alone():
    def order(seed):
        return sorted(range(50), key=lambda number: rank("random", number / 50, f"p{number}", seed))

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert rank("random", 0.1, "p", 0) == rank("random", 0.9, "p", 0)
    assert all(0 <= rank("random", 0.5, f"p{number}", 0) < 1 for number in range(50))


def test_diverse_looks_at_more_candidates():
    assert candidate_limit("score", 10) == candidate_limit("random", 10) == 10
    assert candidate_limit("diverse", 10) == 40


@pytest.mark.parametrize("selection", ["score", "random"])
def test_score_and_random_keep_the_first(selection):
    chosen = choose(selection, np.ones((5, 2)), 3, 0.9)
    assert (chosen.kept, chosen.duplicates, chosen.over_limit) == ([0, 1, 2], [], [3, 4])


def test_near_duplicates_of_a_better_candidate_are_dropped():
    chosen = choose("diverse", angles(0, 1, 90, 89, 180) * [[1], [9], [2], [3], [4]], 10, 0.98)
    assert sorted(chosen.kept) == [0, 2, 4]
    assert chosen.duplicates == [1, 3]
    assert chosen.over_limit == []


def test_a_duplicate_of_a_dropped_one_only_is_kept():
    ten = np.cos(np.deg2rad(10.5))
    assert choose("diverse", angles(0, 10, 20), 10, ten).duplicates == [1]


def test_diverse_begins_with_the_best_and_goes_on_with_the_farthest():
    chosen = choose("diverse", angles(0, 20, 40, 180), 2, 0.99)
    assert chosen.kept == [0, 3]
    assert chosen.over_limit == [1, 2]


def test_diverse_prefers_the_better_of_two_that_are_as_far():
    assert choose("diverse", angles(0, 90, -90), 2, 0.99).kept == [0, 1]


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
