"""Files of weights, read without torch and a block at a time: the shapes in them, and whether they fit a config.

Reading a run and verifying it ask the same questions here. What tensors of other people may hold is model.weights'.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import numpy as np

from vlmixer.artifacts import files, json_files
from vlmixer.model.config import SEGMENTS, ModelConfig
from vlmixer.model.views import BOX_NUMBERS

Shape = tuple[int, ...]
MAX_HEADER = 100_000_000
"""Bytes of a header, by the definition of the format."""
BLOCK_BYTES = 1 << 24
_ITEM = 4
"""Bytes of a number: the networks that we save are of float32."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of float32 in a file: where its numbers begin there."""

    name: str
    shape: Shape
    start: int

    @property
    def bytes(self) -> int:
        """Of its numbers."""
        return _ITEM * math.prod(self.shape)


def read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors in a .safetensors file by name. Raises OSError, or ValueError if it has others than of float32, or is
    longer or shorter than they are."""
    with files.open_read(path) as file:
        return _tensors(file, files.size(path))


def _tensors(file: IO[bytes], size: int) -> dict[str, Tensor]:
    length = int.from_bytes(file.read(8), "little")
    if length > min(MAX_HEADER, size - 8):
        raise ValueError(f"a header of {length:,} bytes")
    found, end = {}, 8 + length
    for name, entry in sorted(_entries(file.read(length)).items(), key=lambda item: item[1]["data_offsets"]):
        tensor = Tensor(name, tuple(entry["shape"]), end)
        end += tensor.bytes
        if entry["dtype"] != "F32":
            raise ValueError(f"{name[:100]} is of {str(entry['dtype'])[:20]}, expected F32")
        if entry["data_offsets"] != [tensor.start - 8 - length, end - 8 - length]:
            raise ValueError(f"{name[:100]} is not where it must be for its shape and those before it")
        found[name] = tensor
    if end != size:
        raise ValueError(f"{size:,} bytes, its tensors end at {end:,}")
    return found


def _entries(header: bytes) -> dict[str, dict[str, Any]]:
    """What a header says about each tensor. Raises ValueError if it is not a header."""
    content = json_files.parse(header, dict[str, dict[str, Any]])
    content.pop("__metadata__", None)
    for name, entry in content.items():
        numbers = [entry.get("shape"), entry.get("data_offsets")]
        if not all(isinstance(each, list) and all(type(one) is int and one >= 0 for one in each) for each in numbers):
            raise ValueError(f"{name[:100]} has no shape or no place")
    return content


def check_weights(path: str, config: ModelConfig, vocabulary_size: int, prefix: str = "") -> None:
    """Raises OSError, or ValueError unless the file has the weights of the network that `config` describes, below
    `prefix`, and all its numbers are finite.

    prefix: "" if the file has nothing else, else what a fine-tuned network's names begin with.
    """
    found = read_tensors(path)
    own = {name: tensor.shape for name, tensor in found.items() if name.startswith(prefix)}
    for name, shape in shapes(config, vocabulary_size):
        if own.pop(prefix + name, None) != shape:
            there = found[prefix + name].shape if prefix + name in found else "missing"
            raise ValueError(f"{prefix}{name} is {there}, expected {shape} by the config and the tokenizer")
    if own:
        raise ValueError(f"{min(own)[:100]} is not a part of the network")
    with files.open_read(path) as file:
        for tensor in found.values():
            _check_numbers(file, tensor, tensor.name.startswith(prefix) and len(tensor.shape) == 2)


def _check_numbers(file: IO[bytes], tensor: Tensor, drawn: bool) -> None:
    """Raises ValueError for numbers that are not finite. drawn: whether they were random before the training, and so
    are never all the same."""
    file.seek(tensor.start)
    lows, highs = [], []
    for at in range(0, tensor.bytes, BLOCK_BYTES):
        numbers = np.frombuffer(file.read(min(BLOCK_BYTES, tensor.bytes - at)), "<f4")
        lows.append(numbers.min())
        highs.append(numbers.max())
        if not np.isfinite([lows[-1], highs[-1]]).all():
            raise ValueError(f"numbers in {tensor.name[:100]} are not finite")
    if drawn and min(lows, default=0) == max(highs, default=0) and tensor.bytes > _ITEM:
        raise ValueError(f"{tensor.name[:100]} has the same number everywhere")


def shapes(config: ModelConfig, vocabulary_size: int) -> Iterator[tuple[str, Shape]]:
    """The parameters of model.network.Network, with their shapes: what its `state_dict` has."""
    hidden, width = config.hidden_size, config.feed_forward_size
    words, layer = "bert.embeddings", "bert.encoder.layer"
    yield f"{words}.word_embeddings.weight", (vocabulary_size, hidden)
    yield f"{words}.position_embeddings.weight", (config.max_text_tokens, hidden)
    yield f"{words}.token_type_embeddings.weight", (SEGMENTS, hidden)
    yield from _norm(words, hidden)
    yield from _linear("bert.region_embeddings.dense", (config.feature_dim or 0) + BOX_NUMBERS, hidden)
    yield from _norm("bert.region_embeddings", hidden)
    for number in range(config.layers):
        for part in ("query", "key", "value"):
            yield from _linear(f"{layer}.{number}.attention.self.{part}", hidden, hidden)
        yield from _linear(f"{layer}.{number}.attention.output.dense", hidden, hidden)
        yield from _norm(f"{layer}.{number}.attention.output", hidden)
        yield from _linear(f"{layer}.{number}.intermediate.dense", hidden, width)
        yield from _linear(f"{layer}.{number}.output.dense", width, hidden)
        yield from _norm(f"{layer}.{number}.output", hidden)
    for head in ("cls", "tags"):
        yield f"{head}.predictions.bias", (vocabulary_size,)
        yield from _linear(f"{head}.predictions.transform.dense", hidden, hidden)
        yield from _norm(f"{head}.predictions.transform", hidden)
    yield from _linear("projection", hidden, config.projection_size)


def _linear(name: str, inputs: int, outputs: int) -> Iterable[tuple[str, Shape]]:
    return (f"{name}.weight", (outputs, inputs)), (f"{name}.bias", (outputs,))


def _norm(name: str, width: int) -> Iterable[tuple[str, Shape]]:
    return (f"{name}.LayerNorm.weight", (width,)), (f"{name}.LayerNorm.bias", (width,))
