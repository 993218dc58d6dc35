"""The files that pass candidates, sentences that may be tagged, from one pass of tagging to the next.

The first pass writes the candidates of each of its units in batches, and next to them their hashes by bucket. The
second reads one bucket of all units and writes which rows repeat an earlier one. The third reads candidates with these
marks. All are Arrow files in the stage's work folder, so sentences never travel through the engine. A unit of the first
pass may be one packed file of any size; what is held does not grow with it.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.units import DUPLICATES, FIND, Bucket, Candidates
from vlmixer.pipeline.units.duplicates import Known

CANDIDATES = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
HASHES = pa.schema([pa.field("hash", pa.binary(16), nullable=False), pa.field("row", pa.int32(), nullable=False)])
"""Of a unit's hashes: a record batch per bucket, in the order of the buckets, and so again for the next candidates."""
HASHES_HELD = 1 << 16
"""Hashes that a unit of the first pass holds before it writes them; more if there are many buckets."""
COMPARED_AT_ONCE = 1 << 17
"""About so many different hashes of a bucket are held at a time, 40 bytes for each."""

ROWS = pa.schema([pa.field("row", pa.int32(), nullable=False)])
"""Of a bucket's duplicates: one record batch per unit of the first pass."""


class CandidateFiles:
    """The files in one work folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def write(
        self,
        unit: str,
        sentences: Iterable[SourceSentence],
        buckets: int,
        rows_per_batch: int,
        hashes_held: int = HASHES_HELD,
    ) -> int:
        """Write what a unit of the first pass keeps, and the hashes by bucket. Returns the number of candidates."""
        count = 0
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            files.publishing(self._path(unit)) as file,
            pa.ipc.new_file(file, CANDIDATES, options=options) as writer,
            files.publishing(self._path(_hashes(unit))) as hashes_file,
            pa.ipc.new_file(hashes_file, HASHES) as hashes_writer,
        ):
            held = _Hashes(buckets)
            for batch in _batches(sentences, rows_per_batch):
                for sentence in batch:
                    held.add(blake2b(sentence.text.encode(), digest_size=16).digest(), count)
                    count += 1
                writer.write_batch(pa.record_batch(list(zip(*batch, strict=True)), schema=CANDIDATES))
                if held.count >= max(hashes_held, 16 * buckets):  # so that batches of a bucket are not tiny
                    held.write(hashes_writer)
                    held = _Hashes(buckets)
            held.write(hashes_writer)
        return count

    def mark_duplicates(self, unit: str, bucket: Bucket, buckets: int, at_once: int = COMPARED_AT_ONCE) -> None:
        """Write, for each unit of the first pass, which of its rows in the bucket repeat an earlier candidate.

        A bucket with more than `at_once` rows is compared in several rounds, each with a share of its hashes.
        """
        names = [_hashes(FIND.name(number)) for number in range(bucket.finds)]
        repeated = [np.zeros(sum(len(rows) for _, rows in self._bucket(name, bucket, buckets)), bool) for name in names]
        rounds = 1 + sum(map(len, repeated)) // at_once
        for number in range(rounds):
            known = Known()
            for name, found in zip(names, repeated, strict=True):
                at = 0
                for digests, _ in self._bucket(name, bucket, buckets):
                    mine = np.flatnonzero(digests[:, 1] % np.uint64(rounds) == number)
                    found[at + mine[known.repeats(digests[mine])]] = True
                    at += len(digests)
        with files.publishing(self._path(unit)) as file, pa.ipc.new_file(file, ROWS) as writer:
            for name, found in zip(names, repeated, strict=True):
                rows = np.concatenate(
                    [np.empty(0, np.int32), *(each for _, each in self._bucket(name, bucket, buckets))]
                )
                writer.write_batch(pa.record_batch([pa.array(rows[found], pa.int32())], schema=ROWS))

    def _bucket(self, name: str, bucket: Bucket, buckets: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Hashes of a unit in the bucket, (n, 2) uint64, and their rows, ascending, some at a time."""
        with files.open_read(self._path(name)) as file, pa.ipc.open_file(file) as reader:
            for number in range(bucket.number, reader.num_record_batches, buckets):
                batch = reader.get_batch(number)
                raw = batch.column(0).buffers()[1]
                yield np.frombuffer(raw or b"", np.uint64, 2 * len(batch)).reshape(-1, 2), batch.column(1).to_numpy()

    def read(
        self, content: Candidates, buckets: int, rows_per_batch: int
    ) -> Iterator[tuple[list[SourceSentence], list[bool]]]:
        """The batches of candidates, with whether each candidate is a duplicate."""
        begin, end = content.first * rows_per_batch, content.end * rows_per_batch
        found = [np.zeros(0, np.int32)]
        for bucket in range(buckets):
            rows = self._duplicates(bucket, content.find)
            found.append(rows[slice(*np.searchsorted(rows, [begin, end]))])
        duplicates = np.concatenate(found)
        name = FIND.name(content.find)
        with files.open_read(self._path(name)) as file, pa.ipc.open_file(file) as reader:
            for number in range(content.first, content.end):
                batch = reader.get_batch(number)
                rows = np.arange(number * rows_per_batch, number * rows_per_batch + len(batch))
                columns = [column.to_pylist() for column in batch.columns]
                sentences = [SourceSentence(*row) for row in zip(*columns, strict=True)]
                yield sentences, np.isin(rows, duplicates).tolist()

    def _duplicates(self, bucket: int, find: int) -> np.ndarray:
        name = DUPLICATES.name(bucket)
        with files.open_read(self._path(name)) as file, pa.ipc.open_file(file) as reader:
            rows: np.ndarray = reader.get_batch(find).column(0).to_numpy()
            return rows

    def _path(self, name: str) -> str:
        return files.join(self._folder, f"{name}.arrow")


class _Hashes:
    """Hashes of candidates by bucket, and their rows."""

    def __init__(self, buckets: int) -> None:
        self.count = 0
        self._digests = [bytearray() for _ in range(buckets)]
        self._rows = [array("i") for _ in range(buckets)]

    def add(self, digest: bytes, row: int) -> None:
        bucket = int.from_bytes(digest[:4], "little") % len(self._rows)
        self._digests[bucket] += digest
        self._rows[bucket].append(row)
        self.count += 1

    def write(self, writer: pa.ipc.RecordBatchFileWriter) -> None:
        """One record batch per bucket."""
        for digests, rows in zip(self._digests, self._rows, strict=True):
            columns = [
                pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(digests)]),
                pa.array(np.frombuffer(rows, np.int32)),
            ]
            writer.write_batch(pa.record_batch(columns, schema=HASHES))


def _hashes(unit: str) -> str:
    return f"{unit}-hashes"


def _batches(sentences: Iterable[SourceSentence], size: int) -> Iterator[Sequence[SourceSentence]]:
    held: list[SourceSentence] = []
    for sentence in sentences:
        held.append(sentence)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
