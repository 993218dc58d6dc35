"""Captions in front of the tags and regions of photos: [CLS] caption [SEP], then tags and [SEP], then regions.

They are put together as tensors, so that each of many captions can meet each of many photos. Tags begin at a fixed
position, whatever the length of the caption, so what the network makes of a photo does not depend on a caption that it
must not see.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmixer.artifacts.errors import CallError
from vlmixer.model.network import Sequences
from vlmixer.model.tasks.base import Setup
from vlmixer.model.tokenizer import Pieces, Tokenizer
from vlmixer.model.transfer import moved
from vlmixer.model.views import TAG_SEGMENT, TEXT_SEGMENT, Regions, View, tag_view


def text_tokens(setup: Setup[Any]) -> int:
    """Word pieces for [CLS] caption [SEP], and the position at which the tags begin.

    Raises CallError if no position is left for [SEP] after the tags.
    """
    own, most = setup.settings.text_tokens or setup.model.max_text_tokens, setup.model.max_text_tokens
    if own >= most:
        raise CallError(
            f"task.text_tokens: {own} leaves no position for tags, because model.max_text_tokens is {most}. Set it "
            "lower."
        )
    return own


def context_view(tags: Sequence[Pieces], regions: Regions, tokenizer: Tokenizer, first: int, limit: int) -> View:
    """Tags and [SEP] from position `first` up to `limit`, and the regions. Tags that do not fit are left out whole."""
    tagged = tag_view(tags, tokenizer, limit - first + 1, regions)
    ids, words = tagged.ids[1:], tagged.words[1:]  # without [CLS]
    return View(ids, first + np.arange(len(ids)), words, np.full(len(ids), TAG_SEGMENT, np.int64), regions)


def framed(pieces: Pieces, tokenizer: Tokenizer, limit: int) -> np.ndarray:
    """(n,) int64: [CLS] caption [SEP], at most `limit` pieces."""
    return np.array([tokenizer.begin, *pieces.ids[: limit - 2], tokenizer.end], np.int64)


@dataclass(frozen=True)
class Captions:
    """B captions as they are put in front of photos: (B, C) each, C the length of the longest.

    `ids`: int64. `turns`: int64, the position of each. `mask`: bool, false for padding. `probes`: bool, true for
    [MASK]s that nothing else sees, as in `caption_sight`.
    """

    ids: Tensor
    turns: Tensor
    mask: Tensor
    probes: Tensor

    def to(self, device: torch.device) -> "Captions":
        """The same on `device`."""
        return moved(self, device)

    def take(self, rows: Tensor) -> "Captions":
        """The captions `rows`, (n,) int64."""
        return Captions(*(part[rows] for part in vars(self).values()))


def padded_captions(captions: Sequence[np.ndarray]) -> Captions:
    """Captions from [CLS] to [SEP]; each is seen by what follows it."""
    return _padded(captions, [np.arange(len(ids)) for ids in captions], [np.zeros(len(ids), bool) for ids in captions])


def probed_captions(captions: Sequence[np.ndarray], tokenizer: Tokenizer) -> tuple[Captions, Tensor, Tensor]:
    """Captions from [CLS] to [SEP] with a [MASK] next to each piece but [CLS], all to be predicted at once.

    Returns them, (n, 2) int64, a caption and the column of a [MASK] in it, and (n,) int64, the piece to predict there.
    """
    ids, turns, probes, chosen, targets = [], [], [], [], []
    for row, caption in enumerate(captions):
        count = len(caption) - 1
        ids.append(np.concatenate([caption[:-1], np.full(count, tokenizer.mask)]))
        turns.append(np.concatenate([np.arange(count), 1 + np.arange(count)]))
        probes.append(np.arange(2 * count) >= count)
        chosen.append(np.stack([np.full(count, row), count + np.arange(count)], axis=1))
        targets.append(caption[1:])
    where, what = torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(targets))
    return _padded(ids, turns, probes), where, what


def with_captions(captions: Captions, context: Sequences) -> tuple[Sequences, Tensor]:
    """The captions in front of the contexts, row by row: (B, C + L) items; and (B, C + L) int64, their turns, -1 for
    tags and regions. The columns of a caption come first."""
    columns = captions.ids.shape[1]
    own = torch.arange(columns, device=captions.ids.device).expand_as(captions.ids)
    mask = torch.cat([captions.mask, context.mask], dim=1)
    sequences = replace(
        context,
        ids=torch.cat([captions.ids, context.ids], dim=1),
        positions=torch.cat([captions.turns, context.positions], dim=1),
        segments=torch.cat([torch.full_like(captions.ids, TEXT_SEGMENT), context.segments], dim=1),
        order=torch.cat([own, columns + context.order], dim=1),
        mask=mask,
        content=mask,
    )
    return sequences, torch.cat([captions.turns, torch.full_like(context.order, -1)], dim=1)


def take(sequences: Sequences, rows: Tensor) -> Sequences:
    """The sequences `rows`, (n,) int64, which may occur several times."""
    return Sequences(**{name: value[rows] for name, value in vars(sequences).items()})


def _padded(ids: Sequence[np.ndarray], turns: Sequence[np.ndarray], probes: Sequence[np.ndarray]) -> Captions:
    width = max(map(len, ids))
    found = [np.zeros((len(ids), width), kind) for kind in (np.int64, np.int64, bool, bool)]
    for row, parts in enumerate(zip(ids, turns, [np.ones(len(one), bool) for one in ids], probes, strict=True)):
        for array, part in zip(found, parts, strict=True):
            array[row, : len(part)] = part
    return Captions(*map(torch.from_numpy, found))
