"""What a run keeps of its training data: RUN/reference.safetensors."""

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.model.finished import MODEL, REFERENCE
from vlmixer.model.likelihood import Reference
from vlmixer.model.tensors import read_tensors


def load_reference(run: str) -> Reference:
    """What a finished run keeps of its training data. Raises UserError if it is missing, damaged, or not of its
    network."""
    path = files.join(run, REFERENCE)
    try:
        network = read_tensors(files.join(run, MODEL))
        width, vocabulary = (network[name].shape[0] for name in ("projection.bias", "cls.predictions.bias"))
        read_tensors(path)  # raises for what the library would read into memory
        found = Reference(**safetensors.numpy.load(files.read_bytes(path)))
        _check(found, width, vocabulary)
        return found
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise UserError(f"{path}: expected the reference of a finished run ({error}). Train again.") from None


def _check(found: Reference, width: int, vocabulary: int) -> None:
    """Raises ValueError if the arrays do not fit a network of these sizes, or are not what they say."""
    expected = {"texts": (len(found.texts), width), "frequencies": (vocabulary,),
                "words": (len(found.words), vocabulary)}  # fmt: skip
    for name, shape in expected.items():
        values = getattr(found, name)
        if values.shape != shape:
            raise ValueError(f"{name} of shape {values.shape}, expected {shape}")
        if not np.isfinite(values).all():
            raise ValueError(f"numbers in {name} are not finite")
    if not np.allclose(np.linalg.norm(found.texts, axis=1), 1, atol=1e-2):
        raise ValueError("texts are not of length 1")
    if not ((found.frequencies > 0) & (found.frequencies <= 1)).all():
        raise ValueError("frequencies are not from 0 to 1")
