"""Packed files: which file names mean gzip or Zstandard, and their unpacked bytes as a stream."""

import gzip
import io
import zlib
from typing import IO, Any

from vlmixer.artifacts.files import is_url

ERRORS = (OSError, EOFError, zlib.error)
"""What reading a packed file raises where it is broken, or the file cannot be read at all."""

ZSTD_BLOCK = 256
"""Packed bytes read at a time. In the worst case they unpack to 8 MiB."""

MAX_WINDOW = 1 << 31
"""Maximum window of Zstandard's frames: that of `zstd --long=31`, the largest it can write."""

MAX_RATIO, RATIO_FROM = 1100, 1 << 30
"""Unpacked bytes per packed byte, after this many: more than gzip can reach. Zstandard packs a terabyte into 30 kB."""

_BUFFER = 1 << 16


def is_packed(name: str) -> bool:
    """Whether a file with this name is packed."""
    return name.lower().endswith((".gz", ".zst", ".tgz"))


def unpacked_name(name: str) -> str:
    """The file's name without the ending of its packing, in lower case: "a.TXT.gz" gives "a.txt"."""
    lower = name.lower()
    if lower.endswith(".tgz"):
        return lower.removesuffix(".tgz") + ".tar"
    return lower.removesuffix(".gz").removesuffix(".zst")


def unpack(name: str, file: IO[bytes]) -> IO[bytes]:
    """The unpacked bytes of the file. Reading raises one of ERRORS; EOFError where a packed file ends early."""
    lower = name.lower()
    if lower.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if lower.endswith(".zst"):
        return io.BufferedReader(_ZstdFrames(file), _BUFFER)
    # Files behind URLs are slow at reading lines.
    return io.BufferedReader(file, _BUFFER) if is_url(name) else file  # type: ignore[type-var]


def head_of(name: str, file: IO[bytes], size: int) -> bytes:
    """The first `size` unpacked bytes of the file, fewer if it is shorter or broken. Returns to the file's start."""
    head = b""
    try:
        # Not through a buffer of our own: when it is collected, it closes the file.
        stream = unpack(name, file) if is_packed(name) else file
        read = getattr(stream, "read1", stream.read)  # what is read before an error is not lost
        while len(head) < size and (part := read(size - len(head))):
            head += part
    except ERRORS:
        pass
    file.seek(0)
    return head


_FIRST_FED = 1 << 10
"""Packed bytes that a frame is given first, then twice as many each time: what a short frame leaves over is copied."""


class _ZstdFrames(io.RawIOBase):
    """The unpacked frames of `file`, one after the other. zstandard's own reader takes a frame that ends early for a
    whole one; this one raises EOFError."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard  # here, so that `vlmixer train`, which names readers of texts, does without it

        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._damage = zstandard.ZstdError
        self._packed = memoryview(b"")
        self._frame: Any = None
        self._fed = _FIRST_FED
        self._ready = memoryview(b"")
        self._read = self._unpacked = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            if not self._packed:
                self._packed = memoryview(self._file.read(ZSTD_BLOCK))
                self._read += len(self._packed)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            if self._frame is None:
                self._frame, self._fed = self._decompressor.decompressobj(), _FIRST_FED
            part = self._packed[: self._fed]
            self._fed = min(2 * self._fed, ZSTD_BLOCK)
            try:
                self._ready = memoryview(self._frame.decompress(part))
            except self._damage as error:
                raise OSError(str(error)) from None
            self._unpacked += len(self._ready)
            if self._unpacked > RATIO_FROM and self._unpacked > MAX_RATIO * self._read:
                raise OSError(f"{self._unpacked:,} bytes from {self._read:,} packed ones: a decompression bomb")
            self._packed = self._packed[len(part) - len(self._frame.unused_data) :]
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size
