"""Batches from shards. Readers and worker processes are those of model.readers.

Which samples a step reads is decided by model.shards; masks and views depend on (seed, step, reader) alone. How a
sample becomes views is left to model.encoding, and how views become a batch to model.batch.
"""

import itertools
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TypeVar

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import ImageSample, MixedSample
from vlmixer.model.batch import Batch, Part, assemble, mask_views, padded_masked, unmasked, with_replaced
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.model.encoding import EncodedSentence, encode_images, encode_sentences, rarity
from vlmixer.model.readers import PartLoader, readers_of
from vlmixer.model.shards import Shard, ShardSet, Stream
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import View

Kind = TypeVar("Kind", MixedSample, ImageSample)


class Loader(PartLoader[Part, Batch]):
    """The batches of one rank from a folder of shards. Each rank has some of the readers that share the samples."""

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
        """Raises UserError if the readers cannot be divided among ranks and workers, or the samples among readers."""
        self._shards, self._tokenizer, self._model, self._train, self._seed = shards, tokenizer, model, train, seed
        self._readers = readers_of(train, world)
        super().__init__(range(rank, self._readers, world), train.workers)
        self._image_batch = round(train.batch_size * train.image_ratio) if shards.images else 0
        for reader in self._own:
            self._streams(reader)  # raises what does not fit before any work is done

    def parts(self, start: int, readers: Sequence[int]) -> Iterator[Part]:
        """The parts of these readers, step by step, from step `start` on."""
        streams = []
        for reader in readers:
            sentences, images = self._streams(reader)
            pictures = itertools.repeat((0, [])) if images is None else images.batches(start)
            streams.append((reader, sentences.batches(start), pictures))
        for step in itertools.count(start):
            for reader, sentences_of, images_of in streams:
                epoch, encoded = next(sentences_of)
                yield self._part(step, reader, epoch, encoded, next(images_of)[1])

    def assemble(self, parts: Sequence[Part]) -> Batch:
        """The batch of a step."""
        return assemble(parts, self._model.pooling if self._train.contrastive_weight else None)

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
        for sample in self._shards.rows(shard, start, stop):
            if not isinstance(sample, kind):
                raise UserError(f"{shard.path}: {sample.key} is a {type(sample).__name__}, expected {kind.__name__}.")
            if sample.features.shape[1] != self._shards.feature_dim:
                raise UserError(
                    f"{shard.path}: {sample.key} has features of width {sample.features.shape[1]}, the manifest "
                    f"says {self._shards.feature_dim}. Run `vlmixer verify` on the folder, then make it again."
                )
            samples.append(sample)
        return samples

    def _part(
        self, step: int, reader: int, epoch: int, sentences: Sequence[EncodedSentence], images: Sequence[View]
    ) -> Part:
        random = generator(self._seed, "views", step, reader)
        mixed = mask_views(
            [sentence.mixed for sentence in sentences], self._tokenizer, self._train.mask_probability, random
        )
        if self._train.predict_replaced:
            mixed = with_replaced(mixed, [sentence.replaced for sentence in sentences])
        tags = mask_views(images, self._tokenizer, self._train.tag_mask_probability, random)
        dropped = random.random(len(sentences)) < self._train.drop_words
        # A view of [CLS] and [SEP] alone is empty.
        paired = [(one, alone) for one, alone in zip(sentences, dropped, strict=True) if len(one.alone) > 2]
        text = mask_views([one.text for one, _ in paired], self._tokenizer, self._train.text_mask_probability, random)
        view = unmasked([one.alone if alone else one.mixed for one, alone in paired])
        return Part(
            epoch=epoch,
            mixed=padded_masked(mixed),
            images=padded_masked(tags),
            text=padded_masked(text),
            view=padded_masked(with_replaced(view, [one.replaced for one, _ in paired])),
            sentences=np.array([one.number for one, _ in paired], np.int64),
        )
