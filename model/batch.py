"""The batch of a step: views with masked pieces, padded, and joined from the parts that several readers prepare."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vlmixer.model.padding import Masked, MaskedArrays, as_columns, joined_masked, padded
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.transfer import moved
from vlmixer.model.views import IGNORED, View, mask_words


@dataclass(frozen=True)
class MaskedViews:
    """Views with masked pieces, before padding. `chosen`, `targets`, `words`: as in MaskedArrays.

    `ids`: (B, T) int64, the pieces after masking, in place of those of the views; None: these are as they were.
    """

    views: Sequence[View]
    chosen: np.ndarray
    targets: np.ndarray
    words: np.ndarray
    ids: np.ndarray | None = None


@dataclass(frozen=True)
class Part:
    """What one reader contributes to a step: masked mixed sentences, masked images, and pairs for the contrastive loss.

    Row i of `text`, `view` and `sentences` is one sentence; sentences without a patch are left out. Words of `text` are
    masked; each patch of `view` must predict the word that it replaced. None: no rows.
    """

    epoch: int
    mixed: MaskedArrays | None
    images: MaskedArrays | None
    text: MaskedArrays | None
    view: MaskedArrays | None
    sentences: np.ndarray


@dataclass(frozen=True)
class Batch:
    """What one rank reads in one step.

    `mixed`: mixed sentences with masked words. `images`: images with masked tags, None in runs without image samples.
    `text`, `view`, `sentences`: pairs for the contrastive loss, as in Part. `samples`: number of mixed and image
    samples. `items`: number of word pieces and regions that the encoder sees. `tags`: number of tags to predict.
    """

    epoch: int
    samples: int
    items: int
    tags: int
    mixed: Masked
    images: Masked | None
    text: Masked | None
    view: Masked | None
    sentences: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return moved(self, device)


def unmasked(views: Sequence[View]) -> MaskedViews:
    """`views` as they are, with nothing to predict."""
    none = np.zeros(0, np.int64)
    return MaskedViews(views, none.reshape(0, 2), none, none)


def mask_views(
    views: Sequence[View], tokenizer: Tokenizer, probability: float, random: np.random.Generator
) -> MaskedViews:
    """`views` with whole words masked, each with `probability`, as `mask_words` does it."""
    if not views:
        return unmasked(views)
    ids = as_columns([view.ids for view in views], 0)
    words = as_columns([view.words for view in views], -1)
    changed, targets = mask_words(ids, words, tokenizer, probability, random)
    rows, columns = np.nonzero(targets != IGNORED)
    # The pieces of one word of one row share a number.
    _, numbers = np.unique(rows * ids.shape[1] + words[rows, columns], return_inverse=True)
    return MaskedViews(views, np.stack([rows, columns], axis=1), targets[rows, columns], numbers.reshape(-1), changed)


def with_replaced(masked: MaskedViews, replaced: Sequence[np.ndarray]) -> MaskedViews:
    """`masked`, where the patches must also predict the pieces of the words that they replaced.

    `replaced`: for each view (k, 2) int64, a patch and a piece. A patch that replaced several pieces predicts each.
    """
    rows = np.repeat(np.arange(len(replaced)), [len(pairs) for pairs in replaced])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *replaced])
    columns = np.array([len(view.ids) for view in masked.views], np.int64)[rows] + pairs[:, 0]
    numbers = int(masked.words.max(initial=-1)) + 1 + np.arange(len(rows))
    return replace(
        masked,
        chosen=np.concatenate([masked.chosen, np.stack([rows, columns], axis=1)]),
        targets=np.concatenate([masked.targets, pairs[:, 1]]),
        words=np.concatenate([masked.words, numbers]),
    )


def padded_masked(masked: MaskedViews) -> MaskedArrays | None:
    """Masked views as padded arrays; None if there are none."""
    if not masked.views:
        return None
    return MaskedArrays(padded(masked.views, masked.ids), masked.chosen, masked.targets, masked.words)


def assemble(parts: Sequence[Part], pooling: Literal["content", "mean", "cls"] | None) -> Batch:
    """The batch of a step, from the parts of a rank's readers. `pooling`: that of the pairs; None: no contrast."""
    mixed, images = (joined_masked([getattr(part, name) for part in parts]) for name in ("mixed", "images"))
    text, view = (joined_masked([getattr(part, name) for part in parts]) for name in ("text", "view"))
    assert mixed is not None  # each reader has at least one sentence per step
    seen = [part.sequences for part in (mixed, images) if part is not None]
    pairs = [part.sequences for part in (text, view) if part is not None]
    return Batch(
        epoch=parts[0].epoch,
        samples=sum(map(len, seen)),
        items=sum(int(part.mask.sum()) for part in (*seen, *pairs)),
        tags=int(images.words.max(initial=-1)) + 1 if images is not None else 0,
        mixed=mixed.tensors(),
        images=None if images is None else images.tensors(),
        text=None if text is None else text.tensors(pooling),
        view=None if view is None else view.tensors(pooling),
        sentences=torch.from_numpy(np.concatenate([part.sentences for part in parts])),
    )
