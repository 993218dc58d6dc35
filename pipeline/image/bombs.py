"""Image files that take far more memory or time than their pixels need: what can be seen before they are decoded.

Pillow keeps the value of each tag of TIFF and EXIF by itself, though thousands of tags may have the same bytes as their
value: from four megabytes, 250 gigabytes. libjpeg goes through the whole picture for each scan of a progressive JPEG.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

from vlmixer.pipeline.image.repair import JPEG

MOST_TIMES = 4
"""The values of tags may have so many times the bytes of all tags. Programs give each value bytes of its own."""
MAX_SCANS = 100
"""Of a JPEG. Programs write some ten."""

_EXIF = b"Exif\0\0"
_MANY = 8
"""Pillow takes each _EXIF off the front by copying the rest. PNGs may have two."""
_ORDERS = {b"II": "<", b"MM": ">"}
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}
"""Bytes of one value of each type of tag."""
_APP1, _APP2, _SCAN, _END = 0xE1, 0xE2, 0xDA, 0xD9
_WITHOUT_CONTENT = frozenset((0x00, 0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)))


def why_bomb(data: bytes) -> str:
    """What is wrong with an image file; "" if this is nothing that is known."""
    if not data.startswith(JPEG):
        return _SHARED if _share_values(data) else ""
    # Counting is fast. Only a file with that many is looked through: other data may have these two bytes, too.
    scans = data.count(b"\xff\xda")
    if scans > MAX_SCANS and sum(marker == _SCAN for marker, _ in _segments(data)) > MAX_SCANS:
        return f"more than {MAX_SCANS} scans"
    exif, index = _jpeg_tags(data)
    return _SHARED if _is_exif_bomb(exif) or _share_values(index) else ""


def has_bomb(info: Mapping[Any, Any]) -> bool:
    """Whether the EXIF that Pillow found, in `Image.info`, should not be read."""
    exif = info.get("exif") or b""
    if not exif and isinstance(text := info.get("Raw profile type exif"), str):
        try:
            exif = bytes.fromhex("".join(text.split("\n")[3:]))
        except ValueError:
            return False
    return _is_exif_bomb(exif)


_SHARED = "thousands of tags have the same bytes as their values"


def _is_exif_bomb(exif: bytes) -> bool:
    for _ in range(_MANY):
        exif = exif.removeprefix(_EXIF)
    return exif.startswith(_EXIF) or _share_values(exif)


def _share_values(data: bytes) -> bool:
    """Whether the values of the first directory's tags have over MOST_TIMES the bytes of `data`."""
    order = _ORDERS.get(data[:2])
    if order is None:
        return False
    try:
        return sum(_value_sizes(data, order)) > MOST_TIMES * len(data)
    except struct.error:  # the directory is cut off
        return False


def _value_sizes(data: bytes, order: str) -> Iterator[int]:
    """Bytes of the values outside of the directory, up to the first that is cut off: Pillow stops there."""
    big = data[2:3] == b"\x2b"  # BigTIFF, as Pillow finds it
    count, number, inside, step = ("Q", "Q", 8, 20) if big else ("H", "I", 4, 12)
    (at,) = struct.unpack_from(order + number, data, 8 if big else 4)
    (tags,) = struct.unpack_from(order + count, data, at)
    at += struct.calcsize(count)
    for place in range(min(tags, (len(data) - at) // step)):
        _, kind, values, value_at = struct.unpack_from(order + "HH" + 2 * number, data, at + place * step)
        size = values * _SIZES.get(kind, 0)
        if size > inside:
            if value_at + size > len(data):
                return
            yield size


def _jpeg_tags(data: bytes) -> tuple[bytes, bytes]:
    """EXIF, from all its segments, and the index of several pictures, as Pillow reads them."""
    exif: list[bytes] = []
    index = b""
    for marker, content in _segments(data):
        if marker == _SCAN:
            break
        if marker == _APP1 and content.startswith(_EXIF):
            exif.append(content[len(_EXIF) :] if exif else content)
        elif marker == _APP2 and content.startswith(b"MPF\0"):
            index = content[4:]
    return b"".join(exif), index


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(marker, content) of each segment of a JPEG's first picture. Stray bytes are passed over, as decoders do."""
    at = 2
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 4 and (marker := data[at + 1]) != _END:
        if marker == 0xFF:
            at += 1
        elif marker in _WITHOUT_CONTENT:
            at += 2
        else:
            end = at + 2 + max(int.from_bytes(data[at + 2 : at + 4]), 2)
            yield marker, data[at + 4 : end]
            at = end
