"""Bytes of an image file → upright RGB pixels, or the reason why not; and crops of regions."""

import io
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

CROP_QUALITY = 85


class ImageRejected(Exception):
    """The image is not used; `reason` is one of artifacts.rejects.REASONS."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


def decode(data: bytes, *, max_pixels: float) -> np.ndarray:
    """Upright RGB pixels, uint8 (height, width, 3), of the file's first frame.

    EXIF orientation is applied, transparency lies on white, 16-bit grey keeps its high byte.
    Raises ImageRejected for what is empty, no image, truncated, without pixels or larger than `max_pixels`.
    """
    if not data:
        raise ImageRejected("empty_file")
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            # Pillow warns of bombs by its own limit; ours is checked below, before any pixel is decoded.
            warnings.simplefilter("ignore")
            width, height = image.size
            if not width or not height:
                raise ImageRejected("zero_pixels", f"{width}×{height}")
            if width * height > max_pixels:
                raise ImageRejected("too_many_pixels", f"{width}×{height}")
            return np.asarray(_to_rgb(ImageOps.exif_transpose(image)))
    except UnidentifiedImageError:
        raise ImageRejected("not_an_image", f"begins with {data[:8]!r}") from None
    except Image.DecompressionBombError as error:
        raise ImageRejected("too_many_pixels", str(error)) from None
    except (OSError, EOFError) as error:
        raise ImageRejected("truncated_image", str(error)) from None
    except (ValueError, SyntaxError, IndexError, TypeError, KeyError, ArithmeticError, AttributeError) as error:
        # What Pillow's format plugins let through on bytes that only look like their format.
        zero = "zero" in str(error) or "must be > 0" in str(error)
        raise ImageRejected("zero_pixels" if zero else "not_an_image", f"{type(error).__name__}: {error}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        scale = 256 if image.mode.startswith("I;16") or values.max(initial=0) > 255 else 1
        return Image.fromarray(np.clip(values / scale, 0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        on_white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(on_white, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def crop_jpeg(image: np.ndarray, box: np.ndarray, longest: int) -> bytes:
    """JPEG of the region `box` (xyxy, pixels of `image`), scaled down to `longest` pixels on its longer side."""
    height, width = image.shape[:2]
    left, top = max(int(np.floor(box[0])), 0), max(int(np.floor(box[1])), 0)
    right, bottom = min(int(np.ceil(box[2])), width), min(int(np.ceil(box[3])), height)
    crop = Image.fromarray(np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)]))
    crop.thumbnail((longest, longest), Image.Resampling.BICUBIC, reducing_gap=None)
    buffer = io.BytesIO()
    crop.save(buffer, "JPEG", quality=CROP_QUALITY)
    return buffer.getvalue()
