"""Images that are damaged where their pixels are not: they are decoded, and the pixels are right."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from vlmixer.pipeline.image.decoding import ImageRejected, decode

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
PIXELS[:, :30] = (200, 30, 30)


def saved(kind, pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name, content, checksum=None):
    checksum = zlib.crc32(name + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def with_chunk(data, added):
    """The PNG with a chunk behind its header."""
    return data[:33] + added + data[33:]


@pytest.mark.parametrize(
    "added",
    [
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 100), checksum=1),
        chunk(b"pHYs", struct.pack(">IIB", 1, 1, 0), checksum=1),
        chunk(b"tEXt", b"Comment\0words", checksum=1),
        chunk(b"gAMA", b"\0"),
        chunk(b"cHRM", b"\0\0\0\1"),
        chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (3 << 20))),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(b"x" * (3 << 20))),
        chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff broken"),
        chunk(b"eXIf", b"nonsense", checksum=1),
    ],
)
def test_a_png_with_a_broken_side_chunk(added):
    assert np.array_equal(decode(with_chunk(saved("PNG"), added), max_pixels=1e6), PIXELS)


def test_a_png_with_a_broken_side_chunk_is_still_turned_upright_and_transparent():
    exif = Image.Exif()
    exif[0x0112] = 3
    data = with_chunk(saved("PNG", exif=exif), chunk(b"pHYs", b"", checksum=1))
    assert np.array_equal(decode(data, max_pixels=1e6), PIXELS[::-1, ::-1])
    clear = np.dstack([PIXELS, np.zeros((40, 60), np.uint8)])
    data = with_chunk(saved("PNG", clear), chunk(b"gAMA", b"\0"))
    assert (decode(data, max_pixels=1e6) == 255).all()


def test_damaged_pixels_of_a_png_stay_rejected():
    data = with_chunk(saved("PNG"), chunk(b"gAMA", b"\0"))
    for damaged in (data[: len(data) // 2], data.replace(b"IDAT\x78", b"IDAT\x00")):
        with pytest.raises(ImageRejected):
            decode(damaged, max_pixels=1e6)


@pytest.mark.parametrize("value", [(-1, 0), (1, 0), (0, 0)])
def test_impossible_numbers_in_exif_do_not_matter(value):
    rational = struct.pack(">ii", *value)
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 6, 0) + struct.pack(">HHII", 0x829A, 10, 1, 8 + 2 + 24 + 4)
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", 2) + entries + b"\0\0\0\0" + rational
    found = decode(saved("JPEG", exif=exif), max_pixels=1e6)
    assert found.shape == (60, 40, 3)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 95, "subsampling": 0}])
def test_a_jpeg_without_its_end_marker_is_whole(options):
    whole = saved("JPEG", **options)
    expected = decode(whole, max_pixels=1e6)
    for missing in (1, 2):
        assert np.array_equal(decode(whole[:-missing], max_pixels=1e6), expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_that_lacks_pixels_stays_rejected(options):
    whole = saved("JPEG", **options)
    for kept in (len(whole) // 3, len(whole) // 2, len(whole) * 3 // 4, len(whole) * 19 // 20, len(whole) - 12):
        with pytest.raises(ImageRejected, match="truncated_image"):
            decode(whole[:kept], max_pixels=1e6)


@pytest.mark.parametrize(
    "values",
    [
        np.linspace(0, 1, 256, dtype=np.float32),
        np.linspace(0, 255, 256, dtype=np.float32),
        np.linspace(0, 65_535, 256, dtype=np.int32),
        np.linspace(0, 2**31 - 1, 256).astype(np.int32),
    ],
)
def test_grey_of_any_number_format_goes_from_black_to_white(values):
    data = saved("TIFF", np.tile(values, (8, 1)))
    found = decode(data, max_pixels=1e6)[0, :, 0].astype(int)
    assert found[0] == 0
    assert (np.diff(found) >= 0).all()
    assert found[-1] == 255
    assert len(set(found.tolist())) > 100


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\0\0\0\x20ftypheic" + b"\0" * 20, "HEIC, which needs the package pillow-heif"),
        (b"8BPS\0\1" + b"\0" * 20, "PSD, a Photoshop file: convert it"),
        (b"%PDF-1.7\n", "PDF, a document"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG, a vector drawing"),
        (b"\0\x05\x16\x07" + b"\0" * 30, "the resource fork of a Mac file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><html>", "HTML, a web page"),
        (b"hello", "begins with b'hello'"),
    ],
)
def test_what_cannot_be_decoded_is_named(data, told):
    with pytest.raises(ImageRejected, match="not_an_image") as caught:
        decode(data, max_pixels=1e6)
    assert told in caught.value.detail
