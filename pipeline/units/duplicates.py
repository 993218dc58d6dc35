"""Which digests repeat an earlier one. The search that tagging (sentences) and detection (images) share."""

from collections.abc import Sequence

import numpy as np


def first_of_each(digests: np.ndarray, order: Sequence[np.ndarray] = ()) -> np.ndarray:
    """For each digest, the index of the first equal one: its own index if it comes first. (n,) int64.

    digests: (n, 2) uint64. order: arrays (n,), the most significant first, that say what comes first; among equals,
    and without `order`, the lower index does. While it sorts, it needs about 60 bytes per digest besides the digests.
    """
    first, second = digests[:, 0], digests[:, 1]
    sorted_rows = np.lexsort((*reversed(order), second, first))
    new = np.ones(len(digests), bool)
    for half in (first, second):
        # One half at a time: what is compared is the only copy in sorted order.
        in_order = half[sorted_rows]
        if half is first:
            new[1:] = in_order[1:] != in_order[:-1]
        else:
            new[1:] |= in_order[1:] != in_order[:-1]
    starts = np.maximum.accumulate(np.where(new, np.arange(len(digests)), 0))
    found = np.empty(len(digests), np.int64)
    found[sorted_rows] = sorted_rows[starts]
    return found


def repeats(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each array of digests, (n, 2) uint64, the indices of those that stand earlier in it or in an array before."""
    ends = np.cumsum([len(part) for part in parts])
    digests = np.concatenate(parts)
    repeated = np.flatnonzero(first_of_each(digests) != np.arange(len(digests)))
    begins = [0, *ends[:-1]]
    return [
        found - begin
        for found, begin in zip(np.split(repeated, np.searchsorted(repeated, ends[:-1])), begins, strict=True)
    ]
