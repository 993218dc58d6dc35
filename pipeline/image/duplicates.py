"""Which images of a surveyed corpus have the same content as an earlier one.

Two passes, so that no process holds the digests of all images. `spread` writes the digests of a group of survey parts
to one file, with a record batch for each share. `compare` reads a share of all groups and writes the duplicates in it,
with a record batch for each group. Who needs the duplicates in a part reads the batch of its group from all shares.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.artifacts.parquet import reading
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA
from vlmixer.pipeline.image.survey import DUPLICATES, SIZES, SPREAD, DetectSizes, SurveyPart, SurveyRows
from vlmixer.pipeline.units.batches import read_batch, write_by_number
from vlmixer.pipeline.units.duplicates import first_of_each

LAYOUT = "duplicates.map"
"""JSON in the work folder: how the digests are divided."""

_PLACE = [pa.field("part", pa.int32(), nullable=False), pa.field("row", pa.int32(), nullable=False)]
DIGESTS = pa.schema(
    [
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("input", pa.int64(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
        *_PLACE,
    ]
)
FOUND = pa.schema([*_PLACE, *(field.with_name(f"first_{field.name}") for field in _PLACE)])
"""A duplicate, and the first image of its content; in order of part and row."""


@dataclass(frozen=True)
class Layout:
    """shares: in how many shares the digests are compared. groups: the parts of the survey by group."""

    shares: int
    groups: tuple[tuple[str, ...], ...]

    @cached_property
    def parts(self) -> list[str]:
        """All parts, by number."""
        return [name for group in self.groups for name in group]

    @cached_property
    def firsts(self) -> list[int]:
        """The number of each group's first part."""
        return np.cumsum([0, *map(len, self.groups)])[:-1].tolist()

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The parts' numbers by name."""
        return {name: number for number, name in enumerate(self.parts)}

    def group_of(self, number: int) -> int:
        """The group of a part."""
        return bisect_right(self.firsts, number) - 1


def lay_out(parts: Sequence[SurveyPart], sizes: DetectSizes = SIZES) -> Layout:
    """How these parts of the survey are divided into groups of consecutive parts."""
    parts = [part for part in parts if part.rows]
    images = sum(part.rows for part in parts)
    size = images / max(sizes.groups(images), 1)
    groups: list[list[str]] = []
    held = 0
    for part in parts:
        if len(groups) <= held / size:
            groups.append([])
        groups[-1].append(part.name)
        held += part.rows
    return Layout(sizes.shares(images), tuple(map(tuple, groups)))


class DuplicateFiles:
    """The files of the search in the folder of the survey."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def begin(self, parts: Sequence[SurveyPart], sizes: DetectSizes = SIZES) -> Layout:
        """Keep the layout for these parts of the survey. The same parts give the same."""
        layout = lay_out(parts, sizes)
        files.publish_bytes(self._path(LAYOUT), manifest.canonical(details.to_json(layout)))
        return layout

    @cached_property
    def layout(self) -> Layout:
        """What `begin` kept."""
        return json_files.read(self._path(LAYOUT), Layout, advice="Run the stage with --overwrite.")

    def spread(self, group: int) -> None:
        """Write the digests of a group by share."""
        found = [DIGESTS.empty_table()]
        for number, name in enumerate(self.layout.groups[group], self.layout.firsts[group]):
            with reading(self._path(name), SURVEY_SCHEMA) as part:
                table = part.read(["digest", "input", "place"])
            rows = np.arange(len(table), dtype=np.int32)
            table = table.append_column(_PLACE[0], pa.array(np.full(len(rows), number, np.int32)))
            found.append(table.append_column(_PLACE[1], pa.array(rows)))
        digests = pa.concat_tables(found).combine_chunks()
        shares = _halves(digests["digest"].combine_chunks())[:, 1] % np.uint64(self.layout.shares)
        write_by_number(self._folder, SPREAD.name(group), digests, shares.astype(np.int64), self.layout.shares)

    def compare(self, share: int) -> None:
        """Write the duplicates of a share by group. First is what comes first among the inputs."""
        groups = range(len(self.layout.groups))
        batches = [read_batch(self._folder, SPREAD.name(group), share) for group in groups]
        digests = np.concatenate([_halves(batch.column("digest")) for batch in batches])
        columns = pa.Table.from_batches([batch.drop_columns(["digest"]) for batch in batches])
        order, of_part, of_row = ([columns[name].to_numpy() for name in names]
                                  for names in (("input", "place"), ("part",), ("row",)))  # fmt: skip
        part, row = of_part[0], of_row[0]
        first = first_of_each(digests, order)
        again = np.flatnonzero(first != np.arange(len(first)))
        again = again[np.lexsort((row[again], part[again]))]
        values = (part[again], row[again], part[first[again]], row[first[again]])
        found = pa.table([pa.array(value, pa.int32()) for value in values], schema=FOUND)
        group_of = np.searchsorted(self.layout.firsts, part[again], "right") - 1
        write_by_number(self._folder, DUPLICATES.name(share), found, group_of, len(groups))

    def of(self, rows: SurveyRows) -> Mapping[int, str]:
        """The duplicates among these rows of the survey, each with the name of the first image of its content."""
        number = self.layout.numbers[rows.part]
        group = self.layout.group_of(number)
        first: dict[int, tuple[int, int]] = {}
        for share in range(self.layout.shares):
            found = read_batch(self._folder, DUPLICATES.name(share), group)
            part, row, first_part, first_row = (column.to_numpy() for column in found.columns)
            begin, end = np.searchsorted(part, [number, number + 1])
            begin, end = begin + np.searchsorted(row[begin:end], [rows.start, rows.stop])
            places = zip(first_part[begin:end].tolist(), first_row[begin:end].tolist(), strict=True)
            first |= zip(row[begin:end].tolist(), places, strict=True)
        names = self._names(first.values())
        return {row: names[place] for row, place in first.items()}

    def _names(self, places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], str]:
        """The names of the images at these places (part, row)."""
        wanted: dict[int, set[int]] = defaultdict(set)
        for number, row in places:
            wanted[number].add(row)
        names = {}
        for number, rows in wanted.items():
            with reading(self._path(self.layout.parts[number]), SURVEY_SCHEMA) as part:
                ends = np.cumsum(part.row_groups)
                held = -1
                for row in sorted(rows):
                    group = int(np.searchsorted(ends, row, "right"))
                    if group != held:
                        table, held = part.read_row_group(group, ["source", "key"]), group
                    at = row - int(ends[group]) + len(table)
                    names[number, row] = ImageRef(table["source"][at].as_py(), table["key"][at].as_py()).name
        return names

    def _path(self, name: str) -> str:
        return files.join(self._folder, name)


def _halves(digests: pa.Array) -> np.ndarray:
    """(n, 2) uint64."""
    start = digests.offset * 16
    raw = digests.buffers()[1]
    return np.frombuffer(raw or b"", np.uint8)[start : start + len(digests) * 16].view(np.uint64).reshape(-1, 2)
