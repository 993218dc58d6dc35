"""The lines and paragraphs of a slice of a file, packed or not, each with the byte at which it begins."""

from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES, TextSlice
from vlmixer.pipeline.text.readers.packing import unpack


def lines(text_slice: TextSlice, file: IO[bytes], limit: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes | None]]:
    """(position, line without its end) for the lines that begin in the slice. None is a line of over `limit` bytes."""
    for position, line in _lines_from(text_slice, file, limit):
        if 0 <= text_slice.end <= position:
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
        blank = line is not None and not line.strip()
        if not blank and not ours:
            if 0 <= text_slice.end <= position:
                return
            continue
        if held and (line is None or blank or size + len(line) > limit):
            yield begin, b"\n".join(held)
            held = []
        if line is None:
            yield position, None
        elif not blank:
            if not held:
                begin, size = position, 0
            held.append(line)
            size += len(line) + 1
        else:
            ours = True
            if 0 <= text_slice.end <= position:
                return
    if held:
        yield begin, b"\n".join(held)


def _lines_from(text_slice: TextSlice, file: IO[bytes], limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Like `lines`, but to the end of the file."""
    position = max(text_slice.start - 1, 0)
    if position:
        file.seek(position)
    stream = unpack(text_slice.name, file)
    if text_slice.start > 0:
        position += _skip_line(stream, limit)
    while line := stream.readline(limit + 1):
        begin = position
        position += len(line)
        if len(line) > limit and not line.endswith(b"\n"):
            position += _skip_line(stream, limit)
            yield begin, None
        else:
            yield begin, line.rstrip(b"\r\n")


def _skip_line(stream: IO[bytes], limit: int) -> int:
    skipped = 0
    while part := stream.readline(limit):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped
