"""The queries that a bank accepts: features, ids of patches, and pictures."""

import operator
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

import numpy as np

from vlmixer.artifacts.errors import CallError

if TYPE_CHECKING:
    from PIL import Image

Like = Union[np.ndarray, str, os.PathLike[str], "Image.Image"]
"""What patches can be compared with: a feature, (D,) float; the id of a patch; a picture, or the path of one."""

Embed = Callable[["Image.Image", str | None], np.ndarray]
"""Returns the feature, (D,) float, of what a picture shows, made by the bank's own detector. The second argument is the
concept to look for, if any. `vlmixer.pipeline.image.embedding.embedder` makes one; a bank itself knows no detector."""


def checked_k(k: int) -> int:
    """k as an int, which FAISS needs; numpy's integers are accepted."""
    try:
        count = operator.index(k)
    except TypeError:
        raise CallError(f"k: expected a whole number, found {k!r}.") from None
    if count < 1:
        raise CallError(f"k: expected at least 1, found {count}.")
    return count


def as_picture(like: Any) -> "Image.Image | None":
    """`like` as an RGB image, if it is one: an image, the path of one, or (height, width, 3) uint8."""
    from PIL import Image, ImageOps

    if isinstance(like, str | os.PathLike):
        try:
            with Image.open(like) as file:
                return ImageOps.exif_transpose(file).convert("RGB")
        except (OSError, ValueError) as error:
            raise CallError(f"{os.fspath(like)}: cannot be read as a picture ({error}).") from error
    if isinstance(like, Image.Image):
        return like
    pixels = np.asarray(like)
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    return None
