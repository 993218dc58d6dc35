"""Files that take far more than their pixels need are refused before they are decoded; sound ones never are."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from tests.pipeline.image.test_decoding import decoded, encoded, noise, rejected

from vlmixer.pipeline.image.bombs import MAX_SCANS, has_bomb, why_bomb

TURNED = Image.Exif()
TURNED[0x0112] = 6


def shared(tags=60, room=5000, order="<", orientation=6):
    """A directory whose tags have the same bytes as their values, after one with the orientation."""
    value = 8 + 2 + 12 * tags + 4
    entries = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    entries += b"".join(struct.pack(order + "HHII", 0x9000 + tag, 7, room, value) for tag in range(tags - 1))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, tags)
    return head + entries + bytes(4 + room)


def big(tags=60, room=5000):
    """The same as a BigTIFF."""
    value = 16 + 8 + 20 * tags + 8
    entries = b"".join(struct.pack("<HHQQ", 0x9000 + tag, 7, room, value) for tag in range(tags))
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, tags) + entries + bytes(8 + room)


def jpeg(*segments):
    plain = encoded(noise(), "JPEG")
    written = [before + b"\xff" + kind + struct.pack(">H", len(part) + 2) + part for before, kind, part in segments]
    return plain[:2] + b"\xff\xfe\0\4hi" + b"".join(written) + plain[2:]


@pytest.mark.parametrize("data", [shared(), shared(order=">"), big()])
def test_a_tiff_whose_tags_share_their_values(data):
    assert "same bytes" in why_bomb(data)
    assert rejected(data) == "not_an_image"


@pytest.mark.parametrize("stray", [b"", b"xyz", b"\xff\xff", b"\xff\x00", b"\xff\xd0"])
def test_a_jpeg_whose_tags_share_their_values(stray):
    exif = shared()
    halves = [(stray, b"\xe1", b"Exif\0\0" + half) for half in (exif[:3000], exif[3000:])]
    assert rejected(jpeg(*halves)) == "not_an_image"
    assert rejected(jpeg((stray, b"\xe2", b"MPF\0" + exif))) == "not_an_image"
    assert decoded(jpeg(*halves[:1])).shape == (30, 24, 3)  # cut off, and read as far as that


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_exif_whose_tags_share_their_values_is_not_read(kind):
    assert decoded(encoded(noise(), kind, exif=b"Exif\0\0" + shared(tags=3))).shape == (30, 24, 3)
    assert decoded(encoded(noise(), kind, exif=b"Exif\0\0" + shared())).shape == (24, 30, 3)


def test_exif_that_begins_again_and_again_is_not_read():
    sound = TURNED.tobytes()
    assert not has_bomb({"exif": sound})
    assert not has_bomb({"exif": b"Exif\0\0" + sound})
    assert has_bomb({"exif": b"Exif\0\0" * 100 + sound})
    text = {"Raw profile type exif": "\nexif\n8\n" + shared().hex()}
    assert has_bomb(text)
    assert not has_bomb({"Raw profile type exif": "\nexif\n8\nxyz"})


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_sound_files(kind):
    assert why_bomb(encoded(noise(), kind)) == ""
    if kind in ("TIFF", "JPEG", "PNG", "WEBP"):
        data = encoded(noise(), kind, exif=TURNED)
        assert why_bomb(data) == ""
        assert not has_bomb(Image.open(io.BytesIO(data)).info)


def test_a_jpeg_with_too_many_scans():
    plain = encoded(noise(), "JPEG", progressive=True)
    start = plain.rfind(b"\xff\xc4", 0, plain.rindex(b"\xff\xda"))
    has = plain.count(b"\xff\xda")
    allowed, beyond = (plain[:-2] + plain[start:-2] * (MAX_SCANS - has + more) + b"\xff\xd9" for more in (0, 1))
    assert decoded(allowed).shape == (24, 30, 3)
    assert rejected(beyond) == "not_an_image"
    assert "100 scans" in why_bomb(beyond)


def test_other_data_in_a_jpeg_is_no_scan():
    comment = b"\xff\xda" * (MAX_SCANS + 1)
    data = jpeg((b"", b"\xfe", comment)) + comment
    assert np.array_equal(decoded(data), decoded(jpeg()))
