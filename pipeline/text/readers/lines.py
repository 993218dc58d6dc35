"""The lines and paragraphs of a slice of a file, packed or not, each with the byte at which it begins."""

from collections.abc import Iterator
from typing import IO

import numpy as np

from vlmixer.artifacts.texts import blank_lines
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES, BlankLines, TextSlice
from vlmixer.pipeline.text.readers.packing import unpack

FEW_BLANK = 16
"""So many blank lines are read one by one. Those that follow them are read together."""

Line = bytes | BlankLines | None


def lines(text_slice: TextSlice, file: IO[bytes], limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, Line]]:
    """(position, line without its end) for the lines that begin in the slice. None is a line of over `limit` bytes."""
    end = text_slice.end
    for position, line in _lines_from(text_slice, file, limit):
        if 0 <= end <= position:
            return
        if isinstance(line, BlankLines) and 0 <= end <= line.positions[-1]:
            yield position, BlankLines(line.positions[line.positions < end])
            return
        yield position, line


def paragraphs(
    text_slice: TextSlice, file: IO[bytes], limit: int = MAX_LINE_BYTES
) -> Iterator[tuple[int, bytes | None]]:
    """(position, bytes) for the paragraphs of the slice: runs of lines that are not blank.

    None is a line of over `limit` bytes; a longer paragraph is divided at line ends. A paragraph belongs to the slice
    that holds the start of the blank line before it. The file's first paragraph belongs to the first slice.
    """
    held: list[bytes] = []
    begin = size = 0
    ours = text_slice.start == 0
    for position, line in _lines_from(text_slice, file, limit):
        if isinstance(line, BlankLines) or (line is not None and not line.strip()):
            if held:
                yield begin, b"\n".join(held)
                held = []
            ours = True
            if 0 <= text_slice.end <= (line.positions[-1] if isinstance(line, BlankLines) else position):
                return
            continue
        if not ours:
            if 0 <= text_slice.end <= position:
                return
            continue
        if held and (line is None or size + len(line) > limit):
            yield begin, b"\n".join(held)
            held = []
        if line is None:
            yield position, None
        else:
            if not held:
                begin, size = position, 0
            held.append(line)
            size += len(line) + 1
    if held:
        yield begin, b"\n".join(held)


def _lines_from(text_slice: TextSlice, file: IO[bytes], limit: int) -> Iterator[tuple[int, Line]]:
    """Like `lines`, but to the end of the file."""
    position = max(text_slice.start - 1, 0)
    if position:
        file.seek(position)
    stream = unpack(text_slice.name, file)
    if text_slice.start > 0:
        position += _skip_line(stream, limit)
    blank = 0
    while line := stream.readline(limit + 1):
        begin = position
        position += len(line)
        if len(line) > limit and not line.endswith(b"\n"):
            position += _skip_line(stream, limit)
            yield begin, None
            blank = 0
            continue
        yield begin, line.rstrip(b"\r\n")
        blank = blank + 1 if line.isspace() else 0
        if blank >= FEW_BLANK and (skipped := blank_lines(stream, limit)):
            ends = np.flatnonzero(np.frombuffer(skipped, np.uint8) == ord("\n")) + 1
            yield position, BlankLines(position + np.append(0, ends[:-1]))
            position += len(skipped)


def _skip_line(stream: IO[bytes], limit: int) -> int:
    skipped = 0
    while part := stream.readline(limit):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped
