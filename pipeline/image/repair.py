"""Repairs image files that fail to decode although their pixels are whole: PNG side chunks, the end marker of JPEG."""

import struct
import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
END_OF_IMAGE = b"\xff\xd9"
PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
FILLS = (b"\x00" * 64, b"\x5a\xa5" * 32)


def without_side_chunks(data: bytes) -> bytes:
    """A PNG with only the chunks that its pixels need, and its EXIF data if that is sound.

    Data that is not a PNG, or a PNG whose pixels are damaged, is returned as it is.
    """
    if not data.startswith(PNG):
        return data
    kept = [PNG]
    for name, chunk, sound in _chunks(data):
        if name in PIXEL_CHUNKS and not sound:
            return data
        if name in PIXEL_CHUNKS or (name == b"eXIf" and sound):
            kept.append(chunk)
    return b"".join(kept)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bool]]:
    """(name, the whole chunk, whether its checksum is right) of each chunk."""
    at = len(PNG)
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunk = data[at : at + 12 + length]
        yield chunk[4:8], chunk, chunk[-4:] == struct.pack(">I", zlib.crc32(chunk[4:-4]))
        at += 12 + length


def jpeg_endings(data: bytes) -> list[bytes]:
    """A JPEG that stops, completed in two ways; [] for other data.

    If the two decode to the same pixels, the file was whole but for its end marker: a decoder that has all pixels skips
    the fill bytes, and one that lacks some makes them from the fill bytes.
    """
    if not data.startswith(JPEG):
        return []
    whole = data.rstrip(b"\xff")
    return [whole + fill + END_OF_IMAGE for fill in FILLS]
