"""From shards to batches: which samples a step reads is a function of (seed, step) alone.

An epoch goes through the shards in an order drawn from (seed, epoch), a few shards at a time; those samples are
shuffled among each other and cut into batches of like length, so that little of a batch is padding. As the
manifest tells how many samples a shard holds, a stopped run is taken up again without reading what it has
already seen. Samples are tokenised once, when their shard is read.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from artifacts import files, manifest
from artifacts.errors import UserError
from artifacts.rng import generator, stable_hash
from artifacts.samples import ImageSample, MixedSample, Sample, read_shard
from model.config import ModelConfig, TrainConfig
from model.network import Sequences
from model.tokenizer import Tokenizer
from model.views import IGNORED, View, mask_words, mixed_view, no_regions, regions_of, set_view, tag_view, text_view

# Samples of so many batches are sorted by length together: enough to find batches of like length, few enough
# that a batch still is a random draw.
BATCHES_SORTED_TOGETHER = 32

Encoded = TypeVar("Encoded")
Kind = TypeVar("Kind", MixedSample, ImageSample)


@dataclass(frozen=True)
class Shard:
    """A tar and the number of samples in it, by the manifest."""

    path: str
    rows: int


@dataclass(frozen=True)
class ShardSet:
    """What a folder of shards holds. `content_hash` is its manifest's."""

    folder: str
    mixed: tuple[Shard, ...]
    images: tuple[Shard, ...]
    feature_dim: int
    content_hash: str

    def samples(self) -> Iterator[Sample]:
        """All samples, shard by shard."""
        for shard in (*self.mixed, *self.images):
            yield from read_shard(shard.path)

    def texts(self) -> Iterator[str]:
        """All sentences and tags, for learning a vocabulary from."""
        for sample in self.samples():
            yield from (sample.text,) if isinstance(sample, MixedSample) else sample.tags


def open_shards(folder: str) -> ShardSet:
    """The shards that `folder`'s manifest lists. Raises UserError if there is none or no mixed sample in them."""
    content = manifest.read(folder)
    mixed, images = (
        tuple(
            Shard(files.join(folder, output.name), output.rows)
            for output in content.outputs
            if output.rows and fnmatch(output.name, pattern)
        )
        for pattern in ("mixed-*.tar", "images-*.tar")
    )
    if not mixed:
        raise UserError(f"{folder}: no mixed samples in these shards. Give the text and image stages more input.")
    try:
        feature_dim = int(content.details["feature_dim"])
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{folder}: the manifest's details lack feature_dim. Run the mix stage again.") from None
    return ShardSet(folder, mixed, images, feature_dim, content.content_hash)


@dataclass(frozen=True)
class EncodedSentence:
    """A mixed sample's views: its `text`, the text `mixed` with patches, and the `patches` alone, as a set (or `mixed`
    again where the sample does not serve that view).

    `number` is equal for equal texts.
    """

    text: View
    mixed: View
    patches: View
    number: int

    def __len__(self) -> int:
        return len(self.text)


def encode_sentences(
    samples: Sequence[MixedSample], tokenizer: Tokenizer, config: ModelConfig, feature_dim: int
) -> list[EncodedSentence]:
    """Mixed samples as views."""
    nothing = no_regions(feature_dim)
    encoded = []
    for sample, pieces in zip(samples, tokenizer.encode([sample.text for sample in samples]), strict=True):
        text = text_view(pieces, tokenizer, config.max_text_tokens, nothing)
        mixed = mixed_view(sample, pieces, text, config.max_regions, config.patch_positions)
        patches = set_view(mixed.regions, tokenizer) if sample.patches_only else mixed
        encoded.append(EncodedSentence(text, mixed, patches, stable_hash(text.ids.tobytes(), bits=56)))
    return encoded


def encode_images(samples: Sequence[ImageSample], tokenizer: Tokenizer, config: ModelConfig) -> list[View]:
    """Image samples as views of their tags and regions."""
    names = sorted({tag for sample in samples for tag in sample.tags})
    pieces = dict(zip(names, tokenizer.encode(names), strict=True))
    return [
        tag_view(
            [pieces[tag] for tag in sample.tags],
            tokenizer,
            config.max_text_tokens,
            regions_of(sample.patches, sample.features, config.max_regions),
        )
        for sample in samples
    ]


class Stream(Generic[Encoded]):
    """The batches of one kind of sample, without end, epoch after epoch."""

    def __init__(
        self,
        name: str,
        shards: Sequence[Shard],
        read: Callable[[Shard], list[Encoded]],
        length: Callable[[Encoded], int],
        batch_size: int,
        shards_in_memory: int,
        seed: int,
    ) -> None:
        """`name` tells its randomness from other streams'; `read` gives a shard's samples, `length` a sample's."""
        self._name, self._shards, self._read, self._length = name, shards, read, length
        self._batch_size, self._window, self._seed = batch_size, shards_in_memory, seed
        self._memory: dict[int, list[Encoded]] = {}

    def batches(self, start: int = 0) -> Iterator[tuple[int, list[Encoded]]]:
        """(epoch, samples) of batch number `start`, counted over all epochs, and of all that follow.

        In an epoch each sample occurs once. The last batch of a group of shards may be smaller.
        """
        for epoch in itertools.count():
            order = generator(self._seed, self._name, epoch).permutation(len(self._shards))
            for group in range(0, len(order), self._window):
                chosen = [int(number) for number in order[group : group + self._window]]
                count = math.ceil(sum(self._shards[number].rows for number in chosen) / self._batch_size)
                if start >= count:
                    start -= count
                    continue
                random = generator(self._seed, self._name, epoch, group)
                yield from ((epoch, batch) for batch in self._cut(self._load(chosen), random)[start:])
                start = 0

    def _load(self, chosen: Sequence[int]) -> list[Encoded]:
        self._memory = {number: samples for number, samples in self._memory.items() if number in chosen}
        for number in chosen:
            if number not in self._memory:
                self._memory[number] = samples = self._read(self._shards[number])
                if len(samples) != (expected := self._shards[number].rows):
                    raise UserError(
                        f"{self._shards[number].path}: holds {len(samples)} samples, its manifest says {expected}. "
                        "Run `vlmixer verify` on the folder, then make this shard again."
                    )
        return [sample for number in chosen for sample in self._memory[number]]

    def _cut(self, samples: list[Encoded], random: np.random.Generator) -> list[list[Encoded]]:
        order = random.permutation(len(samples))
        batches = []
        for first in range(0, len(order), BATCHES_SORTED_TOGETHER * self._batch_size):
            pool = order[first : first + BATCHES_SORTED_TOGETHER * self._batch_size]
            pool = pool[np.argsort([self._length(samples[row]) for row in pool], kind="stable")]
            batches += [pool[row : row + self._batch_size] for row in range(0, len(pool), self._batch_size)]
        return [[samples[row] for row in batches[number]] for number in random.permutation(len(batches))]


@dataclass(frozen=True)
class Masked:
    """Sequences with masked pieces. `chosen`: (n, 2) int64, row and column of each in `ids`; `targets`: (n,)
    int64, what was there; `words`: (n,) int64, which masked word or tag it belongs to, from 0 without gaps."""

    sequences: Sequences
    chosen: Tensor
    targets: Tensor
    words: Tensor

    def to(self, device: torch.device) -> "Masked":
        """The same on `device`."""
        moved = (part.to(device, non_blocking=True) for part in (self.chosen, self.targets, self.words))
        return Masked(self.sequences.to(device), *moved)


@dataclass(frozen=True)
class Batch:
    """What one step reads.

    `mixed`: masked mixed sentences. `images`: images with masked tags, None in runs without image samples.
    `text`, `view`, `sentences`: for the contrast, rows belonging together; sentences without a patch are left out.
    `samples`: how many mixed and image samples; `items`: how many word pieces and regions the encoder sees.
    """

    epoch: int
    samples: int
    items: int
    mixed: Masked
    images: Masked | None
    text: Sequences | None
    view: Sequences | None
    sentences: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return Batch(
            self.epoch,
            self.samples,
            self.items,
            self.mixed.to(device),
            self.images and self.images.to(device),
            self.text and self.text.to(device),
            self.view and self.view.to(device),
            self.sentences.to(device),
        )


class Loader:
    """Batches of a folder of shards for training."""

    def __init__(
        self, shards: ShardSet, tokenizer: Tokenizer, model: ModelConfig, train: TrainConfig, seed: int
    ) -> None:
        self._shards, self._tokenizer, self._model, self._train, self._seed = shards, tokenizer, model, train, seed
        self._sentences: Stream[EncodedSentence] = Stream(
            "sentences",
            shards.mixed,
            lambda shard: encode_sentences(self._samples(shard, MixedSample), tokenizer, model, shards.feature_dim),
            len,
            train.batch_size,
            train.shards_in_memory,
            seed,
        )
        image_batch = round(train.batch_size * train.image_ratio)
        self._images: Stream[View] | None = None
        if shards.images and image_batch:
            self._images = Stream(
                "images",
                shards.images,
                lambda shard: encode_images(self._samples(shard, ImageSample), tokenizer, model),
                len,
                image_batch,
                train.shards_in_memory,
                seed,
            )

    def batches(self, start: int) -> Iterator[Batch]:
        """The batches of step `start` (from 0) and of all that follow."""
        images = itertools.repeat((0, [])) if self._images is None else self._images.batches(start)
        for step, (epoch, sentences) in enumerate(self._sentences.batches(start), start):
            _, pictures = next(images)
            yield self._assemble(step, epoch, sentences, pictures)

    def _samples(self, shard: Shard, kind: type[Kind]) -> list[Kind]:
        samples: list[Kind] = []
        for sample in read_shard(shard.path):
            if not isinstance(sample, kind):
                raise UserError(f"{shard.path}: {sample.key} is a {type(sample).__name__}, expected {kind.__name__}.")
            if sample.features.shape[1] != self._shards.feature_dim:
                raise UserError(
                    f"{shard.path}: {sample.key} has features of width {sample.features.shape[1]}, its manifest "
                    f"says {self._shards.feature_dim}. Run `vlmixer verify` on the folder, then make it again."
                )
            samples.append(sample)
        return samples

    def _assemble(self, step: int, epoch: int, sentences: Sequence[EncodedSentence], pictures: Sequence[View]) -> Batch:
        random = generator(self._seed, "views", step)
        mixed = [sentence.mixed for sentence in sentences]
        masked = self._masked(mixed, self._train.mask_probability, random)
        images = self._masked(pictures, self._train.tag_mask_probability, random) if pictures else None
        dropped = random.random(len(sentences)) < self._train.drop_words
        paired = [(one, alone) for one, alone in zip(sentences, dropped, strict=True) if len(one.mixed.regions)]
        text = [one.text for one, _ in paired]
        view = [one.patches if alone else one.mixed for one, alone in paired]
        return Batch(
            epoch,
            len(sentences) + len(pictures),
            sum(len(sequence) for sequence in itertools.chain(mixed, pictures, text, view)),
            masked,
            images,
            pad(text) if paired else None,
            pad(view) if paired else None,
            torch.tensor([one.number for one, _ in paired], dtype=torch.int64),
        )

    def _masked(self, views: Sequence[View], probability: float, random: np.random.Generator) -> Masked:
        ids = _columns([view.ids for view in views], 0)
        words = _columns([view.words for view in views], -1)
        changed, targets = mask_words(ids, words, self._tokenizer, probability, random)
        rows, columns = np.nonzero(targets != IGNORED)
        # Pieces of one word of one row get one number.
        _, numbers = np.unique(rows * ids.shape[1] + words[rows, columns], return_inverse=True)
        return Masked(
            pad(views, changed),
            torch.from_numpy(np.stack([rows, columns], axis=1)),
            torch.from_numpy(targets[rows, columns]),
            torch.from_numpy(numbers.reshape(-1)),
        )


def pad(views: Sequence[View], ids: np.ndarray | None = None) -> Sequences:
    """Views as a padded batch; `ids`: (B, T) replaces the views' own pieces, for masked ones."""
    text = np.array([len(view.ids) for view in views])[:, None]
    total = np.array([len(view) for view in views])[:, None]
    padded = _columns([view.ids for view in views], 0) if ids is None else ids
    column = np.arange(total.max(initial=0))[None, :]
    mask = column < total
    # A row's regions stand after all T columns of text, wherever its own text ends.
    order = np.where(column < text, column, padded.shape[1] + column - text)
    regions = [np.concatenate([view.regions.features, view.regions.geometry], 1, dtype=np.float32) for view in views]
    segments = np.repeat(np.array([view.segment for view in views], np.int64)[:, None], padded.shape[1], axis=1)
    return Sequences(
        *map(
            torch.from_numpy,
            (
                padded,
                _columns([view.positions for view in views], 0),
                segments,
                _columns(regions, 0),
                _columns([view.regions.positions for view in views], -1),
                np.where(mask, order, 0),
                mask,
            ),
        )
    )


def _columns(rows: Sequence[np.ndarray], filler: int) -> np.ndarray:
    """Arrays of different lengths as one, (B, longest, …), the rest of each row `filler`."""
    lengths = np.array([len(row) for row in rows])
    result = np.full((len(rows), lengths.max(initial=0), *rows[0].shape[1:]), filler, rows[0].dtype)
    result[np.arange(result.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return result
