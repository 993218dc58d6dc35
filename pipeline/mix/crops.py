"""The picture of a sample: the crops of its patches in one JPEG, so that every sample has the same members.

Loaders that expect a picture with each text (open_clip, timm) use it unchanged; others cut it by the patches' `crop`.
"""

import io
from collections.abc import Sequence

from PIL import Image

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.decoding import ImageRejected, decode

WIDTH = 1024
"""The width of a row of crops, in pixels. Further crops start another row."""
QUALITY = 90
MAX_PIXELS = 1e8

Place = tuple[int, int, int, int]


def pack_crops(crops: Sequence[bytes]) -> tuple[bytes, list[Place]]:
    """A JPEG of all crops, and the place of each crop in it, xyxy in pixels.

    A single crop is returned unchanged. Without crops, the picture is one grey pixel. Raises UserError for a crop that
    cannot be decoded.
    """
    pictures = [_decoded(crop) for crop in crops]
    places: list[Place] = []
    left = top = bottom = 0
    for picture in pictures:
        if left and left + picture.width > WIDTH:
            left, top = 0, bottom
        places.append((left, top, left + picture.width, top + picture.height))
        left += picture.width
        bottom = max(bottom, top + picture.height)
    if len(crops) == 1:
        return crops[0], places
    size = (max((place[2] for place in places), default=1), max(bottom, 1))
    whole = Image.new("RGB", size, (128, 128, 128))
    for picture, place in zip(pictures, places, strict=True):
        whole.paste(picture, place[:2])
    buffer = io.BytesIO()
    whole.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue(), places


def _decoded(crop: bytes) -> Image.Image:
    try:
        return Image.fromarray(decode(crop, max_pixels=MAX_PIXELS))
    except ImageRejected as rejected:
        raise UserError(
            f"a crop cannot be decoded ({rejected}). Run `vlmixer verify`, then `vlmixer index … --overwrite`."
        ) from None
