"""Files of weights, read without running code that a pickle may hold."""

import json
from typing import Any

import torch
from torch import Tensor

from vlmixer.artifacts.errors import UserError


def read_state(path: str) -> dict[str, Tensor]:
    """The state dict in a .safetensors file, or in a .pth file that holds tensors only (also below the key `model`).

    Raises UserError if the file is anything else.
    """
    try:
        if path.endswith(".safetensors"):
            from safetensors.torch import load_file

            return load_file(path)
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        inner = state.get("model", state) if isinstance(state, dict) else state
        if not isinstance(inner, dict) or not all(isinstance(value, Tensor) for value in inner.values()):
            raise ValueError("expected a state dict")
        return inner
    except Exception as error:  # torch and safetensors raise anything on bytes of another kind.
        raise UserError(
            f"images.weights: {path} is not readable as weights: {error!r}. "
            "Expected a .safetensors file, or a .pth file that holds tensors only."
        ) from None


def class_names_in(path: str) -> list[str] | None:
    """The class names in the metadata of a .safetensors file (`classes`, a JSON list), None if it has none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get("classes", "null"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None  # Reading the weights says what is wrong with the file.
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
