"""The shards of a folder, and the order in which readers go through their samples.

Which samples a step reads is a function of (seed, step, number of readers) alone. An epoch takes the shards in an order
drawn from (seed, epoch), and each reader takes an equal run of its rows, whole shards or parts of shards. So the
readers divide the samples of an epoch without loss or repetition, whatever the number of shards. The manifest has the
number of samples of each shard, so a resumed run does not read what it has already seen.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from threading import Condition
from typing import Generic, TypeVar

import numpy as np

from vlmixer.artifacts import files, manifest, memory
from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, read_shard, read_texts
from vlmixer.artifacts.snapshot import Snapshot
from vlmixer.artifacts.stages import MIX

Encoded = TypeVar("Encoded")
Read = TypeVar("Read")


@dataclass(frozen=True)
class Shard:
    """A tar and, from the manifest, its number of samples."""

    path: str
    rows: int


@dataclass(frozen=True)
class ShardSet:
    """A folder of shards, as its manifest describes it: `bytes` in all, `content_hash` of the manifest, `vocabulary` by
    name."""

    folder: str
    mixed: tuple[Shard, ...]
    images: tuple[Shard, ...]
    feature_dim: int
    vocabulary: str
    vocabulary_hash: str
    content_hash: str
    bytes: int
    snapshot: Snapshot

    def samples(self) -> Iterator[Sample]:
        """All samples, shard by shard."""
        return self._read((*self.mixed, *self.images), read_shard)

    def mixed_samples(self) -> Iterator[MixedSample]:
        """The samples of the shards of mixed sentences."""
        return (sample for sample in self._read(self.mixed, read_shard) if isinstance(sample, MixedSample))

    def image_samples(self) -> Iterator[ImageSample]:
        """The samples of the shards of images."""
        return (sample for sample in self._read(self.images, read_shard) if isinstance(sample, ImageSample))

    def _read(self, shards: Sequence[Shard], read: Callable[[str], Iterator[Read]]) -> Iterator[Read]:
        for shard in shards:
            try:
                yield from read(shard.path)
            except (UserError, OSError):
                self.snapshot.check()  # says more than that a file is damaged or missing
                raise
            self.snapshot.check()

    def rows(self, shard: Shard, start: int, stop: int) -> list[Sample]:
        """Samples `start` to `stop` of a shard. Raises UserError if it is damaged, or the folder was replaced."""
        try:
            return read_rows(shard, start, stop)
        finally:
            self.snapshot.check()

    def texts(self) -> Iterator[str]:
        """All sentences and tags, to learn a vocabulary of word pieces from."""
        yield from self._read(self.mixed, read_texts)
        for sample in self.image_samples():
            yield from sample.tags


def open_shards(folder: str) -> ShardSet:
    """The shards listed in the manifest of `folder`, a path or an fsspec URL.

    Raises UserError if there is no manifest or no mixed sample, CallError for the folder of another stage.
    """
    content = manifest.read(folder, MIX)
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
    details = content.details
    return ShardSet(
        folder=folder,
        mixed=mixed,
        images=images,
        feature_dim=details.feature_dim,
        vocabulary=details.vocabulary,
        vocabulary_hash=details.vocabulary_hash,
        content_hash=content.content_hash,
        bytes=sum(output.bytes for output in content.outputs),
        snapshot=Snapshot(folder, content),
    )


def read_rows(shard: Shard, start: int, stop: int) -> list[Sample]:
    """Samples `start` to `stop` of a shard, which is read from its beginning. Raises UserError if it is damaged."""
    reading = read_shard(shard.path)
    samples = list(itertools.islice(reading, start, stop))
    # Reading past the last sample also checks the end of the archive.
    more = stop == shard.rows and next(reading, None) is not None
    if len(samples) != stop - start or more:
        found = "more" if more else start + len(samples)
        raise UserError(
            f"{shard.path}: holds {found} samples, the manifest says {shard.rows}. "
            "Run `vlmixer verify` on the folder, then make this shard again."
        )
    return samples


class Stream(Generic[Encoded]):
    """The batches of one reader from one kind of sample, epoch after epoch, without end."""

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

        name: gives this stream random numbers of its own.
        read: returns rows `start` to `stop` of a shard.
        length: the length of a sample.
        batch_size: number of samples of all readers together.
        shards_in_memory: about how many shards a reader shuffles at a time.
        sorted_together: number of batches whose samples are sorted by length, to have similar lengths in a batch.
        weigh: (n,) weights of the n samples in memory. Each is drawn in proportion to its weight, n in all. Without
            it each is taken once.

        Raises UserError if there are fewer samples than readers.
        """
        self._name, self._shards, self._read, self._length, self._seed = name, shards, read, length, seed
        self._together, self._weigh = sorted_together, weigh
        rows = sum(shard.rows for shard in shards)
        if min(rows, batch_size) < readers:
            raise UserError(
                f"{name}: {rows} samples in batches of {batch_size} cannot be shared among {readers} readers. "
                "Give more samples or a larger batch, or set train.readers lower."
            )
        #: Number of steps per epoch. An epoch is cut into equal batches of at most batch_size samples.
        self.steps = min(-(-rows // batch_size), rows // readers)
        self._first, self._count = rows * reader // readers, rows * (reader + 1) // readers - rows * reader // readers
        # The samples of one group of batches come from about shards_in_memory shards.
        groups = round(rows / readers / (shards_in_memory * rows / len(shards)))
        self._groups = min(max(groups, 1), self.steps)

    def batches(self, start: int = 0) -> Iterator[tuple[int, list[Encoded]]]:
        """(epoch, samples) of batch number `start`, counted over all epochs, and of all later batches.

        In an epoch each of the reader's samples occurs once, or in proportion to its weight.
        """
        # The next group is read while this one is used, so that training does not wait for it.
        used = _Used()
        groups = ahead(self._grouped(start, used), 1)
        try:
            for epoch, batches in groups:
                while batches:
                    yield epoch, batches.popleft()
                    used.count()
        finally:
            used.stop()
            groups.close()

    def _grouped(self, start: int, used: "_Used") -> Iterator[tuple[int, deque[list[Encoded]]]]:
        """The batches from number `start` on, group by group, until `used` is stopped."""
        held: dict[tuple[int, int, int], list[Encoded]] = {}
        before = current = 0  # batches of all groups before the one that is used now, and of that one
        for epoch in itertools.count(start // self.steps):
            order = generator(self._seed, self._name, epoch).permutation(len(self._shards))
            for group in range(self._groups):
                first, last = (self.steps * number // self._groups for number in (group, group + 1))
                skip = max(start - epoch * self.steps - first, 0)
                if skip < last - first:
                    # Shard by shard, as the batches of this group are used and their memory is free again.
                    samples = self._load(order, first, last, held, used.shares(before, current))
                    if used.stopped:
                        return
                    before, current = before + current, last - first - skip
                    batches = deque(self._cut(samples, epoch, first, last)[skip:])
                    if self._groups > 1:
                        held.clear()
                    del samples
                    yield epoch, batches
                    del batches

    def _row(self, batch: int) -> int:
        """Where batch number `batch` begins in the order of all rows of an epoch."""
        return self._first + self._count * batch // self.steps

    def _load(
        self,
        order: np.ndarray,
        first: int,
        last: int,
        held: dict[tuple[int, int, int], list[Encoded]],
        may_hold: Callable[[float], bool],
    ) -> list[Encoded]:
        """The samples of batches `first` to `last`. `held` keeps what was read.

        may_hold: waits until there is room for this share of them; False: there is no need of them any more.
        """
        chosen: list[tuple[int, int, int]] = []
        at = 0
        for number in map(int, order):
            rows = self._shards[number].rows
            start, stop = max(self._row(first) - at, 0), min(self._row(last) - at, rows)
            if start < stop:
                chosen.append((number, start, stop))
            at += rows
        for part in held.keys() - chosen:
            del held[part]
        for place, part in enumerate(chosen):
            # The one that is being read, and another, so that training does not wait for the last one.
            if part not in held and may_hold((place - 1) / len(chosen)):
                number, start, stop = part
                held[part] = self._read(self._shards[number], start, stop)
                memory.give_back()  # the records that the samples were made of
        return [sample for part in chosen for sample in held.get(part, ())]

    def _cut(self, samples: list[Encoded], epoch: int, first: int, last: int) -> list[list[Encoded]]:
        """The samples, shuffled, as batches of similar length."""
        shuffling = generator(self._seed, self._name, epoch, first, self._first)
        # The same for all readers, so that their parts of a step have similar lengths, too.
        ordering = generator(self._seed, self._name, epoch, first)
        rows = np.arange(len(samples)) if self._weigh is None else drawn(self._weigh(samples), shuffling.random())
        order = shuffling.permutation(rows)
        bounds = [self._row(batch) - self._row(first) for batch in range(first, last + 1)]
        batches: list[list[Encoded]] = []
        for start in range(0, last - first, self._together):
            edges = bounds[start : start + self._together + 1]
            pool = order[edges[0] : edges[-1]]
            pool = pool[np.argsort([self._length(samples[row]) for row in pool], kind="stable")]
            parts = np.split(pool, np.array(edges[1:-1], np.int64) - edges[0])
            batches += [[samples[row] for row in parts[number]] for number in ordering.permutation(len(parts))]
        return batches


class _Used:
    """Counts the batches that were used. Another thread waits for a number of them."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._number = 0
        self.stopped = False

    def count(self) -> None:
        """One more."""
        with self._changed:
            self._number += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Nobody uses any more."""
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def shares(self, first: int, number: int) -> Callable[[float], bool]:
        """A function that waits for a share of `number` batches after the `first`. It returns False once stopped."""

        def wait(share: float) -> bool:
            with self._changed:
                self._changed.wait_for(lambda: self.stopped or self._number >= first + share * number)
                return not self.stopped

        return wait


def drawn(weights: np.ndarray, offset: float) -> np.ndarray:
    """(n,) int64, ascending rows; each occurs n × its share of the (n,) `weights` times, rounded up or down.

    Systematic sampling: n equal steps through the running sum. `offset`: where in the first step to begin, 0 … 1.
    """
    ends = np.cumsum(weights / weights.sum())
    return np.minimum(np.searchsorted(ends, (np.arange(len(weights)) + offset) / len(weights), "right"), len(ends) - 1)
