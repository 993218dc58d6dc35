"""The surveyed corpus: which of its images each unit of detection takes. duplicates.py finds those that repeat others.

pipeline/jobs/survey.py runs the survey and writes its parts, Parquet files of references, to the stage's work folder.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.rng import stable_hash
from vlmixer.pipeline.image.readers.base import FILES, ImageRef
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA, refs_of
from vlmixer.pipeline.units.passes import StagePass, UnitKind, UnitLoad, count_units, finish_pass

SURVEY_UNITS = UnitKind("detect", "survey")
SPREAD = UnitKind("detect", "spread")
DUPLICATES = UnitKind("detect", "duplicates")
DETECT_UNITS = UnitKind("detect", "part")
PREPARATION = (SURVEY_UNITS, SPREAD, DUPLICATES)
"""Units that decode no image yet."""


@dataclass(frozen=True)
class DetectSizes:
    """How large the units are: images of a unit of each kind, unless that would make more units than the maximum."""

    images_per_unit: int = 64
    max_units: int = 65_536
    images_per_group: int = 1 << 19
    """Images whose digests a unit spreads over the shares."""
    max_groups: int = 256
    images_per_share: int = 1 << 21
    """Images whose digests a unit compares."""
    max_shares: int = 128

    def images_of_unit(self, images: int) -> int:
        """Images per unit, for a corpus of this many images."""
        return max(self.images_per_unit, math.ceil(images / self.max_units))

    def groups(self, images: float) -> int:
        """At most so many units spread digests."""
        return min(count_units(images, self.images_per_group), self.max_groups)

    def shares(self, images: float) -> int:
        """Units that compare digests."""
        return min(count_units(images, self.images_per_share), self.max_shares)

    def passes(self, images: int, images_per_piece: int) -> tuple[StagePass, ...]:
        """The passes for this many images. images_per_piece: of the pieces that are surveyed."""
        return (
            StagePass("survey", (UnitLoad(SURVEY_UNITS, count_units(images, images_per_piece), images),)),
            StagePass("spread", (UnitLoad(SPREAD, self.groups(images), images),), new_job=False),
            StagePass("duplicates", (UnitLoad(DUPLICATES, self.shares(images), images),), new_job=False),
            StagePass("detect", (UnitLoad(DETECT_UNITS, count_units(images, self.images_of_unit(images)), images),)),
            finish_pass("detect", images),
        )


SIZES = DetectSizes()


@dataclass(frozen=True)
class SurveyRows:
    """Rows start … stop-1 of a part of the survey. reader, one_unit: see SurveyPart."""

    part: str
    start: int
    stop: int
    reader: str = FILES
    one_unit: bool = False

    def read(self, folder: str) -> list[ImageRef]:
        """The references. folder: where the parts are. Holds the row groups that they are in, not the whole part."""
        with reading(files.join(folder, self.part), SURVEY_SCHEMA) as part:
            ends = np.cumsum(part.row_groups)
            first = int(np.searchsorted(ends, self.start, "right"))
            last = int(np.searchsorted(ends, self.stop, "left"))
            groups = [part.read_row_group(number) for number in range(first, last + 1)]
        before = int(ends[first]) - len(groups[0])
        return refs_of(pa.concat_tables(groups).slice(self.start - before, self.stop - self.start))


@dataclass(frozen=True)
class SurveyPart:
    """A file of the survey and its number of references. one_unit: whether one unit must take all of them. reader: the
    format of the piece of the corpus that it surveys."""

    name: str
    rows: int
    one_unit: bool = False
    reader: str = FILES


def divide(parts: Sequence[SurveyPart], sizes: DetectSizes = SIZES) -> list[tuple[SurveyRows, ...]]:
    """The units of detection, each the rows that it takes.

    A unit takes neighbouring images, or a whole part. The units are in the order of a hash, so that neighbouring units
    come from all over the corpus.
    """
    units = _cut(parts, sizes.images_of_unit(sum(part.rows for part in parts)))
    units.sort(key=lambda unit: stable_hash("unit", unit[0].part, unit[0].start))
    return [tuple(unit) for unit in units]


def read_part(path: str) -> Iterator[ImageRef]:
    """The references of a part of the survey. Holds those of a row group."""
    with reading(path, SURVEY_SCHEMA) as part:
        for number in range(len(part.row_groups)):
            yield from refs_of(part.read_row_group(number))


def _cut(parts: Sequence[SurveyPart], size: int) -> list[list[SurveyRows]]:
    units: list[list[SurveyRows]] = []
    room = 0
    for part in parts:
        if part.one_unit:
            units += [[SurveyRows(part.name, 0, part.rows, part.reader, True)]] if part.rows else []
            room = 0
            continue
        at = 0
        while at < part.rows:
            if not room:
                units.append([])
                room = size
            stop = min(at + room, part.rows)
            units[-1].append(SurveyRows(part.name, at, stop, part.reader))
            room -= stop - at
            at = stop
    return units
