"""From samples to batches: views of a step's samples, masked, padded and put together.

Which samples a step reads is decided by model.shards; masks and views follow from (seed, step, reader). Samples are
tokenised once, when their shard is read; worker processes may do that ahead of the training.
"""

import itertools
import multiprocessing
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.processes import end_when
from vlmixer.artifacts.rng import generator, stable_hash
from vlmixer.artifacts.samples import ImageSample, MixedSample
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.model.network import Sequences
from vlmixer.model.padding import Masked, MaskedArrays, Padded, as_columns, joined, joined_masked, padded
from vlmixer.model.shards import Shard, ShardSet, Stream, read_rows
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import (
    IGNORED,
    View,
    mask_words,
    mixed_view,
    no_regions,
    regions_of,
    set_view,
    tag_view,
    text_view,
    words_view,
)

Kind = TypeVar("Kind", MixedSample, ImageSample)


@dataclass(frozen=True)
class EncodedSentence:
    """A mixed sample's views: its `text`, the text `mixed` with patches, and what was pasted `alone`, as a set (or
    `mixed` again where the sample does not serve that view).

    `replaced`: (k, 2) int64, a patch of the mixed view and a word piece that it replaced. `concepts`: the patches'.
    `number` is equal for equal texts.
    """

    text: View
    mixed: View
    alone: View
    replaced: np.ndarray
    concepts: tuple[str, ...]
    number: int

    def __len__(self) -> int:
        return len(self.text)


def encode_sentences(
    samples: Sequence[MixedSample], tokenizer: Tokenizer, config: ModelConfig, feature_dim: int, cutmix: bool = True
) -> list[EncodedSentence]:
    """Mixed samples as views. Without `cutmix` there are no patches, and `alone` holds the words they would replace."""
    nothing = no_regions(feature_dim)
    encoded = []
    for sample, pieces in zip(samples, tokenizer.encode([sample.text for sample in samples]), strict=True):
        text = text_view(pieces, tokenizer, config.max_text_tokens, nothing)
        mixed, replaced = mixed_view(sample, pieces, text, config.max_regions, config.patch_positions)
        alone = set_view(mixed.regions, tokenizer) if sample.patches_only else mixed
        if not cutmix:
            mixed, replaced = text, replaced[:0]
            alone = words_view(sample, pieces, tokenizer, config.max_text_tokens)
        concepts = tuple(patch.concept for patch in sample.patches)
        number = stable_hash(text.ids.tobytes(), bits=56)
        encoded.append(EncodedSentence(text, mixed, alone, replaced, concepts, number))
    return encoded


def rarity(sentences: Sequence[EncodedSentence], power: float) -> np.ndarray:
    """(n,) float64: how often to draw each sentence, (1 / n of its rarest concept) ** power.

    n counts the sentences in which a patch of the concept stands. Sentences without a patch count as the commonest.
    The rule is that of the repeat factors of LVIS (Gupta et al., CVPR 2019), where the power is 0.5.
    """
    counts = Counter(concept for sentence in sentences for concept in set(sentence.concepts))
    common = max(counts.values(), default=1)
    rarest = [min((counts[concept] for concept in sentence.concepts), default=common) for sentence in sentences]
    return np.array(rarest, np.float64) ** -power


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


@dataclass(frozen=True)
class MaskedViews:
    """Views with masked pieces, not yet padded.

    `chosen`, `targets`, `words`: as in MaskedArrays.
    """

    views: tuple[View, ...]
    chosen: np.ndarray
    targets: np.ndarray
    words: np.ndarray


@dataclass(frozen=True)
class Part:
    """What one reader has for a step: mixed sentences and images, masked, and the pairs for the contrast.

    `text`, `view`, `sentences`: rows belonging together; sentences without a patch are left out. None: no rows.
    """

    epoch: int
    mixed: MaskedArrays | None
    images: MaskedArrays | None
    text: Padded | None
    view: Padded | None
    sentences: np.ndarray


@dataclass(frozen=True)
class Batch:
    """What one step of one rank reads.

    `mixed`: masked mixed sentences. `images`: images with masked tags, None in runs without image samples.
    `text`, `view`, `sentences`: for the contrast, rows belonging together; sentences without a patch are left out.
    `samples`: how many mixed and image samples; `items`: how many word pieces and regions the encoder sees;
    `pieces`, `tags`: how many pieces and how many tags are to be predicted.
    """

    epoch: int
    samples: int
    items: int
    pieces: int
    tags: int
    mixed: Masked
    images: Masked | None
    text: Sequences | None
    view: Sequences | None
    sentences: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same on `device`."""
        return replace(
            self,
            mixed=self.mixed.to(device),
            images=self.images and self.images.to(device),
            text=self.text and self.text.to(device),
            view=self.view and self.view.to(device),
            sentences=self.sentences.to(device),
        )


class Loader:
    """The batches of one rank from a folder of shards. Readers, of which each rank has some, share the samples."""

    def __init__(
        self,
        shards: ShardSet,
        tokenizer: Tokenizer,
        model: ModelConfig,
        train: TrainConfig,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """Raises UserError if ranks and workers cannot share the readers, or readers the samples."""
        self._shards, self._tokenizer, self._model, self._train, self._seed = shards, tokenizer, model, train, seed
        processes = world * max(train.workers, 1)
        self._readers = train.readers or processes
        if self._readers % processes:
            raise UserError(
                f"train.readers: {self._readers} cannot be shared evenly among {world} ranks with "
                f"{max(train.workers, 1)} workers each. Give a multiple of {processes}, or fewer train.workers."
            )
        self._own = range(rank, self._readers, world)
        self._image_batch = round(train.batch_size * train.image_ratio) if shards.images else 0
        for reader in self._own:
            self._streams(reader)  # says what does not fit, before any work is done

    def batches(self, start: int) -> Iterator[Batch]:
        """The batches of step `start` (from 0) and of all that follow."""
        if not self._train.workers:
            return self._assembled(self.parts(start, self._own))
        workers = self._train.workers
        parts = DataLoader(
            _Parts(self, start),
            batch_size=None,
            num_workers=workers,
            prefetch_factor=4,
            worker_init_fn=_begin_worker,
        )
        return ahead(self._assembled(iter(parts)), 1)

    def _assembled(self, parts: Iterator[Part | UserError]) -> Iterator[Batch]:
        while True:
            step = list(itertools.islice(parts, len(self._own)))
            for part in step:
                if isinstance(part, UserError):
                    raise part
            yield assemble([part for part in step if isinstance(part, Part)])

    def parts(self, start: int, readers: Sequence[int]) -> Iterator[Part]:
        """The parts of these readers, step by step, from step `start`."""
        streams = []
        for reader in readers:
            sentences, images = self._streams(reader)
            pictures = itertools.repeat((0, [])) if images is None else images.batches(start)
            streams.append((reader, sentences.batches(start), pictures))
        for step in itertools.count(start):
            for reader, sentences_of, images_of in streams:
                epoch, encoded = next(sentences_of)
                yield self._part(step, reader, epoch, encoded, next(images_of)[1])

    def worker_parts(self, start: int, worker: int, workers: int) -> Iterator[Part | UserError]:
        """The parts of a worker process. A UserError is handed on as a part, as raising it would change its form."""
        # A rank's readers are dealt out so that turns of the workers give their parts in the readers' order.
        try:
            yield from self.parts(start, self._own[worker::workers])
        except UserError as error:
            yield error

    def _streams(self, reader: int) -> tuple[Stream[EncodedSentence], Stream[View] | None]:
        shards, train, model = self._shards, self._train, self._model

        def sentences(shard: Shard, start: int, stop: int) -> list[EncodedSentence]:
            samples = self._samples(shard, start, stop, MixedSample)
            return encode_sentences(samples, self._tokenizer, model, shards.feature_dim, train.cutmix)

        def images(shard: Shard, start: int, stop: int) -> list[View]:
            return encode_images(self._samples(shard, start, stop, ImageSample), self._tokenizer, model)

        how = (train.shards_in_memory, train.batches_sorted_together, self._seed, reader, self._readers)
        weigh = partial(rarity, power=train.balance) if train.balance else None
        text = Stream("sentences", shards.mixed, sentences, len, train.batch_size, *how, weigh=weigh)
        if not self._image_batch:
            return text, None
        return text, Stream("images", shards.images, images, len, self._image_batch, *how)

    def _samples(self, shard: Shard, start: int, stop: int, kind: type[Kind]) -> list[Kind]:
        samples: list[Kind] = []
        for sample in read_rows(shard, start, stop):
            if not isinstance(sample, kind):
                raise UserError(f"{shard.path}: {sample.key} is a {type(sample).__name__}, expected {kind.__name__}.")
            if sample.features.shape[1] != self._shards.feature_dim:
                raise UserError(
                    f"{shard.path}: {sample.key} has features of width {sample.features.shape[1]}, its manifest "
                    f"says {self._shards.feature_dim}. Run `vlmixer verify` on the folder, then make it again."
                )
            samples.append(sample)
        return samples

    def _part(
        self, step: int, reader: int, epoch: int, sentences: Sequence[EncodedSentence], images: Sequence[View]
    ) -> Part:
        random = generator(self._seed, "views", step, reader)
        mixed = self._masked([sentence.mixed for sentence in sentences], self._train.mask_probability, random)
        if self._train.predict_replaced:
            mixed = with_replaced(mixed, [sentence.replaced for sentence in sentences])
        tags = self._masked(images, self._train.tag_mask_probability, random)
        dropped = random.random(len(sentences)) < self._train.drop_words
        # [CLS] and [SEP] alone are a view of nothing.
        paired = [(one, alone) for one, alone in zip(sentences, dropped, strict=True) if len(one.alone) > 2]
        return Part(
            epoch,
            _padded_masked(mixed),
            _padded_masked(tags),
            padded([one.text for one, _ in paired]) if paired else None,
            padded([one.alone if alone else one.mixed for one, alone in paired]) if paired else None,
            np.array([one.number for one, _ in paired], np.int64),
        )

    def _masked(self, views: Sequence[View], probability: float, random: np.random.Generator) -> MaskedViews:
        if not views:
            none = np.zeros(0, np.int64)
            return MaskedViews((), none.reshape(0, 2), none, none)
        ids = as_columns([view.ids for view in views], 0)
        words = as_columns([view.words for view in views], -1)
        changed, targets = mask_words(ids, words, self._tokenizer, probability, random)
        rows, columns = np.nonzero(targets != IGNORED)
        # Pieces of one word of one row get one number.
        _, numbers = np.unique(rows * ids.shape[1] + words[rows, columns], return_inverse=True)
        masked = tuple(replace(view, ids=row[: len(view.ids)]) for view, row in zip(views, changed, strict=True))
        return MaskedViews(masked, np.stack([rows, columns], axis=1), targets[rows, columns], numbers.reshape(-1))


def _begin_worker(_: int) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_when(lambda: not parent.is_alive())


class _Parts(IterableDataset[Part | UserError]):
    """A loader's parts, as PyTorch's DataLoader wants them."""

    def __init__(self, loader: Loader, start: int) -> None:
        self._loader, self._start = loader, start

    def __iter__(self) -> Iterator[Part | UserError]:
        worker = get_worker_info()
        assert worker is not None
        return self._loader.worker_parts(self._start, worker.id, worker.num_workers)


def with_replaced(masked: MaskedViews, replaced: Sequence[np.ndarray]) -> MaskedViews:
    """`masked`, in which patches must predict, too, the pieces of the words that they replaced.

    `replaced`: for each view (k, 2) int64, a patch of it and a piece. A patch of several pieces predicts each of them.
    """
    rows = np.repeat(np.arange(len(replaced)), [len(pairs) for pairs in replaced])
    pairs = np.concatenate([np.zeros((0, 2), np.int64), *replaced])
    columns = np.array([len(view.ids) for view in masked.views], np.int64)[rows] + pairs[:, 0]
    numbers = int(masked.words.max(initial=-1)) + 1 + np.arange(len(rows))
    return MaskedViews(
        masked.views,
        np.concatenate([masked.chosen, np.stack([rows, columns], axis=1)]),
        np.concatenate([masked.targets, pairs[:, 1]]),
        np.concatenate([masked.words, numbers]),
    )


def _padded_masked(masked: MaskedViews) -> MaskedArrays | None:
    return MaskedArrays(padded(masked.views), masked.chosen, masked.targets, masked.words) if masked.views else None


def assemble(parts: Sequence[Part]) -> Batch:
    """One batch of the parts that a rank's readers have for a step."""
    mixed, images = (joined_masked([getattr(part, name) for part in parts]) for name in ("mixed", "images"))
    text, view = (joined([getattr(part, name) for part in parts]) for name in ("text", "view"))
    assert mixed is not None  # each reader has a sentence for each step
    seen = [mixed.sequences, *([images.sequences] if images is not None else [])]
    return Batch(
        parts[0].epoch,
        sum(map(len, seen)),
        sum(int(part.mask.sum()) for part in (*seen, text, view) if part is not None),
        len(mixed.targets),
        int(images.words.max(initial=-1)) + 1 if images is not None else 0,
        mixed.tensors(),
        None if images is None else images.tensors(),
        None if text is None else text.tensors(),
        None if view is None else view.tensors(),
        torch.from_numpy(np.concatenate([part.sentences for part in parts])),
    )
