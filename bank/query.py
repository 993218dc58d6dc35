"""The queries that a bank accepts: features, ids of patches, and pictures."""

import operator
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import ArrayLike

from vlmixer.artifacts.errors import CallError
from vlmixer.bank.records import Hit, PatchRecord

if TYPE_CHECKING:
    from PIL import Image

Like = Union[ArrayLike, str, os.PathLike[str], "Image.Image", PatchRecord, Hit]
"""What patches can be compared with: a feature, (D,) float; a patch, or its id; a picture, or the path of one."""

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


def as_array(like: Any) -> np.ndarray:
    """An array of `like`; tensors may require gradients, be on a device, or be of a type that NumPy lacks.

    Raises CallError for what is neither a tensor nor numbers.
    """
    if hasattr(like, "detach"):
        like = like.detach().cpu()
        like = like.float() if like.is_floating_point() else like
    found = np.asarray(like)
    if found.dtype.kind not in "fiu":
        raise CallError(f"like: expected a patch, its id, a feature or a picture, found {type(like).__name__}.")
    return found


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
    pixels = as_array(like)
    if pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    return None
