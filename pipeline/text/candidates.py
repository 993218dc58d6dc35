"""The files that pass candidates, sentences that may be tagged, from one pass of tagging to the next.

The first pass writes the candidates of each of its units in batches, and next to them their hashes by bucket. The
second reads one bucket of all units and writes which rows repeat an earlier one. The third reads candidates with these
marks. All are Arrow files in the stage's work folder, so sentences never travel through the engine.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import tee

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.units import DUPLICATES, FIND, Bucket, Candidates
from vlmixer.pipeline.units.duplicates import repeats

CANDIDATES = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
HASHES = pa.schema([pa.field("hash", pa.binary(16), nullable=False), pa.field("row", pa.int32(), nullable=False)])
"""Of a unit's hashes: one record batch per bucket."""

ROWS = pa.schema([pa.field("row", pa.int32(), nullable=False)])
"""Of a bucket's duplicates: one record batch per unit of the first pass."""


class CandidateFiles:
    """The files in one work folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def write(self, unit: str, sentences: Iterable[SourceSentence], buckets: int, rows_per_batch: int) -> int:
        """Write what a unit of the first pass keeps, and the hashes by bucket. Returns the number of candidates."""
        hashes = [bytearray() for _ in range(buckets)]
        rows = [array("i") for _ in range(buckets)]
        count = 0
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            files.publishing(self._path(unit)) as file,
            pa.ipc.new_file(file, CANDIDATES, options=options) as writer,
        ):
            for batch in _batches(sentences, rows_per_batch):
                for sentence in batch:
                    digest = blake2b(sentence.text.encode(), digest_size=16).digest()
                    bucket = int.from_bytes(digest[:4], "little") % buckets
                    hashes[bucket] += digest
                    rows[bucket].append(count)
                    count += 1
                writer.write_batch(pa.record_batch(list(zip(*batch, strict=True)), schema=CANDIDATES))
        with files.publishing(self._path(_hashes(unit))) as file, pa.ipc.new_file(file, HASHES) as writer:
            for digests, places in zip(hashes, rows, strict=True):
                columns = [
                    pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(places), [None, pa.py_buffer(digests)]),
                    pa.array(np.frombuffer(places, np.int32)),
                ]
                writer.write_batch(pa.record_batch(columns, schema=HASHES))
        return count

    def mark_duplicates(self, unit: str, bucket: Bucket) -> None:
        """Write, for each unit of the first pass, which of its rows in the bucket repeat an earlier candidate."""
        batches, own = tee(self._bucket(bucket))  # in step, so one batch is held
        with files.publishing(self._path(unit)) as file, pa.ipc.new_file(file, ROWS) as writer:
            for repeated, (_, rows) in zip(repeats(digests for digests, _ in batches), own, strict=True):
                writer.write_batch(pa.record_batch([pa.array(np.sort(rows[repeated]), pa.int32())], schema=ROWS))

    def _bucket(self, bucket: Bucket) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each unit of the first pass: its hashes in the bucket, (n, 2) uint64, and their rows."""
        for number in range(bucket.finds):
            name = _hashes(FIND.name(number))
            with files.open_read(self._path(name)) as file, pa.ipc.open_file(file) as reader:
                batch = reader.get_batch(bucket.number)
            raw = batch.column(0).buffers()[1]
            yield np.frombuffer(raw or b"", np.uint64, 2 * len(batch)).reshape(-1, 2), batch.column(1).to_numpy()

    def read(
        self, content: Candidates, buckets: int, rows_per_batch: int
    ) -> Iterator[tuple[list[SourceSentence], list[bool]]]:
        """The batches of candidates, with whether each candidate is a duplicate."""
        duplicates = np.concatenate([self._duplicates(bucket, content.find) for bucket in range(buckets)])
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
