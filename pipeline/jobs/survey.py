"""The first half of stage `detect`: every image found, named and compared, before any is looked at.

Writes OUT/work/detect/survey-*.parquet, which go when the stage is finished.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.image.duplicates import find_duplicates
from vlmixer.pipeline.image.readers.base import ImageRef, InputPiece
from vlmixer.pipeline.image.readers.corpus import one_unit, survey
from vlmixer.pipeline.image.readers.references import SURVEY, refs_of, refs_table
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

IMAGES_A_UNIT = 64
MOST_UNITS = 65_536
"""Units hold more images where there would be more units."""
PHOTOS = "photos.map"
"""JSON in the work folder: the photos that belong to region features, by id."""
ROWS_A_GROUP = 4096


@dataclass(frozen=True)
class Run:
    """Rows start … stop-1 of a part of the survey. duplicates: (row, name of the image that has the same content)."""

    part: str
    start: int
    stop: int
    duplicates: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Surveyed:
    """What a unit of the survey found: rows in its file."""

    rows: int


@dataclass(frozen=True)
class SurveyWorker:
    """Surveys a piece of the corpus."""

    stage: Stage[RegionsDetails]
    contents: bool

    def load(self) -> None:
        return None

    def run(self, unit: Unit[InputPiece], resource: None) -> UnitResult[Surveyed]:
        rows = 0
        pending: list[ImageRef] = []
        with schemas.writing_parquet(files.join(self.stage.work, part_name(unit.name)), SURVEY) as writer:
            for ref in survey(unit.content, contents=self.contents):
                pending.append(ref)
                rows += 1
                if len(pending) == ROWS_A_GROUP:
                    writer.write_table(refs_table(pending))
                    pending = []
            if pending:
                writer.write_table(refs_table(pending))
        return UnitResult(counts={"images": Counts(rows, rows)}, details=Surveyed(rows))


def part_name(unit: str) -> str:
    """The file of a unit of the survey."""
    return f"{unit}.parquet"


def survey_images(
    pieces: Sequence[InputPiece], stage: Stage[RegionsDetails], engine: Engine, *, drop_duplicates: bool
) -> list[Unit[tuple[Run, ...]]]:
    """Units of detection: their contents are tuples of Run. Surveys what is not surveyed yet.

    Each unit takes about IMAGES_A_UNIT images that lie together, more of a very large corpus, or a run of Parquet rows
    that are read in one go; their order is that of a hash, so that neighbouring units come from all over the corpus.
    """
    surveys = [Unit(f"survey-{number:05d}", piece) for number, piece in enumerate(pieces)]
    left = pending(stage, surveys)
    if left:
        worker = SurveyWorker(stage, drop_duplicates)
        with progress(stage, "detect: survey", [unit.name for unit in surveys], "images"):
            do = DoUnits(stage, worker)
            engine.run(stage, left, InputPiece, lambda units: units | "SurveyPieces" >> do, label="detect: survey")
    rows = [result.details.rows for result in read_results(stage, [unit.name for unit in surveys], Surveyed)]
    parts = [files.join(stage.work, part_name(unit.name)) for unit in surveys]
    duplicates = _name_duplicates(parts, rows)
    runs = _cut(pieces, [part_name(unit.name) for unit in surveys], rows)
    runs.sort(key=lambda unit: stable_hash("unit", unit[0].part, unit[0].start))
    return [
        Unit(f"part-{number:05d}", tuple(_with_duplicates(run, duplicates) for run in unit))
        for number, unit in enumerate(runs)
    ]


def _cut(pieces: Sequence[InputPiece], parts: Sequence[str], rows: Sequence[int]) -> list[tuple[Run, ...]]:
    units: list[list[Run]] = []
    size = max(IMAGES_A_UNIT, -(-sum(rows) // MOST_UNITS))
    room = 0
    for piece, part, count in zip(pieces, parts, rows, strict=True):
        if one_unit(piece):
            units += [[Run(part, 0, count)]] if count else []
            room = 0
            continue
        at = 0
        while at < count:
            if not room:
                units.append([])
                room = size
            stop = min(at + room, count)
            units[-1].append(Run(part, at, stop))
            room -= stop - at
            at = stop
    return [tuple(unit) for unit in units]


def _name_duplicates(parts: Sequence[str], rows: Sequence[int]) -> dict[str, dict[int, str]]:
    """By part's name, its rows that are duplicates, each with the name of the first of its content."""
    found = find_duplicates(rows, lambda part: _read(parts[part], ["digest", "input", "place"]))
    wanted: dict[int, set[int]] = defaultdict(set)
    for duplicate in found:
        wanted[duplicate.first_part].add(duplicate.first_row)
    names: dict[tuple[int, int], str] = {}
    for part, firsts in wanted.items():
        table = _read(parts[part], ["source", "key"])
        for row in firsts:
            names[part, row] = ImageRef(table["source"][row].as_py(), table["key"][row].as_py()).name
    by_part: dict[str, dict[int, str]] = defaultdict(dict)
    for duplicate in found:
        first = names[duplicate.first_part, duplicate.first_row]
        by_part[parts[duplicate.part].rpartition("/")[2]][duplicate.row] = first
    return by_part


def _with_duplicates(run: Run, duplicates: dict[str, dict[int, str]]) -> Run:
    own = duplicates.get(run.part, {})
    found = tuple((row, own[row]) for row in range(run.start, run.stop) if row in own)
    return Run(run.part, run.start, run.stop, found)


def read_run(stage: Stage[RegionsDetails], run: Run) -> list[ImageRef]:
    """The references of a run."""
    return refs_of(_read(files.join(stage.work, run.part)).slice(run.start, run.stop - run.start))


def _read(path: str, columns: list[str] | None = None) -> pa.Table:
    with files.open_read(path) as file:
        return pq.read_table(file, columns=columns, use_threads=False)
