"""Lists of many files: their names, sizes and stamps in columns, because an object for each takes half a kilobyte.

What is long is in a file without a name and mapped, so the system can take its memory back.
"""

import mmap
import os
import tempfile
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, groupby
from typing import Any, overload

import numpy as np

from vlmixer.artifacts.files.paths import is_url

MAX_HELD = 1 << 20
"""Bytes of a column that are held in memory."""
AT_ONCE = 4096
"""Values that are made together."""


@dataclass(frozen=True, slots=True)
class FileStat:
    """A file's name (as listed) and its size in bytes. `stamp` changes when the file does: see `stamp`."""

    name: str
    size: int
    stamp: str = field(default="", compare=False)


class Strings(Sequence[str]):
    """Many strings. Holds 8 bytes for each besides its own, and 16 more from the first `find` on."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        """Raises UnicodeEncodeError for a value that is not valid UTF-8."""
        ends = array("q", [0])
        with tempfile.SpooledTemporaryFile(MAX_HELD) as file:
            for value in values:
                ends.append(ends[-1] + file.write(value.encode()))
            file.seek(0)
            large = ends[-1] > MAX_HELD
            self._data = mmap.mmap(file.fileno(), ends[-1], access=mmap.ACCESS_READ) if large else file.read()
        self._ends = np.frombuffer(ends, np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return list(self.at(np.arange(len(self))[at]))
        (found,) = self.at(np.array([range(len(self))[at]]))
        return found

    def __iter__(self) -> Iterator[str]:
        return self.at(np.arange(len(self)))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and self.find([value])[0] >= 0

    def at(self, rows: np.ndarray) -> Iterator[str]:
        """The strings in these rows, (n,) int64."""
        for begin in range(0, len(rows), AT_ONCE):
            part = rows[begin : begin + AT_ONCE]
            for start, end in zip(self._ends[part].tolist(), self._ends[part + 1].tolist(), strict=True):
                yield self._data[start:end].decode()

    def find(self, values: Sequence[str]) -> np.ndarray:
        """The first row of each value, -1 if there is none. (n,) int64. Compares all hashes at once, so give some
        thousands of values."""
        hashes, rows = self._index
        wanted = np.fromiter(map(hash, values), np.int64, len(values))
        places = np.searchsorted(hashes, wanted)
        found = np.full(len(values), -1)
        left = np.arange(len(values))
        while len(left := left[places[left] < len(hashes)]):
            left = left[hashes[places[left]] == wanted[left]]
            near = rows[places[left]]
            same = np.array([name == values[at] for at, name in zip(left.tolist(), self.at(near), strict=True)], bool)
            found[left[same]] = near[same]
            left = left[~same]  # another string of this hash
            places[left] += 1
        return found

    @cached_property
    def _index(self) -> tuple[np.ndarray, np.ndarray]:
        """Hashes in order, and the row of each. They differ from process to process."""
        hashes = np.fromiter(map(hash, self), np.int64, len(self))
        rows = np.argsort(hashes, kind="stable")
        return hashes[rows], rows

    def order(self) -> np.ndarray:
        """The rows in the order of their strings. (n,) uint64."""
        import pyarrow as pa
        import pyarrow.compute as pc

        strings = pa.LargeStringArray.from_buffers(len(self), pa.py_buffer(self._ends), pa.py_buffer(self._data))
        rows: np.ndarray = pc.array_sort_indices(strings).to_numpy()
        return rows


def in_order(values: Iterable[str]) -> Strings:
    """The strings sorted, each once."""
    held = Strings(values)
    return Strings(value for value, _ in groupby(held.at(held.order().astype(np.int64))))


class FileStats(Sequence[FileStat]):
    """Many files."""

    def __init__(self, names: Strings, sizes: Iterable[int], stamps: Strings) -> None:
        self.names = names
        self.sizes = array("q", sizes)
        self.stamps = stamps

    @classmethod
    def of(cls, entries: Collection[FileStat] = ()) -> "FileStats":
        """These files."""
        names, stamps = (Strings(getattr(entry, name) for entry in entries) for name in ("name", "stamp"))
        return cls(names, (entry.size for entry in entries), stamps)

    @classmethod
    def local(cls, names: Strings) -> "FileStats":
        """Local files of these names, as they are now. A link without a target has size 0 and no stamp."""
        stamps = Strings(map(stamp, names))
        return cls(names, (int(found.partition(" ")[0] or 0) for found in stamps), stamps)

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> FileStat: ...
    @overload
    def __getitem__(self, at: slice) -> list[FileStat]: ...
    def __getitem__(self, at: int | slice) -> FileStat | list[FileStat]:
        if isinstance(at, slice):
            return list(self.at(np.arange(len(self))[at]))
        (found,) = self.at(np.array([range(len(self))[at]]))
        return found

    def __iter__(self) -> Iterator[FileStat]:
        return map(FileStat, self.names, self.sizes, self.stamps)

    def at(self, rows: np.ndarray) -> Iterator[FileStat]:
        """The files in these rows, (n,) int64."""
        return map(FileStat, self.names.at(rows), map(self.sizes.__getitem__, rows), self.stamps.at(rows))

    def where(self, keep: Callable[[str], bool]) -> "FileStats":
        """The files whose names `keep` takes."""
        return self._only(np.fromiter((row for row, name in enumerate(self.names) if keep(name)), np.int64))

    @classmethod
    def joined(cls, lists: Sequence["FileStats"]) -> "FileStats":
        """The files of all lists, in their order."""
        if len(lists) == 1:
            return lists[0]
        names = Strings(chain.from_iterable(files.names for files in lists))
        stamps = Strings(chain.from_iterable(files.stamps for files in lists))
        sizes = chain.from_iterable(files.sizes for files in lists)
        return cls(names, sizes, stamps)

    @classmethod
    def merged(cls, lists: Sequence["FileStats"]) -> "FileStats":
        """The files of all lists, in their order, each once."""
        joined = cls.joined(lists)
        if len(lists) < 2:
            return joined
        names = joined.names
        first = [names.find(names[at : at + AT_ONCE]) for at in range(0, len(names), AT_ONCE)]
        rows = np.arange(len(names))
        return joined._only(np.flatnonzero(np.concatenate(first) == rows) if first else rows)

    def _only(self, rows: np.ndarray) -> "FileStats":
        """The files in these rows, (n,) int64, which are in order."""
        if len(rows) == len(self):
            return self
        sizes = map(self.sizes.__getitem__, rows)
        return FileStats(Strings(self.names.at(rows)), sizes, Strings(self.stamps.at(rows)))


@dataclass(frozen=True)
class NamesAndSizes(Collection[dict[str, Any]]):
    """What a plan knows of files: {"name", "size"} each, made while one reads, since many would take much memory."""

    stats: Sequence[FileStat]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({"name": entry.name, "size": entry.size} for entry in self.stats)

    def __len__(self) -> int:
        return len(self.stats)

    def __contains__(self, entry: object) -> bool:
        return any(entry == own for own in self)


def stamp(path: str) -> str:
    """What changes when a local file does: its size and the time of its last change. "" if there is none, and for URLs.

    Two files of one stamp may differ only if somebody set the time back.
    """
    if is_url(path):
        return ""
    try:
        found = os.stat(path)
    except (OSError, ValueError):  # or a NUL byte in the name
        return ""
    return f"{found.st_size} {found.st_mtime_ns}"
