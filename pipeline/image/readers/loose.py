"""Images that are files of their own, as they are planned. A corpus may have millions, so none is held as an object."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np

from vlmixer.artifacts.files import FileStats
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.image.readers.base import InputFile
from vlmixer.pipeline.image.readers.records import record_of


class ImageFiles(Sequence[InputFile]):
    """Some of the inputs, in an order of its own. Holds 9 bytes for each.

    numbers: of the inputs, (n,) int64. recorded: of each of these, whether it has a record, (n,) bool.
    """

    def __init__(self, inputs: FileStats, numbers: np.ndarray, recorded: np.ndarray) -> None:
        self._inputs = inputs
        self._numbers = numbers
        self._recorded = recorded

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> InputFile: ...
    @overload
    def __getitem__(self, at: slice) -> "ImageFiles": ...
    def __getitem__(self, at: int | slice) -> "InputFile | ImageFiles":
        if isinstance(at, slice):
            return ImageFiles(self._inputs, self._numbers[at], self._recorded[at])
        place = range(len(self))[at]
        return next(iter(self[place : place + 1]))

    def __iter__(self) -> Iterator[InputFile]:
        found = zip(self._numbers, self._recorded, self._inputs.at(self._numbers), strict=True)
        for number, recorded, entry in found:
            record = record_of(entry.name) if recorded else ""
            yield InputFile(int(number), entry.name, entry.size, record, entry.stamp)

    def in_order_of_hash(self) -> "ImageFiles":
        """The same files in the order of a hash of their names."""
        hashes = (stable_hash("image", name) for name in self._inputs.names.at(self._numbers))
        order = np.argsort(np.fromiter(hashes, np.uint64, len(self)), kind="stable")
        return ImageFiles(self._inputs, self._numbers[order], self._recorded[order])
