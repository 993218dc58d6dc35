"""Each odd kind of image through stage detect: decoded right or rejected with a reason, its neighbours untouched."""

import io
import json
import struct
import textwrap
import zlib
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import Corpus, run

# Finds the red pixels; its feature is how many pixels the image has, and their mean colour.
DETECTOR = """
    import numpy as np
    from vlmixer.pipeline.image.detectors.base import Detections, no_detections

    class Red:
        labels = ("dog",)
        feature_dim = 4

        def __init__(self, weights, device, score_threshold):
            pass

        def detect(self, images):
            return [self.one(image) for image in images]

        def one(self, image):
            red = (image[..., 0] > 200) & (image[..., 1] < 60) & (image[..., 2] < 60)
            rows, columns = np.nonzero(red)
            if not len(rows):
                return no_detections(4)
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            feature = np.array([[image.size / 1000, *image.reshape(-1, 3).mean(axis=0)]], np.float32)
            return Detections(np.array([box], np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), feature)
"""

# A red block in the upper right corner of a 40 × 30 grey picture.
PIXELS = np.full((30, 40, 3), 128, np.uint8)
PIXELS[:10, 28:] = (255, 0, 0)
BOX = [28, 0, 40, 10]


def saved(image, kind, **options) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    held = Image.Exif()
    held[0x0112] = orientation
    return held


def bomb() -> bytes:
    """A PNG of a gigapixel in a few bytes."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 10**6))
        + chunk(b"IEND", b"")
    )


def right_ones() -> dict[str, tuple[bytes, list[int], tuple[int, int]]]:
    """Name → (bytes, box of the red block, width and height), of what is to be decoded."""
    size = (40, 30)
    alpha = np.dstack([PIXELS, np.full((30, 40), 255, np.uint8)])
    palette = Image.fromarray(PIXELS).quantize(8)
    frames = [Image.fromarray(PIXELS), Image.new("RGB", size, "blue")]
    # As a camera stores it that was turned: the pixels lie on their side, and the tag says how to turn them back.
    on_its_side = np.rot90(PIXELS, 1)
    return {
        "plain.png": (saved(PIXELS, "PNG"), BOX, size),
        "wrong-ending.jpg": (saved(PIXELS, "PNG", compress_level=0), BOX, size),
        "no-ending": (saved(PIXELS, "BMP"), BOX, size),
        "animated.gif": (saved(frames[0], "GIF", save_all=True, append_images=frames[1:]), BOX, size),
        "animated.webp": (saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True), BOX, size),
        "cmyk.tif": (saved(Image.fromarray(PIXELS).convert("CMYK"), "TIFF"), BOX, size),
        "palette.png": (saved(palette, "PNG"), BOX, size),
        "alpha.png": (saved(alpha, "PNG"), BOX, size),
        "turned.png": (saved(on_its_side, "PNG", exif=exif(6)), BOX, size),
        "upside-down.png": (saved(PIXELS[::-1, ::-1], "PNG", exif=exif(3)), BOX, size),
        "one-pixel.png": (saved(np.array([[[255, 0, 0]]], np.uint8), "PNG"), [0, 0, 1, 1], (1, 1)),
        "line.png": (saved(np.full((1, 30_000, 3), (255, 0, 0), np.uint8), "PNG"), [0, 0, 30_000, 1], (30_000, 1)),
    }


def wrong_ones() -> dict[str, tuple[bytes, str]]:
    """Name → (bytes, reason) of what is to be rejected, or is decoded and has nothing red in it."""
    whole = saved(PIXELS, "JPEG", quality=95)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    return {
        "cut.jpg": (whole[: len(whole) * 19 // 20], "truncated_image"),
        "cut.png": (saved(noise, "PNG")[:4000], "truncated_image"),
        "empty.jpg": (b"", "empty_file"),
        "text.jpg": (b"<html>404 Not Found</html>", "not_an_image"),
        "zeros.jpg": (b"\0" * 5000, "not_an_image"),
        "bomb.png": (bomb(), "too_many_pixels"),
        "sixteen-bit.png": (saved(np.full((20, 20), 0x8000, np.uint16), "PNG"), "no_region"),
        "grey.jpg": (saved(np.full((20, 20), 9, np.uint8), "JPEG"), "no_region"),
        "cmyk.jpg": (saved(Image.new("CMYK", (9, 9), (9, 9, 9, 9)), "JPEG"), "no_region"),
    }


@pytest.fixture
def odd(corpus: Corpus) -> Corpus:
    """The odd images in a folder `odd`, the detector beside the configs."""
    (corpus.folder / "red.py").write_text(textwrap.dedent(DETECTOR))
    (corpus.folder / "odd").mkdir()
    right = {name: data for name, (data, _, _) in right_ones().items()}
    wrong = {name: data for name, (data, _) in wrong_ones().items()}
    for name, data in {**right, **wrong}.items():
        (corpus.folder / "odd" / name).write_bytes(data)
    (corpus.folder / "odd" / "folder.jpg").mkdir()
    return corpus


def detect(corpus: Corpus, out: str, *names: str) -> tuple[dict[str, dict], dict[str, str]]:
    """Regions and reasons, by name."""
    images = {"inputs": [str(corpus.folder / "odd" / name) for name in names], "detector": "red:Red", "crop_size": 20}
    config = corpus.write_config(f"{out}.yaml", images=images, max_bad_fraction=1.0)
    assert run(config, corpus.folder / out, command="detect") == 0
    parts = sorted((corpus.folder / out / "regions").glob("part-*"))
    rows = {Path(row["source"]).name: row for part in parts for row in pq.read_table(part).to_pylist()}
    rejects = (corpus.folder / out / "rejects").glob("detect-*")
    reasons = {Path(row["source"]).name: row["reason"] for part in rejects for row in pq.read_table(part).to_pylist()}
    counts = json.loads((corpus.folder / out / "regions" / "manifest.json").read_text())["counts"]["images"]
    assert counts["read"] == len(rows) + len(reasons)
    return rows, reasons


def test_every_odd_image_is_decoded_right_or_rejected_with_a_reason(odd: Corpus):
    rows, reasons = detect(odd, "all", "*", "*.jpg")
    expected = {name: reason for name, (_, reason) in wrong_ones().items()}
    assert reasons == {**expected, "folder.jpg": "unreadable_file"}
    assert set(rows) == set(right_ones())
    for name, (_, box, (width, height)) in right_ones().items():
        row = rows[name]
        assert (row["width"], row["height"]) == (width, height), name
        assert row["box"] == box, name
        with Image.open(io.BytesIO(row["crop"])) as crop:
            scale = min(20 / max(box[2] - box[0], box[3] - box[1]), 1)
            sides = [max(round((box[2] - box[0]) * scale), 1), max(round((box[3] - box[1]) * scale), 1)]
            assert list(crop.size) == sides, name
            assert np.abs(np.asarray(crop).astype(int).reshape(-1, 3).mean(axis=0) - (254, 0, 0)).max() < 12, name


def test_neighbours_in_the_batch_keep_their_exact_results(odd: Corpus):
    together, _ = detect(odd, "all", "*", "*.jpg")
    for name in ("alpha.png", "line.png", "turned.png"):
        alone, _ = detect(odd, name.partition(".")[0], name)
        assert alone[name] == together[name]
