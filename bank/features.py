"""Reading the features of a bank: memory-mapped where the file is local, by ranges of bytes where it is not."""

import io
from collections.abc import Callable
from functools import cached_property

import numpy as np
from fsspec.utils import merge_offset_ranges

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.npy_files import BROKEN, HEADER, header
from vlmixer.artifacts.snapshot import unchecked

MAX_GAP = 64 * 1024
"""Bytes between two wanted rows that are read with them: a request costs more than these bytes."""
MAX_PER_REQUEST = 4 * 1024 * 1024
"""Maximum number of bytes per request."""
PARALLEL_REQUESTS = 16


class FeatureFile:
    """The features of a bank, (n, D) float16, in a .npy file at a path or URL."""

    def __init__(
        self,
        path: str,
        check: Callable[[], None] = unchecked,
        *,
        shape: tuple[int, int] | None = None,
        max_per_request: int = MAX_PER_REQUEST,
        parallel_requests: int = PARALLEL_REQUESTS,
    ) -> None:
        """check: called after a local file was opened, and after each reading from a URL; raises if it was replaced.
        shape: what the array must have; None: any."""
        self.path = path
        self._check = check
        self._shape = shape
        self._max_per_request, self._parallel_requests = max_per_request, parallel_requests

    @cached_property
    def _mapped(self) -> np.ndarray:
        try:
            with files.open_read(self.path) as file:  # a pipe or a device is refused
                shape, dtype = header(file)
                if dtype != np.float16 or self._shape not in (None, shape):
                    raise ValueError("not the bank's features")
                mapped = np.memmap(self.path, dtype, "r", file.tell(), shape)
        except BROKEN as error:
            self._check()
            raise self._damaged(str(error)) from None
        self._check()
        return mapped

    def _damaged(self, what: str) -> UserError:
        return UserError(
            f"{self.path}: damaged ({what[:200]}). Run `vlmixer verify` on the bank's folder, then build "
            "the bank again."
        )

    @cached_property
    def _layout(self) -> tuple[int, int]:
        """Where the first row begins, in bytes, and how many values a row has."""
        head = io.BytesIO(files.read_ranges(self.path, [(0, HEADER)])[0])
        try:
            shape, dtype = header(head)
        except BROKEN as error:
            raise self._damaged(str(error)) from None
        if dtype != np.float16 or len(shape) != 2 or self._shape not in (None, shape):
            raise self._damaged("not the bank's features")
        return head.tell(), shape[1]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """(n, D) float16: these rows. rows: (n,) int64, ascending, without repetition.

        Time and memory are bounded by the rows, not by the size of the bank. Raises UserError for a feature that is not
        finite: no result may be made from it.
        """
        found = self._read(rows) if files.is_url(self.path) else np.asarray(self._mapped[rows])
        finite = np.isfinite(found)
        if not finite.all():
            row = int(np.asarray(rows)[np.flatnonzero(~finite.all(axis=1))[0]])
            raise self._damaged(f"the feature in row {row} is not finite")
        return found

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of a file behind a URL."""
        first, columns = self._layout
        starts = first + 2 * columns * rows
        ends = starts + 2 * columns
        found = np.empty((len(rows), columns), np.float16)
        _, begins, stops = merge_offset_ranges(
            [self.path] * len(rows), starts.tolist(), ends.tolist(), max_gap=MAX_GAP, max_block=self._max_per_request
        )
        ranges = list(zip(begins, stops, strict=True))
        for group in range(0, len(ranges), self._parallel_requests):
            part = ranges[group : group + self._parallel_requests]
            for (begin, end), data in zip(part, files.read_ranges(self.path, part), strict=True):
                low, high = np.searchsorted(starts, [begin, end])
                places = (starts[low:high] - begin)[:, None] + np.arange(2 * columns)
                found[low:high] = np.frombuffer(data, np.uint8)[places].view(np.float16)
        self._check()
        return found
