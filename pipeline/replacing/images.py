"""The survey of a corpus without some images, made from the record of the run over all of them.

It is what stage `detect` would survey if the images had not been there. No input is read.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, schemas
from vlmixer.pipeline.image.readers.base import FILES
from vlmixer.pipeline.image.readers.image_files import FILES_PER_PIECE, URLS_PER_PIECE
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA
from vlmixer.pipeline.image.record import read_inputs, read_record
from vlmixer.pipeline.image.survey import SURVEY_UNITS, SurveyPart
from vlmixer.pipeline.replacing.finding import FoundImages


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


def write_survey(regions: str, work: str, gone: FoundImages) -> list[SurveyPart]:
    """Write the parts of the survey to the folder `work`, without the images. regions: the folder with the record."""
    record = read_record(regions)
    record = record.filter(pc.invert(pc.is_in(record["image_id"], value_set=pa.array(sorted(gone.ids)))))
    record = record.sort_by([("part", "ascending"), ("row", "ascending")])
    of_files = pc.equal(record["reader"], FILES)
    alone = record.filter(of_files)
    before = len(pc.unique(alone["part"]))
    urls = any(files.is_url(name) for name in pc.unique(alone["source"].cast(pa.string())).to_pylist())
    size = URLS_PER_PIECE if urls else FILES_PER_PIECE
    parts = [_write(work, number, alone.slice(start, size)) for number, start in enumerate(range(0, len(alone), size))]
    shift = len(parts) - before
    for name, table in _by_part(record.filter(pc.invert(of_files))):
        number = int(name.removeprefix(f"{SURVEY_UNITS.prefix}-").partition(".")[0])
        parts.append(_write(work, number + shift, table))
    return parts


def _by_part(record: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """The rows of each part, in the order of the parts. record: sorted by part."""
    start = 0
    for name, group in groupby(record["part"].to_pylist()):
        length = len(list(group))
        yield name, record.slice(start, length)
        start += length


def _write(work: str, number: int, record: pa.Table) -> SurveyPart:
    name = f"{SURVEY_UNITS.name(number)}.parquet"
    empty = pa.array([""] * len(record), pa.string())
    for column in ("reason", "detail"):  # of the survey, not of what became of the image
        record = record.set_column(record.schema.get_field_index(column), SURVEY_SCHEMA.field(column), empty)
    with schemas.writing_parquet(files.join(work, name), SURVEY_SCHEMA) as writer:
        writer.write_table(record.select(SURVEY_SCHEMA.names).cast(SURVEY_SCHEMA))
    return SurveyPart(name, len(record), bool(record["one_unit"][0].as_py()), record["reader"][0].as_py())


def without_names(config_inputs: Sequence[str], gone: FoundImages) -> tuple[str, ...]:
    """The inputs of a config without files that it names one by one."""
    return tuple(pattern for pattern in config_inputs if pattern not in gone.files)
