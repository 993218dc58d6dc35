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


class Known:
    """The digests met so far. Holds 40 bytes for each different one."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, "S16")

    def repeats(self, part: np.ndarray, at_once: int = 1 << 16) -> np.ndarray:
        """The indices of digests that stand earlier in this array or in one before. part: (n, 2) uint64. at_once: how
        many are compared."""
        new = np.zeros(len(part), bool)
        for begin in range(0, len(part), at_once):
            digests = np.ascontiguousarray(part[begin : begin + at_once]).view("S16").ravel()
            different, first = np.unique(digests, return_index=True)
            places = np.searchsorted(self._sorted, different)
            fresh = np.ones(len(different), bool)
            inside = places < len(self._sorted)
            fresh[inside] = self._sorted[places[inside]] != different[inside]
            new[begin + first[fresh]] = True
            self._sorted = np.insert(self._sorted, places[fresh], different[fresh])
        return np.flatnonzero(~new)
