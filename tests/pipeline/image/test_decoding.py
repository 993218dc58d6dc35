import io
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import BAD
from vlmixer.pipeline.image import decoding
from vlmixer.pipeline.image.decoding import ImageRejected, crop_jpeg, decode
from vlmixer.pipeline.image.photos import decode_photo
from vlmixer.pipeline.image.readers.base import ImageRef

LIMIT = 1e6
BLOCKS = np.zeros((3, 5, 3), np.uint8)
BLOCKS[0, 0], BLOCKS[0, 4], BLOCKS[2, 0] = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(data, limit=LIMIT):
    pixels = decode(data, max_pixels=limit)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    return pixels


def rejected(data, limit=LIMIT):
    with pytest.raises(ImageRejected) as caught:
        decode(data, max_pixels=limit)
    assert caught.value.reason in BAD
    return caught.value.reason


def noise(height=24, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_pixel_by_pixel(kind):
    assert np.array_equal(decoded(encoded(BLOCKS, kind)), BLOCKS)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF"])
def test_lossy_formats_nearly(kind):
    smooth = np.add.outer(np.arange(40), np.arange(50))[..., None].repeat(3, axis=2).astype(np.uint8)
    found = decoded(encoded(smooth, kind)).astype(int)
    assert found.shape == smooth.shape
    assert np.abs(found - smooth).mean() < 3


def test_one_pixel():
    assert decoded(encoded(np.full((1, 1, 3), 7, np.uint8), "PNG")).tolist() == [[[7, 7, 7]]]


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda pixels: pixels),
        (2, lambda pixels: pixels[:, ::-1]),
        (3, lambda pixels: pixels[::-1, ::-1]),
        (4, lambda pixels: pixels[::-1]),
        (5, lambda pixels: pixels.transpose(1, 0, 2)),
        (6, lambda pixels: np.rot90(pixels, -1)),
        (7, lambda pixels: np.rot90(pixels, 2).transpose(1, 0, 2)),
        (8, lambda pixels: np.rot90(pixels, 1)),
        (9, lambda pixels: pixels),
    ],
)
def test_exif_orientation_is_applied(orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(decoded(encoded(BLOCKS, "PNG", exif=exif)), upright(BLOCKS))
    assert decoded(encoded(BLOCKS, "JPEG", exif=exif)).shape == upright(BLOCKS).shape


def test_cmyk():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert np.abs(decoded(encoded(image, "JPEG", quality=100))[4, 4].astype(int) - [255, 0, 0]).max() < 5


def test_grey():
    assert decoded(encoded(np.array([[0, 100, 255]], np.uint8), "PNG")).tolist() == [[[0] * 3, [100] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_its_high_byte(kind):
    values = np.array([[0, 255, 256, 0x1234, 0xFFFF]], np.uint16)
    assert decoded(encoded(values, kind))[0, :, 0].tolist() == [0, 0, 1, 0x12, 0xFF]


def test_numbers_that_are_none_are_black():
    assert decoded(encoded(np.array([[np.nan, 7.0, np.inf]], np.float32), "TIFF"))[0, 0].tolist() == [0, 0, 0]


def test_one_bit():
    assert decoded(encoded(Image.new("1", (2, 1), 1), "PNG")).tolist() == [[[255] * 3, [255] * 3]]


def test_palette():
    image = Image.fromarray(BLOCKS).quantize(8)
    assert np.array_equal(decoded(encoded(image, "PNG")), np.asarray(image.convert("RGB")))


def test_transparency_lies_on_white():
    pixels = np.array([[[255, 0, 0, 255], [255, 0, 0, 0], [0, 0, 0, 128]]], np.uint8)
    assert decoded(encoded(pixels, "PNG"))[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127]]
    grey = Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA")
    assert decoded(encoded(grey, "PNG"))[0].tolist() == [[9, 9, 9], [255, 255, 255]]


def test_a_transparent_colour_lies_on_white():
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    assert decoded(encoded(image, "PNG", transparency=0))[0].tolist() == [[255, 255, 255], [40, 50, 60]]
    assert decoded(encoded(BLOCKS, "PNG", transparency=(255, 0, 0)))[0, 0].tolist() == [255, 255, 255]


def test_of_an_animation_the_first_frame():
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "lime")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(decoded(data), np.asarray(frames[0]))


@pytest.mark.parametrize(
    "data",
    [b"just a line of text\n", b"\0" * 100, b"<svg/>", b"%PDF-1.4", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"x"],
)
def test_what_is_no_image(data):
    assert rejected(data) == "not_an_image"


def test_no_program_is_started_for_postscript():
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
    assert rejected(page) == "not_an_image"


def test_an_empty_file():
    assert rejected(b"") == "empty_file"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_an_image_that_breaks_off(kind):
    data = encoded(noise(), kind)
    assert rejected(data[: len(data) * 2 // 3]) == "truncated_image"


def png(width, height):
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def bmp(width, height):
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("make", [png, bmp])
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_an_image_without_pixels(make, size):
    assert rejected(make(*size)) == "zero_pixels"


def test_the_limit_of_pixels_is_of_the_image_as_it_is():
    data = encoded(noise(10, 20), "PNG")
    assert decoded(data, limit=200).shape == (10, 20, 3)
    assert rejected(data, limit=199) == "too_many_pixels"


def test_a_bomb_is_refused_before_its_pixels_are_looked_at():
    """There are no pixels in these files: decoding them would say that they are truncated."""
    assert rejected(png(10, 10)) == "truncated_image"
    assert rejected(png(9000, 9000)) == "too_many_pixels"
    assert rejected(png(60_000, 60_000)) == "too_many_pixels"
    assert rejected(bmp(60_000, 60_000)) == "too_many_pixels"
    assert rejected(png(1, 65_535)) == "truncated_image"
    assert rejected(png(1, 65_536)) == rejected(png(65_536, 1)) == "too_many_pixels"


def test_bytes_of_all_kinds_are_decoded_or_rejected_and_nothing_else():
    rng = random.Random(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    seeds = [encoded(noise(), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "PPM")]
    seeds.append(encoded(noise(), "JPEG", exif=exif))
    outcomes = set()
    for number in range(400):
        data = bytearray(seeds[number % len(seeds)])
        for _ in range(rng.choice([1, 1, 3, 20])):
            data[rng.randrange(min(len(data), rng.choice([40, 300, 10_000])))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        try:
            decoded(bytes(data))
            outcomes.add("decoded")
        except ImageRejected as error:
            outcomes.add(error.reason)
    assert outcomes <= {"decoded", *BAD}
    assert {"decoded", "truncated_image", "not_an_image"} <= outcomes


def test_nothing_is_warned_of():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decoded(encoded(BLOCKS, "JPEG", exif=exif))
        assert rejected(png(10_000, 10_000), limit=1e9) == "truncated_image"


def cropped(pixels, box, longest=160):
    with Image.open(io.BytesIO(crop_jpeg(pixels, np.array(box, np.float32), longest))) as image:
        assert image.format == "JPEG"
        return np.asarray(image)


@pytest.mark.parametrize(
    ("box", "longest", "size"),
    [
        ((10, 10, 50, 30), 160, (40, 20)),
        ((10.2, 10.7, 50.1, 30.5), 160, (41, 21)),
        ((0, 0, 100, 60), 50, (50, 30)),
        ((-5, -5, 500, 500), 160, (100, 60)),
        ((20, 20, 20, 20), 160, (1, 1)),
        ((30, 30, 20, 20), 160, (1, 1)),
        ((99.5, 59.5, 100, 60), 160, (1, 1)),
        ((100, 60, 100, 60), 160, (1, 1)),
        ((300, 10, 400, 20), 160, (1, 10)),
        ((0, 5, 100, 6), 10, (10, 1)),
    ],
)
def test_sizes_of_crops(box, longest, size):
    found = cropped(noise(60, 100), box, longest)
    assert (found.shape[1], found.shape[0]) == size


def test_a_crop_shows_the_region():
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:30, 20:36] = (200, 30, 30)
    assert np.abs(cropped(pixels, (20, 10, 36, 30)).astype(int) - (200, 30, 30)).max() < 8


@pytest.mark.parametrize("longest", [40, 100, 160, 220])
def test_a_smaller_crop_keeps_what_it_can_show_and_makes_up_nothing(longest):
    across, down = np.meshgrid(np.arange(480), np.arange(360))
    waves = 128 + 60 * np.sin(
        (across + 2 * down) * 2 * np.pi * longest / 480 / 12
    )  # at least five pixels of a crop long
    pixels = waves.round().astype(np.uint8)[..., None].repeat(3, -1)
    best = Image.fromarray(pixels).resize((longest, longest * 3 // 4), Image.Resampling.LANCZOS)
    found = cropped(pixels, (0, 0, 480, 360), longest)
    assert np.abs(found.astype(float) - np.asarray(best, float)).mean() < 4
    fine = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (180, 240))[..., None].repeat(3, -1)
    assert np.abs(cropped(fine, (0, 0, 480, 360), longest).astype(float) - 127.5).max() < 20


def test_equal_crops_are_equal_bytes():
    box = np.array([1, 2, 30, 20], np.float32)
    assert crop_jpeg(noise(), box, 16) == crop_jpeg(noise(), box, 16)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("size", [(16_000, 1), (1, 16_000)])
def test_very_thin_images(kind, size):
    assert decoded(encoded(Image.new("RGB", size, "white"), kind)).shape == (size[1], size[0], 3)


def test_thirty_thousand_by_one():
    assert decoded(encoded(Image.new("RGB", (30_000, 1), "red"), "PNG")).shape == (1, 30_000, 3)
    assert cropped(np.zeros((1, 30_000, 3), np.uint8), (0, 0, 30_000, 1)).shape == (1, 160, 3)


def test_the_ending_of_the_name_does_not_count_and_more_kinds_of_animation():
    """Files come as bytes: a PNG called .jpg is a PNG. Of animated WebP and PNG the first frame counts, as of GIF."""
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    for kind in ("WEBP", "PNG"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert np.array_equal(decoded(data), np.asarray(frames[0]))


def test_grey_cmyk_and_colour_of_sixteen_bits():
    wide = np.array([[0, 0x1234, 0xFFFF]], np.uint16)
    assert decoded(encoded(wide, "PNG"))[0, :, 1].tolist() == [0, 0x12, 0xFF]
    assert decoded(encoded(Image.new("CMYK", (2, 2), (0, 0, 0, 0)), "TIFF")).tolist() == [[[255] * 3] * 2] * 2


@pytest.mark.parametrize("error", [MemoryError(), OSError("broken data stream"), ValueError("no decoder object")])
def test_an_image_is_not_bad_where_memory_is_too_small(error, monkeypatch):
    def fail(image):
        raise error

    monkeypatch.setattr(decoding, "_to_rgb", fail)
    assert rejected(encoded(BLOCKS, "PNG")) in ("truncated_image", "not_an_image")
    monkeypatch.setattr(decoding, "BYTES_PER_PIXEL", 1 << 45)
    with pytest.raises(MemoryError, match=r"decoding an image may take \d.* MB"):
        decode(encoded(BLOCKS, "PNG"), max_pixels=LIMIT)
    message = r"^a\.tar 1\.png: out of memory \(decoding .*\)\. Give .* lower images\.max_megapixels; .* resume\.$"
    with pytest.raises(UserError, match=message):
        decode_photo(ImageRef("a.tar", "1.png"), encoded(BLOCKS, "PNG"), LIMIT)
