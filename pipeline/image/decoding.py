"""Bytes of an image file → upright RGB pixels, or the reason why not; and crops of regions."""

import io
import struct
import warnings
from importlib.util import find_spec

import numpy as np
from PIL import Image, UnidentifiedImageError

from vlmixer.pipeline.image.bombs import has_bomb, why_bomb
from vlmixer.pipeline.image.formats import MAGIC_BYTES, describe_undecodable, format_of
from vlmixer.pipeline.image.repair import jpeg_endings, without_side_chunks

BYTES_PER_PIXEL = 24
"""Most that decoding takes: a frame with alpha, its background, both combined, and RGB twice."""
MAX_SIDE = 65_535
"""Pixels of a side, as many as JPEG allows. Rows of one pixel take 17 bytes for each, and more to be resized."""
SPARE_BYTES = 64 << 20
"""What decoding may take for anything else."""

CROP_QUALITY = 85
REDUCING_GAP = 1.0
"""Crops at least twice too large are first reduced by a whole factor: a third of the time less, for 0.1 dB."""

Image.init()
# Pillow's other formats start another program (EPS: Ghostscript) or contain no pixels of their own.
_FORMATS = tuple(
    name
    for name in "AVIF BMP DIB GIF ICO JPEG JPEG2000 MPO PCX PNG PPM SGI TGA TIFF WEBP".split()
    if name in Image.OPEN
)

# Where a format's header has the size: first bytes, place, layout. Pillow rejects a size of zero as an unknown format.
_SIZE_FIELDS = ((b"\x89PNG\r\n\x1a\n", 16, ">II"), (b"BM", 18, "<ii"), (b"GIF8", 6, "<HH"))


_ORIENTATION = 0x0112
_METHODS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageRejected(Exception):
    """The image is not used; `reason` is one of artifacts.rejects.REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


def decode(data: bytes, *, max_pixels: float) -> np.ndarray:
    """Upright RGB pixels of the file's first frame, uint8 (height, width, 3), read-only.

    Applies EXIF orientation, puts transparency on white, keeps the high byte of 16-bit grey. Tolerates damage that
    leaves the pixels whole. Raises ImageRejected for data that is empty, not an image, truncated, without pixels or
    larger than `max_pixels` or MAX_SIDE; MemoryError if the process cannot have BYTES_PER_PIXEL for the image's pixels.
    """
    if not data:
        raise ImageRejected("empty_file")
    if bomb := why_bomb(data):
        raise ImageRejected("not_an_image", bomb)
    try:
        return _decode(data, max_pixels)
    except ImageRejected as rejected:
        repaired = _repaired(data, rejected.reason, max_pixels)
        if repaired is None:
            raise
        return repaired


def decoders() -> list[str]:
    """The installed packages that decode images: pixels depend on their versions."""
    return ["pillow", *(["pillow-heif"] if find_spec("pillow_heif") else [])]


def _repaired(data: bytes, reason: str, max_pixels: float) -> np.ndarray | None:
    """The pixels of a file that is damaged elsewhere, None if its pixels are damaged."""
    if reason not in ("not_an_image", "truncated_image"):
        return None
    try:
        plain = without_side_chunks(data)
        if plain != data:
            return _decode(plain, max_pixels)
        endings = jpeg_endings(data) if reason == "truncated_image" else []
        completed = [_decode(whole, max_pixels) for whole in endings]
    except ImageRejected:
        return None
    return completed[0] if completed and np.array_equal(completed[0], completed[1]) else None


def _decode(data: bytes, max_pixels: float) -> np.ndarray:
    pixels = 0
    formats = _FORMATS
    if format_of(data[:MAGIC_BYTES]) in ("heic", "heif") and _register_heif():
        formats = ("HEIF",)
    try:
        # Pillow warns of decompression bombs by its own limit. Ours is checked before any pixel is decoded.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=formats) as image:
            width, height = image.size
            pixels = width * height
            if pixels > max_pixels or max(width, height) > MAX_SIDE:
                raise ImageRejected("too_many_pixels", f"{width}×{height}")
            return np.asarray(_to_rgb(_upright(image)))
    except ImageRejected:
        raise
    except UnidentifiedImageError:
        reason = "zero_pixels" if _claims_no_pixels(data) else "not_an_image"
        rejected = ImageRejected(reason, describe_undecodable(data[:MAGIC_BYTES]))
    except Image.DecompressionBombError as error:
        raise ImageRejected("too_many_pixels", str(error)) from None
    except (OSError, EOFError) as error:
        rejected = ImageRejected("truncated_image", str(error))
    except Exception as error:  # Pillow's plugins raise anything on bytes that only resemble their format.
        rejected = ImageRejected("not_an_image", f"{type(error).__name__}: {error}")
    _check_memory(pixels * BYTES_PER_PIXEL + SPARE_BYTES)
    raise rejected


def _check_memory(size: int) -> None:
    """Raises MemoryError if the process cannot have so many bytes. Then decoders fail in many ways, and say nothing
    about the image."""
    try:
        np.empty(size, np.uint8)
    except MemoryError:
        raise MemoryError(f"decoding an image may take {size / 1e6:,.0f} MB") from None


def _register_heif() -> bool:
    """Let Pillow decode HEIC and HEIF, if the package for it is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _upright(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied. Anything else in EXIF may be damaged."""
    if has_bomb(image.info):
        return image
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # Pillow raises anything on damaged EXIF.
        return image
    method = _METHODS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _claims_no_pixels(data: bytes) -> bool:
    return any(
        data.startswith(magic) and len(data) >= place + struct.calcsize(layout)
        and 0 in struct.unpack_from(layout, data, place)
        for magic, place, layout in _SIZE_FIELDS
    )  # fmt: skip


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        scale = _scale(image.mode, float(values.max(initial=0)))
        return Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        on_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(on_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def _scale(mode: str, largest: float) -> float:
    """What grey values are divided by to get 0 … 255: they are fractions, bytes, or integers of 16 or 31 bits."""
    if mode == "F" and largest <= 1:
        return 1 / 255
    if mode.startswith("I;16") or 255 < largest <= 65_535:
        return 256
    return 1 if largest <= 255 else 2**23


def crop_jpeg(image: np.ndarray, box: np.ndarray, longest: int) -> bytes:
    """JPEG of the region `box` (xyxy, pixels of `image`), scaled down to `longest` pixels on its longer side.

    The box is clipped to the image. The region has at least one pixel.
    """
    height, width = image.shape[:2]
    left, top = min(max(int(np.floor(box[0])), 0), width - 1), min(max(int(np.floor(box[1])), 0), height - 1)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    crop = Image.fromarray(np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)]))
    crop.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=REDUCING_GAP)
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=CROP_QUALITY)
    return buffer.getvalue()


def grey_jpeg(box: np.ndarray) -> bytes:
    """Plain grey JPEG in the shape of the region, at most 16 pixels long: the crop of a region without a photo."""
    width, height = np.maximum(box[2:] - box[:2], 1)
    scale = 16 / max(width, height)
    shape = max(round(float(height * scale)), 1), max(round(float(width * scale)), 1)
    whole = np.array([0, 0, shape[1], shape[0]], np.float32)
    return crop_jpeg(np.full((*shape, 3), 160, np.uint8), whole, 16)
