"""What every text format has in common: the slice it reads, the records it yields, and the protocol of a format.

A format finds texts in a file and says where. Whether a text makes a usable sentence is decided in `reader`.
"""

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple, Protocol

import numpy as np

MAX_LINE_BYTES = 1 << 20
"""Longer lines, paragraphs and documents are rejected. A reader never holds more than this of one."""


@dataclass(frozen=True)
class TextSlice:
    """A part of the file `name`: the lines, paragraphs or row groups that begin at bytes start … end-1.

    end = -1 means the end of the file. stamp: of the file when it was planned (`files.stamp`), "" if unknown.
    """

    name: str
    size: int
    start: int = 0
    end: int = -1
    stamp: str = ""

    @property
    def bytes(self) -> int:
        """Size of the slice."""
        return (self.size if self.end < 0 else self.end) - self.start


@dataclass(frozen=True)
class ReadOptions:
    """How to read a file. `field` names the text in structured records, see `fields`.

    running_text: plain text is read by paragraphs, not by lines.
    """

    field: str = "caption"
    running_text: bool = False
    max_line_bytes: int = MAX_LINE_BYTES


@dataclass(frozen=True, slots=True)
class Unusable:
    """Why a record has no text: a reason of `artifacts.rejects`, and what exactly was found."""

    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BlankLines:
    """Blank lines that follow one another, by their positions, (n,) int64. A file may have hundreds of millions."""

    positions: np.ndarray


class Record(NamedTuple):
    """One record: a text, several texts (members that are not text are rejected one by one), or what is wrong with it.

    `position` is the byte of the unpacked file at which the record begins, or the row. -1: the record is the file.
    Blank lines may be one record together.
    """

    position: int
    content: str | list[Any] | Unusable | BlankLines


class TextFormat(Protocol):
    """One file format. Formats hold no state; one instance serves all files."""

    splits: bool
    """Whether reading can begin in the middle of an unpacked file."""

    is_text: bool
    """Whether the unpacked file is text."""

    errors: tuple[type[Exception], ...]
    """What `read` raises at a broken file, apart from what unpacking raises."""

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        """The records of the slice. `file` is the file as stored, packed or not."""
        ...

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        """About how many bytes of the slice its first `records` records take; the last of them is at `position`.

        Asked only where the file can be split.
        """
        ...


def decode_text(data: bytes | None, options: ReadOptions) -> str | Unusable:
    """The text of a line or member, without a byte order mark before it, which is also in the middle of files that were
    joined. None is one over the limit."""
    if data is None:
        return Unusable("too_long", f"more than {options.max_line_bytes} bytes in one piece")
    try:
        return data.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        return Unusable("not_utf8", str(error))
