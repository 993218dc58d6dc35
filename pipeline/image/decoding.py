"""Bytes of an image file → upright RGB pixels, or the reason why not; and crops of regions."""

import io
import struct
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

CROP_QUALITY = 85

Image.init()
# Pillow's other formats start another program (EPS: Ghostscript) or contain no pixels of their own.
_FORMATS = tuple(
    name
    for name in "AVIF BMP DIB GIF ICO JPEG JPEG2000 MPO PCX PNG PPM SGI TGA TIFF WEBP".split()
    if name in Image.OPEN
)

# Where a format's header has the size: first bytes, place, layout. Pillow rejects a size of zero as an unknown format.
_SIZE_FIELDS = ((b"\x89PNG\r\n\x1a\n", 16, ">II"), (b"BM", 18, "<ii"), (b"GIF8", 6, "<HH"))


class ImageRejected(Exception):
    """The image is not used; `reason` is one of artifacts.rejects.REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(data: bytes, *, max_pixels: float) -> np.ndarray:
    """Upright RGB pixels of the file's first frame, uint8 (height, width, 3), read-only.

    Applies EXIF orientation, puts transparency on white, keeps the high byte of 16-bit grey. Raises ImageRejected for
    data that is empty, not an image, truncated, without pixels or larger than `max_pixels`.
    """
    if not data:
        raise ImageRejected("empty_file")
    try:
        # Pillow warns of decompression bombs by its own limit. Ours is checked before any pixel is decoded.
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ImageRejected("too_many_pixels", f"{width}×{height}")
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except ImageRejected:
        raise
    except UnidentifiedImageError:
        reason = "zero_pixels" if _claims_no_pixels(data) else "not_an_image"
        raise ImageRejected(reason, f"begins with {data[:8]!r}") from None
    except Image.DecompressionBombError as error:
        raise ImageRejected("too_many_pixels", str(error)) from None
    except (OSError, EOFError) as error:
        raise ImageRejected("truncated_image", str(error)) from None
    except Exception as error:  # Pillow's plugins raise anything on bytes that only resemble their format.
        raise ImageRejected("not_an_image", f"{type(error).__name__}: {error}") from None


def _claims_no_pixels(data: bytes) -> bool:
    return any(
        data.startswith(magic) and len(data) >= place + struct.calcsize(layout)
        and 0 in struct.unpack_from(layout, data, place)
        for magic, place, layout in _SIZE_FIELDS
    )  # fmt: skip


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        scale = 256 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 1
        return Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        on_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(on_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def crop_jpeg(image: np.ndarray, box: np.ndarray, longest: int) -> bytes:
    """JPEG of the region `box` (xyxy, pixels of `image`), scaled down to `longest` pixels on its longer side.

    The box is clipped to the image. The region has at least one pixel.
    """
    height, width = image.shape[:2]
    left, top = min(max(int(np.floor(box[0])), 0), width - 1), min(max(int(np.floor(box[1])), 0), height - 1)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    crop = Image.fromarray(np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)]))
    crop.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=None)
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
