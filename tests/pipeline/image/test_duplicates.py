import random
from typing import Any

import pyarrow as pa
import pytest

from vlmixer.pipeline.image.duplicates import Duplicate, find_duplicates


def parts_of(contents):
    """Parts whose rows are (content, number of the input, place in it)."""
    return [
        pa.table(
            {
                "digest": pa.array([content.ljust(16).encode() for content, _, _ in rows], pa.binary(16)),
                "input": pa.array([number for _, number, _ in rows], pa.int64()),
                "place": pa.array([place for _, _, place in rows], pa.int64()),
            }
        )
        for rows in contents
    ]


def found(contents, **options):
    parts = parts_of(contents)
    return find_duplicates([len(part) for part in parts], parts.__getitem__, **options)


def test_first_is_what_comes_first_among_the_inputs():
    contents = [[("a", 7, 0), ("b", 2, 0), ("a", 3, 5)], [("a", 3, 4), ("c", 1, 0)]]
    assert found(contents) == [Duplicate(0, 0, 1, 0), Duplicate(0, 2, 1, 0)]


def test_nothing():
    assert found([]) == []
    assert found([[], [("a", 0, 0)]]) == []


@pytest.mark.parametrize("at_a_time", [1, 7, 100, 10_000])
def test_any_share_at_a_time_finds_the_same(at_a_time):
    chance = random.Random(0)
    contents = [[(str(chance.randrange(200)), chance.randrange(50), row) for row in range(100)] for _ in range(4)]
    seen: dict[Any, Any] = {}
    expected = []
    rows = [(number, place, part, row, content) for part, held in enumerate(contents)
            for row, (content, number, place) in enumerate(held)]  # fmt: skip
    for _, _, part, row, content in sorted(rows):
        if content in seen:
            expected.append(Duplicate(part, row, *seen[content]))
        else:
            seen[content] = part, row
    assert found(contents, at_a_time=at_a_time) == sorted(expected, key=lambda one: (one.part, one.row))
