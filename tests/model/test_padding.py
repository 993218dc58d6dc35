from itertools import pairwise

import numpy as np
import pytest

from vlmixer.model.padding import MaskedArrays, joined, joined_masked, pad, padded
from vlmixer.model.views import NOWHERE, Regions, View

WIDTH = 4


def view(pieces, regions, seed):
    """A view of so many word pieces and regions."""
    random = np.random.default_rng(seed)
    found = Regions(
        random.normal(size=(regions, WIDTH)).astype(np.float16),
        random.random((regions, 6)).astype(np.float32),
        random.integers(NOWHERE, 9, regions),
    )
    ids, segments = random.integers(1, 99, pieces), random.integers(0, 2, pieces)
    return View(ids, np.arange(pieces), np.full(pieces, NOWHERE), segments, found)


VIEWS = [view(pieces, regions, seed) for seed, (pieces, regions) in enumerate([(5, 0), (2, 4), (3, 1), (9, 2), (2, 0)])]


def items(batch, row):
    """What the network sees of a row: its pieces (id, position, segment), then its regions (numbers, position)."""
    columns = batch.ids.shape[1]
    text = [tuple(int(part[row, at]) for part in (batch.ids, batch.positions, batch.segments)) for at in range(columns)]
    regions = [
        (tuple(numbers.tolist()), int(at))
        for numbers, at in zip(batch.regions[row], batch.region_positions[row], strict=True)
    ]
    return [(text + regions)[at] for at in batch.order[row][batch.mask[row]].tolist()]


def expected(one):
    numbers = np.concatenate([one.regions.features.astype(np.float32), one.regions.geometry], 1)
    text = list(zip(one.ids.tolist(), one.positions.tolist(), one.segments.tolist(), strict=True))
    return text + [(tuple(row.tolist()), int(at)) for row, at in zip(numbers, one.regions.positions, strict=True)]


def test_a_padded_batch_holds_each_views_items_in_order():
    batch = pad(VIEWS)
    assert batch.ids.shape == (5, 9)
    assert batch.regions.shape == (5, 4, WIDTH + 6)
    assert batch.mask.sum(1).tolist() == [5, 6, 4, 11, 2]
    assert [items(batch, row) for row in range(5)] == [expected(one) for one in VIEWS]


@pytest.mark.parametrize("cuts", [[5], [1, 4], [2, 1, 2], [1, 1, 1, 1, 1]])
def test_parts_joined_are_as_padded_together(cuts):
    ends = np.cumsum([0, *cuts])
    parts = [padded(VIEWS[start:stop]) for start, stop in pairwise(ends)]
    one, together = joined([None, *parts]), padded(VIEWS)
    assert one is not None
    for name in ("ids", "positions", "regions", "region_positions", "order", "mask"):
        found = getattr(one, name)
        assert np.array_equal(found, getattr(together, name)), name
        assert found.dtype == getattr(together, name).dtype
    assert [items(one, row) for row in range(5)] == [expected(one) for one in VIEWS]


def test_of_nothing_there_is_nothing_to_join():
    assert joined([None, None]) is None
    assert joined_masked([None]) is None


def test_masked_parts_joined_count_rows_and_words_on():
    def masked(views, chosen, words):
        targets = np.array([7] * len(words))
        return MaskedArrays(padded(views), np.array(chosen).reshape(-1, 2), targets, np.array(words, np.int64))

    first, last = masked(VIEWS[:2], [[0, 1], [1, 0]], [1, 0]), masked(VIEWS[4:], [[0, 1]], [0])
    found = joined_masked([first, None, masked(VIEWS[2:4], [], []), last])
    assert found is not None
    assert len(found.sequences) == 5
    assert found.chosen.tolist() == [[0, 1], [1, 0], [4, 1]]
    assert found.words.tolist() == [1, 0, 2]
    assert found.targets.tolist() == [7, 7, 7]
