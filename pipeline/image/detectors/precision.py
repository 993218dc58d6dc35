"""The number formats in which networks compute."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vlmixer.artifacts.errors import CallError

Precision = Literal["float32", "bfloat16"]


def autocast(precision: Precision, device: str) -> AbstractContextManager[Any]:
    """A context in which networks compute in this format. It can be entered any number of times. Raises CallError."""
    if precision == "float32":
        return nullcontext()
    if precision == "bfloat16":
        return torch.autocast(device, dtype=torch.bfloat16)
    raise CallError(f"images.detector_options.precision: expected float32 or bfloat16, found {precision!r}.")


class InPrecision(nn.Module):
    """A part of a network that computes in this format and returns float32."""

    def __init__(self, inner: nn.Module, precision: Precision, device: str) -> None:
        super().__init__()
        self.inner = inner
        self._autocast = autocast(precision, device)

    def forward(self, *given: Any) -> Any:
        with self._autocast:
            return _float32(self.inner(*given))


def _float32(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return type(value)((name, _float32(inner)) for name, inner in value.items())  # type: ignore[call-arg]
    return type(value)(_float32(inner) for inner in value) if isinstance(value, list | tuple) else value
