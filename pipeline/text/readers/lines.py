"""The lines and paragraphs of a slice of a file, packed or not, each with the byte at which it begins."""

import gzip
import io
from collections.abc import Iterator
from typing import IO, Any

import zstandard

from vlmixer.artifacts.files import is_url
from vlmixer.pipeline.text.readers.slices import Slice

MAX_LINE_BYTES = 1 << 20
"""A longer line or document is rejected; so much of it is held at most."""

ZSTD_BYTES = 2048
"""Read at once; at worst they unpack to 64 MiB."""


def unpack(name: str, file: IO[bytes]) -> IO[bytes]:
    """The unpacked bytes of the file, by its name's ending. Reading raises EOFError where a packed file breaks off."""
    lower = name.lower()
    if lower.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if lower.endswith(".zst"):
        return io.BufferedReader(_ZstdFrames(file), 1 << 16)
    # Files behind URLs read lines slowly by themselves.
    return io.BufferedReader(file, 1 << 16) if is_url(name) else file  # type: ignore[type-var]


def raw_lines(piece: Slice, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(position, line without its end) for the lines that begin in the slice; None for a line over the limit."""
    for position, line in _lines_from(piece, file):
        if 0 <= piece.end <= position:
            return
        yield position, line


def paragraphs(piece: Slice, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(position, bytes) for the paragraphs of the slice, runs of lines that are not blank; None for a line that is over
    the limit.

    A paragraph over the limit is divided at the ends of lines. It belongs to the slice in which the blank line before
    it begins, the first one of a file to the first.
    """
    held: list[bytes] = []
    begin = size = 0
    ours = piece.start == 0
    for position, line in _lines_from(piece, file):
        blank = line is not None and not line.strip()
        if not blank and not ours:
            if 0 <= piece.end <= position:
                return
            continue
        if held and (line is None or blank or size + len(line) > MAX_LINE_BYTES):
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
            if 0 <= piece.end <= position:
                return
    if held:
        yield begin, b"\n".join(held)


def _lines_from(piece: Slice, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """As `raw_lines`, to the end of the file."""
    position = max(piece.start - 1, 0)
    if position:
        file.seek(position)
    stream = unpack(piece.name, file)
    if piece.start > 0:
        position += _skip_line(stream)
    while line := stream.readline(MAX_LINE_BYTES + 1):
        begin = position
        position += len(line)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            position += _skip_line(stream)
            yield begin, None
        else:
            yield begin, line.rstrip(b"\r\n")


def _skip_line(stream: IO[bytes]) -> int:
    skipped = 0
    while part := stream.readline(MAX_LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


class _ZstdFrames(io.RawIOBase):
    """The unpacked frames of `file`, one after the other. zstandard's own reader takes a frame that breaks off for
    the end; this raises EOFError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = b""
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(ZSTD_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
