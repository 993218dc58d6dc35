"""The first half of stage `detect`: finds, names and compares all images before any is decoded.

Writes OUT/work/detect/survey-*.parquet, which are removed when the stage is finished, and which of their images repeat
others. pipeline/image/survey.py divides them into the units of the second half.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import dropped, files, memory, schemas
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.artifacts.dropped import Dropped
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy
from vlmixer.artifacts.manifest import Counts
from vlmixer.pipeline.config import ImageSettings, fetch_policy
from vlmixer.pipeline.image.duplicates import DuplicateFiles
from vlmixer.pipeline.image.known_inputs import known_files, known_wholes
from vlmixer.pipeline.image.readers.base import ImageCorpus, ImageRef, InputPiece
from vlmixer.pipeline.image.readers.corpus import one_unit, survey
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA, refs_table
from vlmixer.pipeline.image.survey import (
    DETECT_UNITS,
    SURVEY_UNITS,
    SurveyPart,
    SurveyRows,
    divide,
)
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.duplicates import FindDuplicates, compared, group_units
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.inputs import KnownInput
from vlmixer.pipeline.units.plan import pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

ROWS_PER_GROUP = 4096


@dataclass(frozen=True)
class Surveyed:
    """What a unit of the survey found: rows in its file."""

    rows: int


@dataclass(frozen=True)
class SurveyWorker:
    """Surveys a piece of the corpus, and passes over images that were dropped from OUT. contents: whether images with
    equal bytes are to be found, or only equal names. fetch: for images behind URLs."""

    stage: Stage[RegionsDetails]
    contents: bool
    fetch: FetchPolicy = PATIENT

    def load(self) -> Dropped:
        return dropped.read(self.stage.out)

    def run(self, unit: Unit[InputPiece], resource: Dropped) -> UnitResult[Surveyed]:
        rows = 0
        pending: list[ImageRef] = []
        with schemas.writing_parquet(files.join(self.stage.work, part_name(unit.name)), SURVEY_SCHEMA) as writer:
            for ref in survey(unit.content, contents=self.contents, fetch=self.fetch):
                if resource.images and resource.has_image(ref.image_id):
                    continue
                pending.append(ref)
                rows += 1
                if len(pending) == ROWS_PER_GROUP:
                    writer.write_table(refs_table(pending))
                    pending = []
            if pending:
                writer.write_table(refs_table(pending))
        return UnitResult(counts={"images": Counts(rows, rows)}, details=Surveyed(rows))


def part_name(unit: str) -> str:
    """The file that a unit of the survey writes."""
    return f"{unit}.parquet"


def surveyed_files(stage: Stage[RegionsDetails], corpus: ImageCorpus, *, contents: bool) -> Iterator[KnownInput]:
    """What was read, with digests of its content: the files that hold images, also those that a list names, the images'
    records, and all else. contents: whether the survey hashed the images."""
    pieces = corpus.pieces
    parts = (files.join(stage.work, part_name(SURVEY_UNITS.name(number))) for number in range(len(pieces)))
    yield from known_files(zip(pieces, parts, strict=True), contents=contents)
    yield from known_wholes(corpus)


class SurveyImages(beam.PTransform):
    """PCollection[Unit[InputPiece]], all pieces → PCollection[str], the last units done. Surveys the pieces, then finds
    the duplicates among their images. pieces: how many there are."""

    def __init__(self, worker: SurveyWorker, pieces: int) -> None:
        super().__init__()
        self._worker = worker
        self._pieces = pieces

    def expand(self, pieces: beam.PCollection) -> beam.PCollection:
        stage = self._worker.stage
        return (
            pieces
            | "SurveyPieces" >> DoUnits(stage, self._worker)
            | "CountPieces" >> beam.combiners.Count.Globally()
            | "ListGroups" >> beam.FlatMap(_group_units, stage, self._pieces)
            | "FindDuplicates" >> FindDuplicates(stage)
        )


@no_annotations
def _group_units(surveyed: int, stage: Stage[RegionsDetails], pieces: int) -> list[Unit[int]]:
    """Units of groups of parts, once all pieces are surveyed. None if a unit failed."""
    if surveyed < pieces or any_failed(stage):
        return []
    names = [SURVEY_UNITS.name(number) for number in range(pieces)]
    results = read_results(stage, names, Surveyed)
    parts = [SurveyPart(part_name(name), result.details.rows) for name, result in zip(names, results, strict=True)]
    return group_units(DuplicateFiles(stage.work).begin(parts))


def survey_images(
    pieces: Sequence[InputPiece], stage: Stage[RegionsDetails], engine: Engine, settings: ImageSettings
) -> list[Unit[tuple[SurveyRows, ...]]]:
    """The units of detection. Surveys the pieces that are not surveyed yet."""
    surveys = [Unit(SURVEY_UNITS.name(number), piece) for number, piece in enumerate(pieces)]
    names = [unit.name for unit in surveys]
    if pending(stage, surveys) or not compared(stage):
        with progress(stage, "detect: survey", names, "images"):
            worker = SurveyWorker(stage, settings.drop_duplicates, fetch_policy(settings))
            transform = SurveyImages(worker, len(surveys))
            engine.run(
                stage,
                surveys,
                InputPiece,
                lambda pieces: pieces | "SurveyImages" >> transform,
                label="detect: survey",
            )
        memory.give_back()
    parts = [
        SurveyPart(part_name(name), result.details.rows, one_unit(piece), piece.format)
        for name, result, piece in zip(names, read_results(stage, names, Surveyed), pieces, strict=True)
    ]
    return [Unit(DETECT_UNITS.name(number), rows) for number, rows in enumerate(divide(parts))]
