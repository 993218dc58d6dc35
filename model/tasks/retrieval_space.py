"""How similar captions and photos are in the contrastive space, as tensors with gradients.

It is `similarities` of model.likelihood, divided by the temperature: how many times likelier a caption is with a photo
than without, as a logarithm. So fine-tuning begins with what retrieval without fine-tuning scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from vlmixer.model.embedding import WHOLE_IMAGE_WEIGHT
from vlmixer.model.likelihood import REGION_SHARE
from vlmixer.model.network import Network, Sequences
from vlmixer.model.padding import pad
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.transfer import moved
from vlmixer.model.views import NOWHERE, Regions, View, set_view


@dataclass(frozen=True)
class Gallery:
    """M photos as the contrastive space takes them.

    `views`: V sequences, the single regions and all regions of each photo. `rows`: (M, W) int64, the views of each
    photo; `weights`: (M, W) float32, 0 for padding. `items`: (K, 2) int64, the regions of all views: a view, and an
    item of it. `shares`: (K,) float32 of them, `photos`: (K,) int64, the photo of each. `tags`: M sequences.
    """

    views: Sequences
    rows: Tensor
    weights: Tensor
    items: Tensor
    shares: Tensor
    photos: Tensor
    tags: Sequences

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return moved(self, device)


def gallery(regions: Sequence[Regions], tags: Sequence[View], tokenizer: Tokenizer) -> Gallery:
    """Photos, each given by its regions and by its tags as a text. Views and weights are those of `embed_images`."""
    views: list[View] = []
    rows, weights, items, shares, photos = [], [], [], [], []
    for photo, found in enumerate(regions):
        count = len(found)
        parts = [slice(n, n + 1) for n in range(count) if count > 1] + [slice(0, count)]
        sizes = np.sqrt(np.maximum(found.geometry[:, 4] * found.geometry[:, 5], 1e-6), dtype=np.float64)
        single = (1 - WHOLE_IMAGE_WEIGHT) * sizes / sizes.sum() if count > 1 else np.zeros(0)
        weight = np.append(single, WHOLE_IMAGE_WEIGHT if count > 1 else 1.0)
        for part, of_view in zip(parts, weight, strict=True):
            features, boxes = found.features[part], found.geometry[part]
            view = set_view(Regions(features, boxes, np.full(len(boxes), NOWHERE)), tokenizer)
            items += [(len(views), len(view.ids) + item) for item in range(len(boxes))]
            shares.append(of_view * sizes[part] / sizes[part].sum() if len(boxes) else np.zeros(0))
            photos += [photo] * len(boxes)
            views.append(view)
        rows.append(np.arange(len(views) - len(parts), len(views)))
        weights.append(weight)
    width = max(map(len, rows))
    return Gallery(
        pad(views),
        torch.from_numpy(np.stack([np.pad(row, (0, width - len(row))) for row in rows])),
        torch.from_numpy(np.stack([np.pad(row, (0, width - len(row))) for row in weights]).astype(np.float32)),
        torch.tensor(items, dtype=torch.long).reshape(-1, 2),
        torch.from_numpy(np.concatenate(shares).astype(np.float32)),
        torch.tensor(photos, dtype=torch.long),
        pad(tags),
    )


@dataclass(frozen=True)
class Known:
    """What is likely in all texts and photos: Reference of model.likelihood, as tensors; and the temperature.

    `texts`: (m, projection_size). `frequencies`: (vocabulary,). `words`: (k, vocabulary). `use_words`: whether the head
    for words was trained, so that the words of regions mean something.
    """

    texts: Tensor
    frequencies: Tensor
    words: Tensor
    temperature: float
    use_words: bool = True


def log_times(network: Network, captions: Sequences, pieces: Tensor, photos: Gallery, known: Known) -> Tensor:
    """(N, M) float32: log(how many times likelier each of N captions is with each of M photos than without).

    `captions`: sequences of the captions alone. `pieces`: (N, C) int64, their word pieces, -1 for padding.
    """
    texts, tags = network.embed(captions), network.embed(photos.tags)
    states = network.bert(photos.views)
    views = network.project(states, photos.views)
    by_views = _ratio(texts, views, known)[:, photos.rows] + photos.weights.log()
    both = torch.logaddexp(by_views.logsumexp(-1), _ratio(texts, tags, known)) - np.log(2)
    if not known.use_words:
        return both
    likely = network.words(states, photos.items).float().softmax(-1) * photos.shares[:, None]
    words = likely.new_zeros(len(photos.rows), likely.shape[1]).index_add_(0, photos.photos, likely)
    found = _of_words(pieces, words, known)
    if len(known.words):
        others = _of_words(pieces, known.words, known)
        found = found - (others.logsumexp(1, keepdim=True) - np.log(others.shape[1]))
    return both + found


def _ratio(texts: Tensor, views: Tensor, known: Known) -> Tensor:
    """(N, V): log(likelihood of the text given the view / mean of it over the known texts)."""
    usual = known.texts @ views.T / known.temperature
    return texts @ views.T / known.temperature - (usual.logsumexp(0) - np.log(len(known.texts)))


def _of_words(pieces: Tensor, words: Tensor, known: Known) -> Tensor:
    """(N, images): log(likelihood of a text's pieces given the words of an image / their frequency)."""
    logs = torch.log((1 - REGION_SHARE) + REGION_SHARE * words / known.frequencies)
    of_pieces = logs.T[pieces.clamp(min=0)] * (pieces >= 0).unsqueeze(-1)
    return of_pieces.sum(1)
