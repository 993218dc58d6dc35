"""The shards of a folder, and the order in which readers go through their samples.

Which samples a step reads is a function of (seed, step, number of readers) alone: an epoch goes through the shards in
an order drawn from (seed, epoch), and each reader takes an equal run of rows of it, whole shards or parts of shards. So
readers share an epoch's samples without loss or repetition, whatever the number of shards. As the manifest tells how
many samples a shard holds, a stopped run is taken up again without reading what it has already seen.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from threading import Event
from typing import Generic, TypeVar

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import MixedSample, Sample, read_shard

Encoded = TypeVar("Encoded")


@dataclass(frozen=True)
class Shard:
    """A tar and the number of samples in it, by the manifest."""

    path: str
    rows: int


@dataclass(frozen=True)
class ShardSet:
    """What a folder of shards holds. `content_hash` is its manifest's; `vocabulary` names that of its concepts."""

    folder: str
    mixed: tuple[Shard, ...]
    images: tuple[Shard, ...]
    feature_dim: int
    vocabulary: str | None
    vocabulary_hash: str | None
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
    """The shards that the manifest of `folder`, a path or an fsspec URL, lists.

    Raises UserError if there is none or no mixed sample in them.
    """
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
    vocabulary, vocabulary_hash = (content.details.get(key) for key in ("vocabulary", "vocabulary_hash"))
    return ShardSet(folder, mixed, images, feature_dim, vocabulary, vocabulary_hash, content.content_hash)


def read_rows(shard: Shard, start: int, stop: int) -> list[Sample]:
    """Samples `start` to `stop` of a shard; it is read up to there. Raises UserError naming it where it is damaged."""
    reading = read_shard(shard.path)
    samples = list(itertools.islice(reading, start, stop))
    # Reading on behind the last sample also checks the archive's end.
    more = stop == shard.rows and next(reading, None) is not None
    if len(samples) != stop - start or more:
        found = "more" if more else start + len(samples)
        raise UserError(
            f"{shard.path}: holds {found} samples, its manifest says {shard.rows}. "
            "Run `vlmixer verify` on the folder, then make this shard again."
        )
    return samples


class Stream(Generic[Encoded]):
    """One reader's batches of one kind of sample, without end, epoch after epoch."""

    def __init__(
        self,
        name: str,
        shards: Sequence[Shard],
        read: Callable[[Shard, int, int], list[Encoded]],
        length: Callable[[Encoded], int],
        batch_size: int,
        shards_in_memory: int,
        sorted_together: int,
        seed: int,
        reader: int = 0,
        readers: int = 1,
        weigh: Callable[[Sequence[Encoded]], np.ndarray] | None = None,
    ) -> None:
        """The batches of reader number `reader` of `readers`.

        `name` tells this randomness from other streams'; `read` gives rows of a shard, `length` a sample's length;
        `batch_size` counts all readers' samples; from `sorted_together` batches' samples those of like length are put
        together. With `weigh` each of the n samples in memory is taken as often as its weight among the (n,) weights
        says, n in all, rather than each once. Raises UserError if there are fewer samples than readers.
        """
        self._name, self._shards, self._read, self._length, self._seed = name, shards, read, length, seed
        self._together, self._weigh = sorted_together, weigh
        rows = sum(shard.rows for shard in shards)
        if min(rows, batch_size) < readers:
            raise UserError(
                f"{name}: {rows} samples in batches of {batch_size} cannot be shared among {readers} readers. "
                "Give more samples or a larger batch, or set train.readers lower."
            )
        #: Steps of an epoch. Its samples are cut into equal batches, none above batch_size.
        self.steps = min(-(-rows // batch_size), rows // readers)
        self._first, self._count = rows * reader // readers, rows * (reader + 1) // readers - rows * reader // readers
        # So many groups of batches that the samples of one come from about shards_in_memory shards.
        groups = round(rows / readers / (shards_in_memory * rows / len(shards)))
        self._groups = min(max(groups, 1), self.steps)

    def batches(self, start: int = 0) -> Iterator[tuple[int, list[Encoded]]]:
        """(epoch, samples) of batch number `start`, counted over all epochs, and of all that follow.

        In an epoch each of the reader's samples occurs once, or as often as its weight says.
        """
        # The next group is read while this one is used; else a training would wait for it.
        stopped = Event()
        groups = ahead(self._grouped(start, stopped), 1)
        try:
            for epoch, batches in groups:
                yield from ((epoch, batch) for batch in batches)
        finally:
            stopped.set()
            groups.close()

    def _grouped(self, start: int, stopped: Event) -> Iterator[tuple[int, list[list[Encoded]]]]:
        """The batches from number `start` on, group by group; no more of them once `stopped`."""
        memory: dict[tuple[int, int, int], list[Encoded]] = {}
        for epoch in itertools.count(start // self.steps):
            order = generator(self._seed, self._name, epoch).permutation(len(self._shards))
            for group in range(self._groups):
                first, last = (self.steps * number // self._groups for number in (group, group + 1))
                skip = max(start - epoch * self.steps - first, 0)
                if skip < last - first:
                    samples = self._load(order, first, last, memory, stopped)
                    if stopped.is_set():
                        return
                    yield epoch, self._cut(samples, epoch, first, last)[skip:]

    def _row(self, batch: int) -> int:
        """Where, in an epoch's order of all rows, batch number `batch` begins."""
        return self._first + self._count * batch // self.steps

    def _load(
        self,
        order: np.ndarray,
        first: int,
        last: int,
        memory: dict[tuple[int, int, int], list[Encoded]],
        stopped: Event,
    ) -> list[Encoded]:
        """The samples of the batches from `first` to `last`, fewer once `stopped`; `memory` keeps what it has read."""
        chosen: list[tuple[int, int, int]] = []
        at = 0
        for number in map(int, order):
            rows = self._shards[number].rows
            start, stop = max(self._row(first) - at, 0), min(self._row(last) - at, rows)
            if start < stop:
                chosen.append((number, start, stop))
            at += rows
        for part in memory.keys() - chosen:
            del memory[part]
        for part in chosen:
            if part not in memory and not stopped.is_set():
                number, start, stop = part
                memory[part] = self._read(self._shards[number], start, stop)
        return [sample for part in chosen for sample in memory.get(part, ())]

    def _cut(self, samples: list[Encoded], epoch: int, first: int, last: int) -> list[list[Encoded]]:
        """The samples, shuffled, as batches of like length."""
        mixing = generator(self._seed, self._name, epoch, first, self._first)
        # The same for all readers, so that their parts of one step are of like length as well.
        ordering = generator(self._seed, self._name, epoch, first)
        rows = np.arange(len(samples)) if self._weigh is None else drawn(self._weigh(samples), mixing.random())
        order = mixing.permutation(rows)
        bounds = [self._row(batch) - self._row(first) for batch in range(first, last + 1)]
        batches: list[list[Encoded]] = []
        for start in range(0, last - first, self._together):
            edges = bounds[start : start + self._together + 1]
            pool = order[edges[0] : edges[-1]]
            pool = pool[np.argsort([self._length(samples[row]) for row in pool], kind="stable")]
            parts = np.split(pool, np.array(edges[1:-1], np.int64) - edges[0])
            batches += [[samples[row] for row in parts[number]] for number in ordering.permutation(len(parts))]
        return batches


def drawn(weights: np.ndarray, offset: float) -> np.ndarray:
    """(n,) int64, rows in rising order, each as often as its share of the (n,) `weights` times n, rounded up or down.

    Systematic sampling: n equal steps through the running sum, from `offset`, a number from 0 to 1, of a step.
    """
    ends = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(ends, (np.arange(len(weights)) + offset) / len(weights), "right"), len(ends) - 1)
