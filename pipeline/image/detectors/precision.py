"""Number formats in which networks run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from artifacts.errors import CallError

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """A context, to be entered any number of times, in which networks compute in this format. Raises CallError."""
    if precision == "float32":
        return nullcontext()
    if precision == "bfloat16":
        return torch.autocast(device, dtype=torch.bfloat16)
    raise CallError(f"images.detector_options.precision: expected float32 or bfloat16, found {precision!r}.")
