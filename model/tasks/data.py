"""Examples with their photos: grouped by photo, so that an epoch reads the features of each once, in sorted order.

A chunk is the examples of some photos that follow each other in regions/. To model.shards, which shuffles, divides
among readers and resumes, a chunk is a shard.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rejects import RejectLog, bad_count, meaning
from vlmixer.artifacts.rng import generator
from vlmixer.model.readers import PartLoader, readers_of
from vlmixer.model.shards import Shard, Stream
from vlmixer.model.tasks.base import Encoded, Example, Setup, Task
from vlmixer.model.tasks.photos import Photos, UnknownPhoto

BLOCK = 2048
"""Examples that are encoded together where they are read in order."""
SHOWN = 5
"""Rejects that a message quotes."""


@dataclass(frozen=True)
class ExampleSet:
    """Examples in the order of their photos. `photos`: (examples, photos of each) int64, numbers. `counts`: of what the
    files hold."""

    examples: tuple[Example, ...]
    photos: np.ndarray
    counts: Counts

    def __len__(self) -> int:
        return len(self.examples)


def with_photos(
    task: Task[Any], examples: Sequence[Example], photos: Photos, log: RejectLog, read: int, shuffled: int | None = None
) -> ExampleSet:
    """The examples whose photos are there, in the order of the photos; the others go into `log`.

    read: examples in the files, with those in `log`. shuffled: a seed by which each photo is replaced by another one.
    """
    kept: list[Example] = []
    numbers: list[list[int]] = []
    for example in examples:
        try:
            numbers.append([photos.number(image) for image in example.images])
            kept.append(example)
        except UnknownPhoto as unknown:
            log.add(task.name, example.key, unknown.reason, unknown.detail)
    found = np.array(numbers, np.int64).reshape(len(kept), task.photos)
    order = np.lexsort(found.T[::-1]) if len(kept) else np.zeros(0, np.int64)
    found = found[order]
    if shuffled is not None:
        found = _shuffled(found, shuffled)
        again = np.lexsort(found.T[::-1])
        order, found = order[again], found[again]
    return ExampleSet(tuple(kept[row] for row in order), found, Counts(read, len(kept), log.counts()))


def check_bad(counts: Counts, log: RejectLog, most: float, what: str) -> None:
    """Raises UserError if more than the share `most` of what was read is bad, with the first of each reason."""
    bad = bad_count(counts.rejected.items())
    if counts.read and counts.written and bad <= most * counts.read:
        return
    listed = [
        f"- {number:,} {reason}: {meaning(reason)}, such as {_quoted(log, reason)}"
        for reason, number in counts.rejected.items()
    ]
    expected = f"at most {most:.0%} (task.max_bad_fraction)" if counts.written else "at least one that can be used"
    raise UserError(f"{what}: {bad:,} of {counts.read:,} examples cannot be used, expected {expected}.", *listed)


def _quoted(log: RejectLog, reason: str) -> str:
    found = [reject for reject in log.rejects if reject.reason == reason][:SHOWN]
    return "; ".join(f"{reject.key} ({reject.detail})" if reject.detail else reject.key for reject in found)


def _shuffled(numbers: np.ndarray, seed: int) -> np.ndarray:
    """`numbers` with each photo replaced by another of them; the same photo always by the same."""
    photos = np.unique(numbers)
    order = generator(seed, "shuffled photos").permutation(photos)
    other = dict(zip(order.tolist(), np.roll(order, 1).tolist(), strict=True))
    return np.array([[other[number] for number in row] for row in numbers.tolist()], np.int64).reshape(numbers.shape)


@dataclass(frozen=True)
class Encoding:
    """How examples become what the network reads. It is the same in each process that reads."""

    task: Task[Any]
    setup: Setup[Any]
    photos: Photos

    def encode(self, examples: ExampleSet, start: int, stop: int, training: bool) -> list[Encoded]:
        """Examples `start` to `stop`. Reads the features of their photos, in order."""
        numbers = examples.photos[start:stop]
        found = self.photos.read(np.unique(numbers).tolist(), self.setup.feature_dim)
        rows = [[found[number] for number in row] for row in numbers.tolist()]
        encoded = self.task.encode(self.setup, examples.examples[start:stop], rows, training)
        return [replace(one, photos=tuple(row)) for one, row in zip(encoded, numbers.tolist(), strict=True)]


def in_order(encoding: Encoding, examples: ExampleSet, block: int = BLOCK) -> Iterator[tuple[int, list[Encoded]]]:
    """All examples in their order, in blocks, each with the number of its first example."""
    for start in range(0, len(examples), block):
        yield start, encoding.encode(examples, start, min(start + block, len(examples)), training=False)


class TaskLoader(PartLoader[Any, Any]):
    """The batches of one rank from a set of examples. Each rank has some of the readers that share the examples."""

    def __init__(self, encoding: Encoding, examples: ExampleSet, seed: int, rank: int = 0, world: int = 1) -> None:
        """Raises UserError if the readers cannot be divided among ranks and workers, or the examples among readers."""
        settings = encoding.setup.settings
        self._encoding, self._examples, self._seed = encoding, examples, seed
        self._readers = readers_of(settings, world, "task")
        super().__init__(range(rank, self._readers, world), settings.workers)
        self._chunks = chunks(examples.photos[:, 0], settings.photos_per_chunk)
        self._firsts = dict(
            zip(self._chunks, np.cumsum([0, *(chunk.rows for chunk in self._chunks)]).tolist(), strict=False)
        )
        #: Batches per epoch.
        self.steps = max(self._stream(reader).steps for reader in self._own)

    def parts(self, start: int, readers: Sequence[int]) -> Iterator[Any]:
        """The parts of these readers, step by step, from step `start` on."""
        task, setup = self._encoding.task, self._encoding.setup
        streams = [(reader, self._stream(reader).batches(start)) for reader in readers]
        for step in itertools.count(start):
            for reader, examples_of in streams:
                epoch, encoded = next(examples_of)
                random = generator(self._seed, "views", step, reader)
                yield replace(task.part(setup, encoded, random), epoch=epoch)

    def assemble(self, parts: Sequence[Any]) -> Any:
        """The batch of a step."""
        return self._encoding.task.assemble(self._encoding.setup, parts)

    def _stream(self, reader: int) -> Stream[Encoded]:
        settings = self._encoding.setup.settings

        def read(chunk: Shard, start: int, stop: int) -> list[Encoded]:
            first = self._firsts[chunk]
            return self._encoding.encode(self._examples, first + start, first + stop, training=True)

        how = (settings.shards_in_memory, settings.batches_sorted_together, self._seed, reader, self._readers)
        return Stream("examples", self._chunks, read, len, settings.batch_size, *how)


def chunks(photos: np.ndarray, size: int) -> list[Shard]:
    """The examples of up to `size` photos each. `photos`: (examples,) int64, ascending. Raises UserError if empty."""
    if not len(photos):
        raise UserError("There are no examples to train on.")
    _, number = np.unique(photos, return_inverse=True)
    counts = np.bincount(number // size)
    return [Shard(f"chunk {row}", int(count)) for row, count in enumerate(counts)]
