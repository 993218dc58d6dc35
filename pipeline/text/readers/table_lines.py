"""The lines of a table, of which blank ones are passed over many at a time: a file may have hundreds of millions."""

import codecs
import csv
import io
import re
from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES

BLOCK_BYTES = 8192
"""Read at a time. Lines before a place that cannot be read are given if they are in an earlier block."""


class TableLines(Iterator[str]):
    """The lines of a stream of UTF-8 with their ends, which are LF, CR LF or CR.

    errors: how to decode what is not valid. longest: characters of a line; csv.Error is raised at one with more. A byte
    order mark at the start is left out.
    """

    def __init__(self, stream: IO[bytes], errors: str = "strict", longest: int = MAX_LINE_BYTES) -> None:
        #: Lines so far, with those that were passed over and one that is too long.
        self.number = 0
        self._read = getattr(stream, "read1", stream.read)
        # The decoder of line ends keeps CR and LF together.
        self._decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8-sig")(errors), translate=False)
        self._longest = longest
        self._block, self._lines = "", io.StringIO("", newline="")
        self._rest = ""
        self._ended = False

    def __next__(self) -> str:
        while not (line := self._lines.readline()) and len(self._rest) <= self._longest:
            if self._ended:
                raise StopIteration
            self._fill()
        self.number += 1
        if len(line or self._rest) > self._longest:
            raise csv.Error(f"a line of more than {self._longest:,} characters")
        return line

    def pass_blank(self, delimiter: str = "") -> int:
        """Pass over the blank lines that are next, or some or none of them, and return how many these are. A line with
        the delimiter in it has cells, so it is not blank."""
        start = self._lines.tell()
        white = re.compile(rf"[^\S{delimiter}]*").match(self._block, start)
        end = white.end() if white else start
        stop = max(self._block.rfind("\n", start, end), self._block.rfind("\r", start, end)) + 1
        if not start < stop <= start + self._longest:
            return 0
        self._lines.seek(stop)
        lf, cr, both = (self._block.count(one, start, stop) for one in ("\n", "\r", "\r\n"))
        self.number += lf + cr - both
        return lf + cr - both

    def _fill(self) -> None:
        """Read a block, and keep what follows its last line end for the next one."""
        data = self._read(BLOCK_BYTES)
        self._ended = not data
        text = self._rest + self._decoder.decode(data, final=self._ended)
        whole = len(text) if self._ended else max(text.rfind("\n"), text.rfind("\r")) + 1
        self._block, self._rest = text[:whole], text[whole:]
        self._lines = io.StringIO(self._block, newline="")
