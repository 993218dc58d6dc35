"""From views to the padded batch that the network reads: as arrays, which worker processes send, and as tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlmixer.model.network import Sequences
from vlmixer.model.transfer import moved
from vlmixer.model.views import NOWHERE, View

USED_MULTIPLE = 128
"""The number of used items is a multiple of this: a CPU prepares a matrix product anew for each number of rows."""


@dataclass(frozen=True)
class Padded:
    """Views as padded arrays, field by field those of Sequences. Workers send them, because views would be slower."""

    ids: np.ndarray
    positions: np.ndarray
    segments: np.ndarray
    regions: np.ndarray
    region_positions: np.ndarray
    order: np.ndarray
    mask: np.ndarray
    content: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def tensors(self) -> Sequences:
        """The same, sharing memory."""
        return Sequences(**{field.name: torch.from_numpy(getattr(self, field.name)) for field in fields(self)})


@dataclass(frozen=True)
class MaskedArrays:
    """Padded views with masked pieces.

    `chosen`: (n, 2) int64, a view and the item of it that must predict; a view's items are its pieces, then its
    regions. `targets`: (n,) int64, the piece to predict. `words`: (n,) int64, the masked word or tag that the piece
    belongs to, numbered from 0 without gaps.
    """

    sequences: Padded
    chosen: np.ndarray
    targets: np.ndarray
    words: np.ndarray

    def tensors(self, pooling: Literal["content", "mean", "cls"] | None = None) -> "Masked":
        """The same, sharing memory. `pooling`: how the states are pooled, too; None: they are not."""
        used = used_items(self.sequences, self.chosen, pooling)
        items = _rows(self.sequences.mask)
        parts = map(torch.from_numpy, (self.chosen, self.targets, self.words, used, items))
        return Masked(self.sequences.tensors(), *parts)


@dataclass(frozen=True)
class Masked:
    """Sequences with masked pieces. `chosen`, `targets` and `words` as in MaskedArrays; `used` as of `used_items`;
    `items`: all that are no padding, in the same way."""

    sequences: Sequences
    chosen: Tensor
    targets: Tensor
    words: Tensor
    used: Tensor
    items: Tensor

    def to(self, device: torch.device) -> "Masked":
        """The same on `device`."""
        return moved(self, device)


def pad(views: Sequence[View]) -> Sequences:
    """Views as a padded batch."""
    return padded(views).tensors()


def padded(views: Sequence[View], ids: np.ndarray | None = None) -> Padded:
    """Views, at least one, as padded arrays. `ids`: (B, T) int64, padded pieces in place of the views' own."""
    text = np.array([len(view.ids) for view in views])[:, None]
    count = np.array([len(view.regions) for view in views])[:, None]
    total = text + count
    ids = as_columns([view.ids for view in views], 0) if ids is None else ids
    column = np.arange(total.max())[None, :]
    mask = column < total
    content = mask & (column != 0) & (column != text - 1)
    # The regions of a row begin after all T columns of text, wherever its own text ends.
    order = np.where(column < text, column, ids.shape[1] + column - text)
    features, boxes, at = (
        np.concatenate([getattr(view.regions, name) for view in views])
        for name in ("features", "geometry", "positions")
    )
    there = np.arange(count.max())[None, :] < count
    regions = np.zeros((*there.shape, features.shape[1] + boxes.shape[1]), np.float32)
    regions[there] = np.concatenate([features, boxes], 1, dtype=np.float32)
    region_positions = np.full(there.shape, NOWHERE, np.int64)
    region_positions[there] = at
    return Padded(
        ids,
        positions=as_columns([view.positions for view in views], 0),
        segments=as_columns([view.segments for view in views], 0),
        regions=regions,
        region_positions=region_positions,
        order=np.where(mask, order, 0),
        mask=mask,
        content=np.where(content.any(1, keepdims=True), content, mask),
    )


def used_items(
    sequences: Padded,
    chosen: np.ndarray,
    pooling: Literal["content", "mean", "cls"] | None,
    multiple: int = USED_MULTIPLE,
) -> np.ndarray:
    """(n,) int64: the items, as rows of the (B × L), that must predict and, unless it is None, those of the `pooling`.

    Unused items fill n up to a `multiple`, as far as there are any.
    """
    used = np.zeros(sequences.mask.shape, bool)
    if pooling == "cls":
        used[:, 0] = True
    elif pooling is not None:
        used |= sequences.content if pooling == "content" else sequences.mask
    used[chosen[:, 0], chosen[:, 1]] = True
    return _rows(used, multiple)


def _rows(used: np.ndarray, multiple: int = USED_MULTIPLE) -> np.ndarray:
    """(n,) int64: where `used`, (B, L) bool, is true, as rows of the (B × L), and others up to a `multiple`."""
    count = -(-int(used.sum()) // multiple) * multiple
    return np.argsort(~used.reshape(-1), kind="stable")[:count]


def joined(parts: Sequence[Padded | None]) -> Padded | None:
    """The rows of all parts as one padded batch; None if there are none."""
    there = [part for part in parts if part is not None]
    if len(there) < 2:
        return there[0] if there else None
    columns = max(part.ids.shape[1] for part in there)
    arrays = {
        name: _stacked([getattr(part, name) for part in there], filler)
        for name, filler in (("ids", 0), ("positions", 0), ("segments", 0), ("regions", 0), ("region_positions", -1))
    }
    # Regions begin after all columns of text, and there may be more of those than in the part.
    shifted = [part.order + (columns - part.ids.shape[1]) * (part.order >= part.ids.shape[1]) for part in there]
    masks = {name: _stacked([getattr(part, name) for part in there], False) for name in ("mask", "content")}
    return Padded(**arrays, order=_stacked(shifted, 0), **masks)


def joined_masked(parts: Sequence[MaskedArrays | None]) -> MaskedArrays | None:
    """The rows of all parts, with their words renumbered; None if there are none."""
    there = [part for part in parts if part is not None]
    sequences = joined([part.sequences for part in there])
    if sequences is None:
        return None
    rows = np.cumsum([0, *(len(part.sequences) for part in there)])
    words = np.cumsum([0, *(int(part.words.max(initial=-1)) + 1 for part in there)])
    return MaskedArrays(
        sequences,
        np.concatenate([part.chosen + np.array([row, 0]) for part, row in zip(there, rows[:-1], strict=True)]),
        np.concatenate([part.targets for part in there]),
        np.concatenate([part.words + word for part, word in zip(there, words[:-1], strict=True)]),
    )


def _stacked(blocks: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Arrays of shape (b, l, …), stacked to (sum of b, largest l, …); short rows end in `filler`."""
    width = max(block.shape[1] for block in blocks)
    result = np.full((sum(map(len, blocks)), width, *blocks[0].shape[2:]), filler, blocks[0].dtype)
    row = 0
    for block in blocks:
        result[row : row + len(block), : block.shape[1]] = block
        row += len(block)
    return result


def as_columns(rows: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Arrays of different lengths as one array, (B, longest, …); short rows end in `filler`."""
    lengths = np.array([len(row) for row in rows])
    result = np.full((len(rows), lengths.max(initial=0), *rows[0].shape[1:]), filler, rows[0].dtype)
    result[np.arange(result.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return result
