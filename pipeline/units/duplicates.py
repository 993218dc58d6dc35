"""Which digests repeat an earlier one. The search that tagging (sentences) and detection (images) share."""

from collections.abc import Iterable, Iterator, Sequence

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


def repeats(parts: Iterable[np.ndarray], at_once: int = 1 << 16) -> Iterator[np.ndarray]:
    """For each array of digests, (n, 2) uint64, the indices of those that stand earlier in it or in an array before.

    What it holds grows with the different digests, 40 bytes for each, not with all. at_once: how many are compared.
    """
    known = np.empty(0, "S16")  # sorted
    for part in parts:
        new = np.zeros(len(part), bool)
        for begin in range(0, len(part), at_once):
            digests = np.ascontiguousarray(part[begin : begin + at_once]).view("S16").ravel()
            different, first = np.unique(digests, return_index=True)
            places = np.searchsorted(known, different)
            fresh = np.ones(len(different), bool)
            inside = places < len(known)
            fresh[inside] = known[places[inside]] != different[inside]
            new[begin + first[fresh]] = True
            known = np.insert(known, places[fresh], different[fresh])
        yield np.flatnonzero(~new)
