"""Reading rows of a bank's features: memory-mapped where the file is local, by ranges of bytes where it is not."""

import io
from functools import cached_property

import numpy as np
from fsspec.utils import merge_offset_ranges

from vlmixer.artifacts import files

GAP = 64 * 1024
"""Bytes between two wanted rows that are read along: a request costs more than these do."""
MOST_A_REQUEST = 4 * 1024 * 1024
"""Bytes of a request, at most."""
AT_ONCE = 16
"""Requests that are made side by side."""
HEADER = 128
"""Bytes before the first row, as numpy writes them."""


class Features:
    """The features of a bank, (n, D) float16, in a .npy file at a path or URL."""

    def __init__(self, path: str) -> None:
        self.path = path

    @cached_property
    def _mapped(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    @cached_property
    def _layout(self) -> tuple[int, int]:
        """Where the first row begins, and how many numbers a row has."""
        head = io.BytesIO(files.read_ranges(self.path, [(0, HEADER)])[0])
        np.lib.format.read_magic(head)
        shape, _, _ = np.lib.format.read_array_header_1_0(head)
        return head.tell(), shape[1]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float16: these rows. rows: (n,) int64, ascending, none twice.

        What is read, and the memory that it takes, are bounded by the rows, not by the size of the bank.
        """
        if not files.is_url(self.path):
            return np.asarray(self._mapped[rows])
        first, columns = self._layout
        starts = first + 2 * columns * rows
        ends = starts + 2 * columns
        found = np.empty((len(rows), columns), np.float16)
        _, begins, stops = merge_offset_ranges(
            [self.path] * len(rows), starts.tolist(), ends.tolist(), max_gap=GAP, max_block=MOST_A_REQUEST
        )
        for group in range(0, len(begins), AT_ONCE):
            ranges = list(zip(begins[group : group + AT_ONCE], stops[group : group + AT_ONCE], strict=True))
            for (begin, end), data in zip(ranges, files.read_ranges(self.path, ranges), strict=True):
                low, high = np.searchsorted(starts, [begin, end])
                places = (starts[low:high] - begin)[:, None] + np.arange(2 * columns)
                found[low:high] = np.frombuffer(data, np.uint8)[places].view(np.float16)
        return found
