"""Writes a part of regions/, its record and its rejects: of photos with regions that are found now, or were before."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.image.photos import Photo, PhotoReader, in_batches
from vlmixer.pipeline.image.record import NO_REGION, join_units, write_unit
from vlmixer.pipeline.image.regions import Region
from vlmixer.pipeline.image.regions_table import regions_table
from vlmixer.pipeline.image.survey import DETECT_UNITS, SurveyRows
from vlmixer.pipeline.units.finishing import with_outputs, with_results
from vlmixer.pipeline.units.results import each_result
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

IMAGES_PER_BATCH = {"cpu": 8, "cuda": 32}
"""By device. An accelerator works faster on more images at a time; a CPU does not."""
IMAGES_PER_ROW_GROUP = 8

FindRegions = Callable[[Sequence[Photo], RejectLog], Iterator[tuple[Photo, list[Region]]]]
"""Gives each photo with its regions, in order; photos that cannot be used go into the log."""
Rows: TypeAlias = "list[Region] | pa.Table | None"
"""The regions of a photo, or its rows of regions/. Empty, or None, if it has none."""


@dataclass(frozen=True)
class FoundRegions:
    """What a unit found: images with regions, regions by concept, width of the features, labels without a concept."""

    images: int
    concepts: dict[str, int]
    feature_dim: int
    unmapped: tuple[str, ...]


@dataclass(frozen=True)
class PartWriter:
    """Writes the parts of one run. find: called with the photos whose regions are not known yet. number: gives the
    place among the inputs of a file that had another one in the survey."""

    stage: Stage[RegionsDetails]
    device: str
    crop_size: int
    feature_dim: int
    find: FindRegions
    number: Callable[[int], int] | None = None

    def write(
        self, unit: Unit[tuple[SurveyRows, ...]], reader: PhotoReader, unmapped: Callable[[], Sequence[str]]
    ) -> UnitResult[FoundRegions]:
        """Write the part of a unit. unmapped: gives the labels without a concept, once all photos were read."""
        found = RejectLog("detect")
        rejected: dict[tuple[str, str], tuple[str, str]] = {}
        images = regions = 0
        concepts: Counter[str] = Counter()
        schema = schemas.regions(self.feature_dim)
        name = f"{unit.name}.parquet"
        photos = reader.photos(unit.content, decode_ahead=self.device == "cuda")
        with schemas.writing_parquet(files.join(self.stage.folder, name), schema, schemas.REGION_FILTERS) as writer:
            for batch in in_batches(photos, IMAGES_PER_BATCH[self.device]):
                kept: list[tuple[Photo, Rows]] = []
                for photo, rows in self._rows(batch, found):
                    if rows:
                        kept.append((photo, rows))
                    else:
                        reason = (photo.earlier.reason, photo.earlier.detail) if photo.earlier else (NO_REGION, "")
                        rejected[photo.ref.source, photo.ref.key] = reason
                for start in range(0, len(kept), IMAGES_PER_ROW_GROUP):
                    group = self._table(kept[start : start + IMAGES_PER_ROW_GROUP], schema)
                    writer.write_table(group)
                    concepts.update(group["concept"].to_pylist())
                    regions += len(group)
                images += len(kept)
        rejected |= {(each.source, each.key): (each.reason, each.detail) for each in found.rejects}
        with self.stage.reject_file(unit.name) as log:
            for met in reader.met:
                if not met.reason:
                    met.reason, met.detail = rejected.get((met.ref.source, met.ref.key), ("", ""))
                if met.reason:
                    # In the order of the images, whatever the batches.
                    log.add(met.ref.source, met.ref.key, met.reason, met.detail)
                if self.number is not None:
                    met.ref = replace(met.ref, order=(self.number(met.ref.order[0]), met.ref.order[1]))
        write_unit(record_path(self.stage, unit.name), reader.met)
        read = len(reader.met)
        return UnitResult(
            counts={"images": Counts(read, images, log.counts())},
            inputs=(Input(f"{read} images of {unit.name}", reader.bytes, reader.sha256),),
            outputs=(manifest.output_of(self.stage.folder, name, regions),),
            rejects=self.stage.listed(log),
            details=FoundRegions(images, dict(sorted(concepts.items())), self.feature_dim, tuple(unmapped())),
        )

    def _rows(self, batch: Sequence[Photo], log: RejectLog) -> Iterator[tuple[Photo, Rows]]:
        """Each photo with its regions, or its rows of an earlier run. Those in the log are left out."""
        new = [photo for photo in batch if photo.earlier is None]
        regions = {id(photo): found for photo, found in self.find(new, log)} if new else {}
        for photo in batch:
            if photo.earlier is not None:
                yield photo, photo.earlier.rows
            elif id(photo) in regions:
                yield photo, regions[id(photo)]

    def _table(self, kept: Sequence[tuple[Photo, Rows]], schema: pa.Schema) -> pa.Table:
        """The rows of regions/ of these photos, in one chunk. Photos that are new are made rows of together."""
        tables: list[pa.Table] = []
        for new, photos in groupby(kept, lambda each: each[0].earlier is None):
            if new:
                found = [(photo, rows) for photo, rows in photos if isinstance(rows, list)]
                tables.append(regions_table(found, schema, self.crop_size))
            else:
                tables += [rows.cast(schema) for _, rows in photos if isinstance(rows, pa.Table)]
        return pa.concat_tables(tables).combine_chunks()


def record_path(stage: Stage[RegionsDetails], unit: str) -> str:
    """The file of the work folder with a unit's part of images.parquet."""
    return files.join(stage.work, f"{unit}.images")


def complete_regions(stage: Stage[RegionsDetails], units: int, known: Manifest[RegionsDetails]) -> Manifest[Any]:
    """Write images.parquet, and complete the manifest, of what this many units left."""
    paths = [record_path(stage, DETECT_UNITS.name(number)) for number in range(units)]
    return with_outputs(with_regions(stage, units, known), [join_units(stage.folder, paths)])


def with_regions(stage: Stage[RegionsDetails], units: int, known: Manifest[RegionsDetails]) -> Manifest[Any]:
    """The manifest with the results of this many units."""
    concepts: Counter[str] = Counter()
    labels: dict[str, None] = {}
    images: list[int] = []
    feature_dim = 0

    def results() -> Iterator[UnitResult[FoundRegions]]:
        nonlocal feature_dim
        names = [DETECT_UNITS.name(number) for number in range(units)]
        for result in each_result(stage, names, FoundRegions):
            feature_dim = result.details.feature_dim
            concepts.update(result.details.concepts)
            labels.update(dict.fromkeys(result.details.unmapped))
            images.append(result.details.images)
            yield result

    made = with_results(known, results())
    details = replace(
        known.details,
        feature_dim=feature_dim,
        regions=dict(sorted(concepts.items())),
        labels_not_in_vocabulary=tuple(labels),
        images_by_part=tuple(images),
    )
    return replace(made, details=details)
