"""The search for duplicates says what a set would say."""

from typing import Any

import numpy as np

from vlmixer.pipeline.units.duplicates import Known, first_of_each


def test_repeats_are_what_a_set_would_say():
    chance = np.random.default_rng(0)
    for _ in range(200):
        sizes = chance.integers(0, 30, chance.integers(1, 6))
        parts = [chance.integers(0, 4, (size, 2)).astype(np.uint64) for size in sizes]
        known: set[tuple[int, int]] = set()
        expected: list[Any] = []
        for part in parts:
            expected.append([])
            for place, entry in enumerate(map(tuple, part.tolist())):
                if entry in known:
                    expected[-1].append(place)
                known.add(entry)
        now = Known()
        assert [now.repeats(part).tolist() for part in parts] == expected


def test_hashes_that_share_a_half_are_not_the_same():
    parts = [np.array([[1, 2], [1, 3]], np.uint64), np.array([[2, 2], [1, 2]], np.uint64)]
    known = Known()
    assert [known.repeats(part).tolist() for part in parts] == [[], [1]]


def test_first_is_what_the_order_says():
    digests = np.array([[7, 7], [1, 2], [7, 7], [7, 7], [1, 2]], np.uint64)
    assert first_of_each(digests).tolist() == [0, 1, 0, 0, 1]
    assert first_of_each(digests, [np.array([3, 0, 2, 2, 0])]).tolist() == [2, 1, 2, 2, 1]
    assert first_of_each(digests, [np.array([3, 0, 2, 2, 0]), np.array([0, 2, 2, 1, 1])]).tolist() == [3, 4, 3, 3, 4]
    assert first_of_each(np.empty((0, 2), np.uint64)).tolist() == []
