"""Between this process and the device it computes on, without either waiting for the other.

On a CPU nothing is copied, and nothing is asynchronous.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class Movable(Protocol):
    """Tensors and what describes them."""

    def to(self, device: torch.device) -> Self: ...


Batch = TypeVar("Batch", bound=Movable)


def changed(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    """`value` with `change` applied to all tensors in its fields, and in those of its parts."""
    found: Any = value
    if isinstance(value, Tensor):
        return change(value)  # type: ignore[return-value]
    if isinstance(value, Mapping):
        found = {name: changed(part, change) for name, part in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        found = replace(value, **{each.name: changed(getattr(value, each.name), change) for each in fields(value)})
    return found


def moved(value: Value, device: torch.device) -> Value:
    """`value` with all its tensors on `device`."""
    return changed(value, lambda tensor: tensor.to(device, non_blocking=True))


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """The batches on `device`, copied there while it still works on the steps before."""
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        # Only from pinned memory does a copy run beside the device's work.
        pinned = changed(batch, Tensor.pin_memory)
        with torch.cuda.stream(copying):
            there = pinned.to(device)
        using = torch.cuda.current_stream(device)
        using.wait_stream(copying)
        changed(there, lambda tensor, stream=using: _in_use(tensor, stream))  # type: ignore[misc]
        yield there


def sent(values: Iterable[float], device: torch.device) -> Tensor:
    """(n,) float32 on `device`: numbers of this process."""
    found = torch.tensor(list(values), dtype=torch.float32, pin_memory=device.type == "cuda")
    return found.to(device, non_blocking=True)


def fetched(numbers: Tensor) -> Callable[[], list[float]]:
    """Begin to copy `numbers`, (n,), to this process. The function that is returned waits for them."""
    if numbers.device.type != "cuda":
        return numbers.tolist
    here = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
    here.copy_(numbers, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> list[float]:
        done.synchronize()
        return here.tolist()

    return wait


def _in_use(tensor: Tensor, stream: "torch.cuda.Stream") -> Tensor:
    """Keep the memory of `tensor` until what is in `stream` now is done."""
    tensor.record_stream(stream)
    return tensor
