"""Retrieval of photos by captions and of captions by photos, fine-tuned with pairs.

The contrastive space, in which captions and photos are encoded apart, makes the first list. The joint encoder, which
reads a caption and a photo together, adds to the score of the first of that list and so puts them in a new order. Its
head begins at zero: before the first step the scores are those of retrieval without fine-tuning.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model import checkpoint, finished
from vlmixer.model.config import positive
from vlmixer.model.loop import Objective
from vlmixer.model.network import Network, Sequences, initialise, pooled
from vlmixer.model.padding import as_columns, pad
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskNetwork
from vlmixer.model.tasks.caption_files import TRAINING_SPLITS, read_captions
from vlmixer.model.tasks.caption_inputs import Captions, context_view, framed, padded_captions, take, with_captions
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.retrieval_scores import measures, result_file, retrieve
from vlmixer.model.tasks.retrieval_space import Gallery, Known, gallery, log_times
from vlmixer.model.views import Regions, View, no_regions, text_view

CONFIDENCE = 0.4
"""The scale in the beginning: with it, captions of pre-trained runs fit their photos best (measured on Flickr8k)."""
CONFIDENCE_STEP = 10.0
"""How much faster than a weight the logarithm of the scale is learned."""
FIRST_CAPTION = "R@1 image to text"


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
        names = ("texts", "pieces", "captions", "owner", "photos", "context")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})


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
        # A rank's mean is weighted by its share of all the ranks' examples.
        mine = scores.new_tensor([len(owner)])
        return self.ranks.world * mine / self.ranks.total(mine) * torch.stack([first, joint])

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


class Retrieval(Task[RetrievalConfig]):
    """Photos by captions, and captions by photos."""

    name: ClassVar[str] = "retrieval"
    title: ClassVar[str] = "image-text retrieval (COCO, Flickr30k)"
    config = RetrievalConfig

    def read(
        self, paths: Sequence[str], settings: RetrievalConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        splits = TRAINING_SPLITS if training else (settings.split,)
        examples, read = read_captions(paths, splits, log, single=training)
        if training or settings.gallery is None:
            return examples, read
        wanted = read_gallery(settings.gallery)
        kept = [example for example in examples if example.key in wanted]
        if len(kept) < len(wanted):
            raise CallError(
                f"task.gallery: {settings.gallery} names {len(wanted):,} photos; {len(kept):,} of them are in the "
                "files to score. Name the list of these files' photos."
            )
        return kept, read - len(examples) + len(kept)

    def labels(self, examples: Sequence[Example], settings: RetrievalConfig) -> Labels:
        """The temperature of the contrastive space, and how many texts and photos the pre-trained run knows."""
        init = settings.init
        if init is None or not files.has_file(files.join(init, finished.REFERENCE)):
            return {"temperature": 0.1, "texts": 0, "photos": 0}
        reference = checkpoint.load_reference(init)
        _, _, trained = checkpoint.load_run(init)
        return {
            "temperature": trained.train.temperature,
            "texts": len(reference.texts),
            "photos": len(reference.words),
        }

    def head(self, setup: Setup[RetrievalConfig], network: Network) -> nn.Module:
        model, size, dropout = setup.model, setup.tokenizer.size, setup.settings.dropout
        # One text of zeros is as likely for all photos: without a pre-trained run no text is usual.
        texts = torch.zeros(max(setup.labels["texts"], 1), model.projection_size)
        words = torch.zeros(setup.labels["photos"], size)
        rate = model.dropout_rate if dropout is None else dropout
        return JointHead(model.hidden_size, texts, torch.ones(size), words, rate)

    def begin(self, setup: Setup[RetrievalConfig], network: TaskNetwork) -> None:
        if setup.settings.init is not None and setup.labels["texts"]:
            reference = checkpoint.load_reference(setup.settings.init)
            network.head.load_state_dict(
                {name: torch.from_numpy(value) for name, value in vars(reference).items()}, strict=False
            )

    def objective(self, setup: Setup[RetrievalConfig], network: TaskNetwork, ranks: Ranks) -> Retriever:
        return Retriever(setup, network, ranks)

    def encode(
        self,
        setup: Setup[RetrievalConfig],
        examples: Sequence[Example],
        photos: Sequence[Sequence[Photo]],
        training: bool,
    ) -> list[Encoded]:
        """The caption alone; `extra`: its pieces in front of a photo, and the views of the photo."""
        tokenizer, limit = setup.tokenizer, setup.settings.text_tokens or setup.model.max_text_tokens
        most, nothing = setup.model.max_text_tokens, no_regions(setup.feature_dim)
        names = sorted({tag for row in photos for photo in row for tag in photo.tags})
        tags = dict(zip(names, tokenizer.encode(names), strict=True))
        listed = list(dict.fromkeys(" ".join(photo.tags) for (photo,) in photos))
        together = dict(zip(listed, tokenizer.encode(listed), strict=True))
        views: dict[int, PhotoViews] = {}
        for (photo,) in photos:
            if id(photo) not in views:
                regions = setup.regions(photo)
                views[id(photo)] = PhotoViews(
                    regions,
                    photo.tags,
                    text_view(together[" ".join(photo.tags)], tokenizer, most, nothing),
                    context_view([tags[tag] for tag in photo.tags], regions, tokenizer, limit, most),
                )
        captions = tokenizer.encode([example.text for example in examples])
        return [
            Encoded(
                (text_view(pieces, tokenizer, most, nothing),),
                extra=(framed(pieces, tokenizer, limit), views[id(photo)]),
            )
            for pieces, (photo,) in zip(captions, photos, strict=True)
        ]

    def part(self, setup: Setup[RetrievalConfig], encoded: Sequence[Encoded], random: np.random.Generator) -> PairPart:
        return PairPart(
            tuple(one.extra[0] for one in encoded),
            tuple(one.views[0] for one in encoded),
            tuple(one.photos[0] for one in encoded),
            {one.photos[0]: one.extra[1] for one in encoded},
        )

    def assemble(self, setup: Setup[RetrievalConfig], parts: Sequence[PairPart]) -> PairBatch:
        photos = {number: found for part in parts for number, found in part.photos.items()}
        place = {number: row for row, number in enumerate(photos)}
        views = [view for part in parts for view in part.texts]
        texts = pad(views)
        known = gallery(
            [photo.regions for photo in photos.values()], [photo.tags for photo in photos.values()], setup.tokenizer
        )
        context = pad([photo.context for photo in photos.values()])
        return PairBatch(
            epoch=parts[0].epoch,
            samples=len(views),
            items=sum(int(each.mask.sum()) for each in (texts, known.views, known.tags, context)),
            texts=texts,
            pieces=torch.from_numpy(as_columns([view.ids[1:-1] for view in views], -1)),
            captions=padded_captions([ids for part in parts for ids in part.captions]),
            owner=torch.tensor([place[number] for part in parts for number in part.numbers]),
            photos=known,
            context=context,
        )

    def evaluate(
        self,
        setup: Setup[RetrievalConfig],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        """R@1, 5, 10 in both directions, after and before the new order."""
        photos = [one.extra[1] for _, block in encoded for one in block]
        module = self.objective(setup, network, Ranks()).eval()
        found = retrieve(setup, module, examples, photos)
        scores = measures(found, examples)
        right = next(measure for measure in scores if measure.name == FIRST_CAPTION)
        value = dict(zip(right.units, right.values.tolist(), strict=True))
        answers = [
            Answer(text, value.get(example.key)) for text, example in zip(found.best_captions(), examples, strict=True)
        ]
        return Evaluation(answers, scores, result_file(found, examples))


def read_gallery(path: str) -> set[str]:
    """The ids of photos in a text or TSV file, the first word of each line. Raises CallError if there are none."""
    text = files.read_bytes(path).decode("utf-8", errors="replace")
    found = {line.split()[0] for line in text.splitlines() if line.strip()}
    if not found:
        raise CallError(f"task.gallery: {path}: no ids in it. Expected the id of a photo in each line.")
    return found
