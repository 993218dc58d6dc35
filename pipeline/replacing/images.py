"""The survey of a corpus without some images, made from the record of the run over all of them.

It is what stage `detect` would survey if the images had not been there. No input is read.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, schemas
from vlmixer.pipeline.image.readers.base import FILES
from vlmixer.pipeline.image.readers.image_files import FILES_PER_PIECE, URLS_PER_PIECE
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA
from vlmixer.pipeline.image.record import SCHEMA, each_group, read_inputs
from vlmixer.pipeline.image.survey import SURVEY_UNITS, SurveyPart
from vlmixer.pipeline.replacing.finding import FoundImages
from vlmixer.pipeline.units.batches import read_batch, write_by_number

ROWS_AT_ONCE = 1 << 18
"""Images of a record that are sorted at once, some hundred bytes each."""
_SPREAD = "images-by-part"
_ROWS = pa.schema(
    [
        *(
            # Files of Arrow do not take dictionaries that change.
            field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
            for field in SURVEY_SCHEMA
            if field.name not in ("reason", "detail")
        ),
        *(SCHEMA.field(name) for name in ("part", "row", "reader", "one_unit")),
    ]
)
"""The columns of the record that the survey is made from."""


@dataclass(frozen=True)
class RemainingInputs:
    """The files of the plan that stay. gone: places of the others among all of them, ascending."""

    entries: list[dict[str, Any]]
    gone: tuple[int, ...]

    def number(self, before: int) -> int:
        """The place of a file that stays, which was the one of number `before`."""
        return before - bisect_left(self.gone, before)


def remaining_inputs(regions: str, gone: FoundImages) -> RemainingInputs:
    """The files with which stage `detect` would be planned without the images. regions: its folder."""
    entries = read_inputs(regions)
    leaves = [entry["name"] in gone.files for entry in entries]
    stays = [entry for entry, leaving in zip(entries, leaves, strict=True) if not leaving]
    return RemainingInputs(stays, tuple(np.flatnonzero(leaves).tolist()))


def write_survey(regions: str, work: str, gone: FoundImages, rows_at_once: int = ROWS_AT_ONCE) -> list[SurveyPart]:
    """Write the parts of the survey to the folder `work`, without the images. regions: the folder with the record.

    The record has the images in the order of units. They are sorted through files in `work`, about `rows_at_once` at a
    time, so that the memory does not grow with them.
    """
    layout = _look(regions, rows_at_once)
    spread = 0
    for table in _in_pieces(_remaining(regions, gone), rows_at_once):
        buckets = layout.bucket_of[_numbers(table["part"])]
        write_by_number(work, f"{_SPREAD}-{spread}", table, buckets, layout.buckets, packed=True)
        spread += 1
    writer = _PartWriter(work, layout)
    for bucket in range(layout.buckets):
        tables = [pa.Table.from_batches([read_batch(work, f"{_SPREAD}-{number}", bucket)]) for number in range(spread)]
        table = pa.concat_tables([_ROWS.empty_table(), *tables]).combine_chunks()
        writer.add(table.take(pa.array(np.lexsort((table["row"].to_numpy(), _numbers(table["part"]))))))
    for number in range(spread):
        files.remove(files.join(work, f"{_SPREAD}-{number}.arrow"))
    return writer.finish()


@dataclass(frozen=True)
class _Layout:
    """bucket_of: by number of a part of the old survey, the bucket with its rows; consecutive parts share one.
    of_files: how many parts are of image files. per_piece: how many files a part takes."""

    bucket_of: np.ndarray
    of_files: int
    per_piece: int

    @property
    def buckets(self) -> int:
        """How many there are."""
        return int(self.bucket_of[-1]) + 1


def _look(regions: str, rows_at_once: int) -> _Layout:
    """The layout for the record's parts."""
    rows = np.zeros(0, np.int64)
    of_files: set[int] = set()
    urls = False
    for group in each_group(regions, ["part", "reader", "source"]):
        numbers = _numbers(group["part"])
        counts = np.bincount(numbers, minlength=len(rows))
        counts[: len(rows)] += rows
        rows = counts
        alone = pc.equal(group["reader"], FILES)
        of_files.update(np.unique(numbers[alone.to_numpy()]).tolist())
        urls = urls or any(map(files.is_url, pc.unique(_text(group.filter(alone)["source"])).to_pylist()))
    starts = np.cumsum(rows) - rows
    buckets: np.ndarray = np.unique(starts // rows_at_once, return_inverse=True)[1]
    return _Layout(buckets, len(of_files), URLS_PER_PIECE if urls else FILES_PER_PIECE)


def _remaining(regions: str, gone: FoundImages) -> Iterator[pa.Table]:
    """The rows of the record that stay, with the columns of _ROWS."""
    ids = pa.array(sorted(gone.ids), pa.string())
    for group in each_group(regions, ["image_id", *_ROWS.names]):
        stays = pc.invert(pc.is_in(group["image_id"], value_set=ids))
        yield group.filter(stays).select(_ROWS.names).cast(_ROWS)


def _in_pieces(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """The rows of all tables in tables of at least so many, the last one but for."""
    held: list[pa.Table] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= rows:
            yield pa.concat_tables(held)
            held = []
    if held:
        yield pa.concat_tables(held)


class _PartWriter:
    """Writes the parts of the new survey from the rows of the old one, which come in order."""

    def __init__(self, work: str, layout: _Layout) -> None:
        self._work, self._layout = work, layout
        self._alone = _ROWS.empty_table()
        self._of_files: list[SurveyPart] = []
        self._parts: list[SurveyPart] = []

    def add(self, table: pa.Table) -> None:
        """Write the parts that are complete with these rows. A part of the old survey is in one table, whole."""
        of_files = pc.equal(table["reader"], FILES)
        self._alone = pa.concat_tables([self._alone, table.filter(of_files)])
        size = self._layout.per_piece
        while len(self._alone) >= size:
            self._of_files.append(self._write(len(self._of_files), self._alone.slice(0, size)))
            self._alone = self._alone.slice(size)
        others = table.filter(pc.invert(of_files))
        numbers = _numbers(others["part"])
        if len(others):
            self._end_files()
        for number, start, count in zip(*np.unique(numbers, return_index=True, return_counts=True), strict=True):
            # Image files are planned before all others, and may need fewer parts now.
            now = int(number) - self._layout.of_files + len(self._of_files)
            self._parts.append(self._write(now, others.slice(int(start), int(count))))

    def finish(self) -> list[SurveyPart]:
        """All parts, once all rows were added."""
        self._end_files()
        return [*self._of_files, *self._parts]

    def _end_files(self) -> None:
        if len(self._alone):
            self._of_files.append(self._write(len(self._of_files), self._alone))
            self._alone = _ROWS.empty_table()

    def _write(self, number: int, rows: pa.Table) -> SurveyPart:
        name = f"{SURVEY_UNITS.name(number)}.parquet"
        empty = pa.array([""] * len(rows), pa.string())
        for column in ("reason", "detail"):  # of the survey, not of what became of the image
            rows = rows.append_column(column, empty)
        with schemas.writing_parquet(files.join(self._work, name), SURVEY_SCHEMA) as writer:
            writer.write_table(rows.select(SURVEY_SCHEMA.names).cast(SURVEY_SCHEMA))
        return SurveyPart(name, len(rows), bool(rows["one_unit"][0].as_py()), rows["reader"][0].as_py())


def _numbers(parts: pa.ChunkedArray) -> np.ndarray:
    """The numbers of parts of the survey, by their names. (n,) int64."""
    names = parts.combine_chunks().dictionary_encode()
    values = [
        int(name.removeprefix(f"{SURVEY_UNITS.prefix}-").partition(".")[0]) for name in names.dictionary.to_pylist()
    ]
    return np.array(values, np.int64)[names.indices.to_numpy()]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def without_names(config_inputs: Sequence[str], gone: FoundImages) -> tuple[str, ...]:
    """The inputs of a config without files that it names one by one."""
    return tuple(pattern for pattern in config_inputs if pattern not in gone.files)
