"""What the checkers of the stages share: a stage's folder with its readable files, unique keys, boxes, crops, mentions.

Everything here reports problems and raises nothing; see VerifyReport.reading.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.parquet import WidthOf, open_parquet, refuse_large
from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.samples import Mention
from vlmixer.artifacts.stages import Details
from vlmixer.pipeline.image.decoding import ImageRejected, decode
from vlmixer.pipeline.verification.report import UNREADABLE, VerifyReport
from vlmixer.pipeline.verification.ties import Ties

ROWS_AT_ONCE = 8192
"""Rows of a table that become Python objects together."""


@dataclass(frozen=True)
class StageFolder(Generic[Details]):
    """A stage's folder to check. `outputs` are the files to read; their bytes are those of the manifest. `ties`: what
    the records of several stages must have in common."""

    folder: str
    manifest: Manifest[Details]
    outputs: Sequence[Output]
    report: VerifyReport
    ties: Ties = field(default_factory=Ties)

    @property
    def complete(self) -> bool:
        """Whether all files of the manifest are to be read."""
        return len(self.outputs) == len(self.manifest.outputs)

    def named(self, ending: str) -> list[Output]:
        """The files to read whose names end so."""
        return [output for output in self.outputs if output.name.endswith(ending)]

    @property
    def parts(self) -> list[Output]:
        """The parts to read (`Manifest.parts`)."""
        return [output for output in self.outputs if output in self.manifest.parts]

    def path(self, output: Output) -> str:
        """The path of a file."""
        return files.join(self.folder, output.name)

    def tables(self, output: Output, schema: pa.Schema | WidthOf, key: str | None = None) -> Iterator[pa.Table]:
        """The rows of a Parquet file, as of `read_tables`."""
        return read_tables(self.path(output), output, schema, self.report, key)

    def column(self, outputs: Iterable[Output], column: str) -> Iterator[str]:
        """A column of those Parquet files that can be read."""
        for output in outputs:
            with suppress(*UNREADABLE), files.open_read(self.path(output)) as file:
                parquet = open_parquet(file)
                for group in range(parquet.num_row_groups):
                    refuse_large(parquet, file, group, [column])
                    for batch in _batches(parquet, group, [column]):
                        yield from batch[column].to_pylist()

    def check_count(self, kind: str, found: int) -> None:
        """Compare a number of records with the manifest's count, if all files could be read."""
        written = self.manifest.counts.get(kind, Counts(0, 0)).written
        if self.complete and found != written:
            self.report.add(self.folder, f"{found} {kind} found, the manifest counts {written}")

    def check_by_concept(self, name: str, numbers: "ByConcept") -> None:
        """Report numbers by concept that are not those of the manifest's details, if all files could be read."""
        if self.complete and (differing := numbers.differing()):
            self.report.add(self.folder, f"{name} by concept: {differing}")

    def check_unique(self, name: str, keys: "UniqueKeys") -> None:
        """Report keys that occur more than once."""
        for key in keys.repeated():
            self.report.add(self.folder, f"{name} {key} occurs twice")


def read_tables(
    path: str, output: Output, schema: pa.Schema | WidthOf, report: VerifyReport, key: str | None = None
) -> Iterator[pa.Table]:
    """The row groups of the Parquet file at `path`, after a check of its schema and its number of rows.

    key: a column whose values are unique; the rows of a group then come ROWS_AT_ONCE at a time, because they take ten
    times the memory as Python objects. A group with a value twice is a problem and not read further: a few bytes can
    repeat a row a million times.
    """
    with files.open_read(path) as file:
        # No threads: if pyarrow's are still starting or ending when the process ends, they sometimes abort it.
        parquet = open_parquet(file)
        expected: pa.Schema = schema if isinstance(schema, pa.Schema) else schema(parquet.schema_arrow)
        if not parquet.schema_arrow.equals(expected):
            report.add(path, f"columns {parquet.schema_arrow.names}, expected {expected.names} of the documented types")
            return
        if parquet.metadata.num_rows != output.rows:
            report.add(path, f"{parquet.metadata.num_rows} rows, the manifest says {output.rows}")
        for group in range(parquet.num_row_groups):
            refuse_large(parquet, file, group)
            if key is None:
                yield parquet.read_row_group(group, use_threads=False)
            elif repeated := _repeated(parquet, group, key):
                report.add(path, f"{key} {repeated[:100]} occurs twice in row group {group}")
            else:
                yield from _batches(parquet, group)


def _batches(parquet: pq.ParquetFile, group: int, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of a row group, a bounded number at a time."""
    for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=columns, use_threads=False):
        yield pa.Table.from_batches([batch])


def _repeated(parquet: pq.ParquetFile, group: int, key: str) -> str:
    """A value that the row group has more than once in this column of texts; "" if there is none."""
    values = parquet.read_row_group(group, columns=[key], use_threads=False)[key].combine_chunks()
    if pc.count_distinct(values).as_py() == len(values):
        return ""
    counts = pc.value_counts(values)
    return str(counts.field("values")[pc.index(counts.field("counts"), pc.max(counts.field("counts"))).as_py()])


class ByConcept:
    """Numbers by concept, and those that the manifest says. Those that it does not name are counted together."""

    def __init__(self, said: Mapping[str, int]) -> None:
        self._said, self._found, self._others = said, Counter[str](), 0

    def add(self, concepts: Iterable[str]) -> None:
        """Count one of each."""
        for concept in concepts:
            if concept in self._said:
                self._found[concept] += 1
            else:
                self._others += 1

    def differing(self) -> str:
        """The first number that differs, "" if none does."""
        if self._others:
            return f"{self._others} of concepts that the manifest does not name"
        for concept, said in self._said.items():
            if self._found[concept] != said:
                return f"{self._found[concept]} of {concept[:40]!r} found, the manifest says {said}"
        return ""


class UniqueKeys:
    """Keys that must be unique. Holds eight bytes per key; if some are equal, `reread` gives all keys again."""

    def __init__(self, reread: Callable[[], Iterable[str]]) -> None:
        self._hashes = array("Q")
        self._reread = reread

    def __len__(self) -> int:
        return len(self._hashes)

    def add(self, key: str) -> None:
        """Remember a key."""
        self._hashes.append(stable_hash(key))

    def repeated(self) -> list[str]:
        """The keys that were added more than once."""
        values = np.frombuffer(self._hashes, np.uint64)
        values.sort()  # in place: a copy would be as large again
        hashes = set(values[1:][values[1:] == values[:-1]].tolist())
        return sorted({key for key in self._reread() if stable_hash(key) in hashes}) if hashes else []


def check_box(path: str, key: str, box: Iterable[float], width: int, height: int, report: VerifyReport) -> None:
    """box: xyxy, pixels of an image of width × height; must lie inside it and not be empty."""
    left, top, right, bottom = box
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        report.add(path, f"{key}: box {[left, top, right, bottom]} is not inside {width}×{height}")


def check_crop(path: str, key: str, crop: bytes, report: VerifyReport) -> None:
    """A crop must be an image that decodes."""
    try:
        decode(crop, max_pixels=1e8)
    except ImageRejected as rejected:
        report.add(path, f"{key}: its crop does not decode: {rejected}")


def check_mention(path: str, key: str, text: str, mention: Mention, report: VerifyReport) -> None:
    """A mention's surface must be what the text has between its start and its end."""
    if not 0 <= mention.start < mention.end or text[mention.start : mention.end] != mention.surface:
        report.add(path, f"{key}: {mention} does not match the text")
