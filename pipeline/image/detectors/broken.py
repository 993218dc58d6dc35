"""Whether a detector raised because of its own code, which must stop the work, or because of a photo."""

import os
import traceback

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors.base import Detector

_NEVER_OF_A_PHOTO = (ImportError, NameError, NotImplementedError)
_OFTEN_OF_THE_CODE = (AttributeError, TypeError, UnboundLocalError)
_ORDINARY = (240, 320, 3)


def raise_if_broken(detector: Detector, error: Exception) -> None:
    """Raise UserError if what `detect` raised for a single photo comes from the detector itself.

    So is an error that no photo causes, such as a NameError; a TypeError or AttributeError if an ordinary picture
    causes it, too; and an accelerator that no longer works. The detector's own UserError is raised as it is.
    """
    if isinstance(error, UserError):
        raise error
    if not (_is_of_the_code(detector, error) or _is_of_the_accelerator(error)):
        return
    at = traceback.extract_tb(error.__traceback__)[-1]
    raise UserError(
        f"images.detector: {type(detector).__name__}.detect fails for any image: {type(error).__name__}: {error} "
        f"({os.path.basename(at.filename)}, line {at.lineno}). Correct the detector."
    ) from error


def _is_of_the_code(detector: Detector, error: Exception) -> bool:
    if not isinstance(error, _OFTEN_OF_THE_CODE):
        return isinstance(error, _NEVER_OF_A_PHOTO)
    noise = np.random.default_rng(0).integers(0, 256, _ORDINARY, np.uint8)
    try:
        detector.detect([noise])
    except Exception as other:  # It may be anyone's code.
        return type(other) is type(error)
    return False


def _is_of_the_accelerator(error: Exception) -> bool:
    """After such an error every call fails, until the process ends. Too little memory is of the photo."""
    text = str(error)
    return "CUDA error" in text and "out of memory" not in text
