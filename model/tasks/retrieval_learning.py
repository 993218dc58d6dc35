"""How retrieval is learned: the settings, the batch, the head of the joint encoder, and the losses."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmixer.artifacts.errors import CallError
from vlmixer.model.config import positive
from vlmixer.model.loop import Objective
from vlmixer.model.network import Sequences, initialise, pooled
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Setup, TaskNetwork
from vlmixer.model.tasks.caption_inputs import Captions, take, with_captions
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.retrieval_space import Gallery, Known, log_times
from vlmixer.model.transfer import moved
from vlmixer.model.views import Regions, View

CONFIDENCE = 0.4
"""The scale in the beginning: with it, captions of pre-trained runs fit their photos best (measured on Flickr8k)."""
CONFIDENCE_STEP = 10.0
"""How much faster than a weight the logarithm of the scale is learned."""


@dataclass(frozen=True)
class RetrievalConfig(TaskConfig):
    """Fine-tuning for retrieval."""

    batch_size: int = 32
    learning_rate: float = 2e-4
    text_tokens: int | None = 32  # word pieces for [CLS] caption [SEP] in front of tags, which follow at this position
    negatives: int = 3  # wrong photos per caption, and wrong captions per photo, that the joint encoder reads
    rerank: int = 16  # first photos or captions of a list that the joint encoder puts in a new order; 0: none
    gallery: str | None = None  # file with the photos' ids to score, one per line, such as VinVL's 1k; null: all
    split: str = "test"  # to score, of files that have splits; train and restval are trained on

    def __post_init__(self) -> None:
        super().__post_init__()
        positive("task", self, "negatives")
        if self.rerank < 0:
            raise CallError(f"task.rerank: {self.rerank} is below 0. Give 0 or more.")
        if self.text_tokens is None:
            raise CallError("task.text_tokens: null, but the tags need a place. Give a number.")


@dataclass(frozen=True)
class PairPart:
    """What one reader contributes to a step: captions, and the photo of each by number. `photos`: by number, what is
    known of them. All as they are, because the batch is put together from the photos of all readers."""

    captions: tuple[np.ndarray, ...]
    texts: tuple[View, ...]
    numbers: tuple[int, ...]
    photos: dict[int, "PhotoViews"]
    epoch: int = 0


@dataclass(frozen=True)
class PhotoViews:
    """A photo: its `regions`, the `names` of its tags, these as a text, and both behind a caption."""

    regions: Regions
    names: tuple[str, ...]
    tags: View
    context: View


@dataclass(frozen=True)
class PairBatch:
    """What one rank reads in one step: N captions and M photos.

    `texts`: N sequences of captions alone. `pieces`: (N, C) int64, word pieces, -1 for padding. `captions`: the same in
    front of photos. `owner`: (N,) int64, the photo of each. `context`: M sequences. See `LoopBatch` in model.loop.
    """

    epoch: int
    samples: int
    items: int
    texts: Sequences
    pieces: Tensor
    captions: Captions
    owner: Tensor
    photos: Gallery
    context: Sequences

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return moved(self, device)


class JointHead(nn.Module):
    """From the mean state of a caption and a photo to what is added to their score, 0 in the beginning.

    It also has the scale of the scores of the contrastive space, which are too sure of themselves, and keeps what the
    pre-trained run knows of all texts and photos, see Known.
    """

    def __init__(self, hidden: int, texts: Tensor, frequencies: Tensor, words: Tensor, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(hidden, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, 1)
        )
        self.apply(initialise)
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        self.confidence = nn.Parameter(torch.tensor([np.log(CONFIDENCE) / CONFIDENCE_STEP], dtype=torch.float32))
        self.texts: Tensor
        self.frequencies: Tensor
        self.words: Tensor
        for name, value in (("texts", texts), ("frequencies", frequencies), ("words", words)):
            self.register_buffer(name, value)

    def forward(self, states: Tensor) -> Tensor:
        """(B,), from (B, hidden)."""
        found: Tensor = self.layers(states)[:, 0]
        return found

    def scale(self) -> Tensor:
        """(1,): by which scores of the contrastive space are multiplied."""
        return torch.exp(CONFIDENCE_STEP * self.confidence)

    def known(self, temperature: float, use_words: bool) -> Known:
        """What is kept, as the contrastive space takes it."""
        return Known(self.texts, self.frequencies, self.words, temperature, use_words)


class Retriever(Objective):
    """The two scores as they learn: `first`, of the contrastive space, and `joint`."""

    names = ("first", "joint")

    def __init__(self, setup: Setup[RetrievalConfig], network: TaskNetwork, ranks: Ranks) -> None:
        super().__init__()
        self.network: TaskNetwork = network
        self.ranks, self.settings = ranks, setup.settings
        self.temperature, self.use_words = setup.labels["temperature"], bool(setup.labels["texts"])

    @property
    def known(self) -> Known:
        """See JointHead."""
        return self._head.known(self.temperature, self.use_words)

    @property
    def scale(self) -> Tensor:
        """See JointHead."""
        return self._head.scale()

    @property
    def _head(self) -> JointHead:
        head = self.network.head
        assert isinstance(head, JointHead)
        return head

    def forward(self, batch: PairBatch) -> Tensor:
        """(2,) float32. The wrong photos and captions are the others of the rank's batch."""
        scores = self.scale * log_times(self.network.network, batch.texts, batch.pieces, batch.photos, self.known)
        owner, own = batch.owner, torch.arange(len(batch.owner), device=batch.owner.device)
        same = owner[:, None] == owner[None, :]
        by_text = scores  # (N, M): each caption among the photos
        by_photo = scores.T[owner].masked_fill(same & (own[:, None] != own[None, :]), -torch.inf)
        first = (functional.cross_entropy(by_text, owner) + functional.cross_entropy(by_photo, own)) / 2
        joint = self._joint(batch, scores.detach(), same)
        return self.ranks.shares([len(owner)], owner.device) * torch.stack([first, joint])

    def _joint(self, batch: PairBatch, scores: Tensor, same: Tensor) -> Tensor:
        """The mean cross-entropy of a pair among pairs with the likeliest wrong photos, and with wrong captions."""
        owner = batch.owner
        own = torch.arange(len(owner), device=owner.device)
        right = torch.zeros_like(scores, dtype=torch.bool)
        right[own, owner] = True
        count = min(self.settings.negatives, scores.shape[1] - 1)
        if not count:
            return scores.sum() * 0
        photos = scores.masked_fill(right, -torch.inf).topk(count).indices  # (N, count)
        texts = scores.T[owner].masked_fill(same, -torch.inf).topk(count)
        rows = torch.cat([own[:, None].expand(-1, 1 + count), texts.indices], dim=1)
        columns = torch.cat([owner[:, None], photos, owner[:, None].expand(-1, count)], dim=1)
        added = self.joint(batch.captions.take(rows.flatten()), take(batch.context, columns.flatten()))
        total = scores[rows, columns] + added.view(rows.shape)
        # A batch may have fewer wrong captions for a photo than are asked for.
        wrong = total[:, 1 + count :].masked_fill(texts.values == -torch.inf, -torch.inf)
        zero = torch.zeros_like(owner)
        among_photos = functional.cross_entropy(total[:, : 1 + count], zero)
        return (among_photos + functional.cross_entropy(torch.cat([total[:, :1], wrong], dim=1), zero)) / 2

    def joint(self, captions: Captions, context: Sequences) -> Tensor:
        """(B,) float32: what the joint encoder adds to the score of each caption with its context."""
        sequences, _ = with_captions(captions, context)
        states = pooled(self.network.network.bert(sequences), sequences, "mean")
        added: Tensor = self.network.head(states).float()
        return added
