"""Checks regions/: ids, boxes, features and crops; and the record of all images against them."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow.compute as pc

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.boxes import MAX_SCORE
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.bank import building
from vlmixer.pipeline.image.plausibility import MAX_SPREAD_HALF, spread
from vlmixer.pipeline.image.record import IMAGES, as_recorded
from vlmixer.pipeline.verification.checks import ROWS_AT_ONCE, ByConcept, StageFolder, UniqueKeys, check_box, check_crop
from vlmixer.pipeline.verification.ties import PHOTO, Digests, Ties, of_image, of_photo, of_region


def check(stage: StageFolder[RegionsDetails]) -> None:
    """Read every region."""
    report, parts = stage.report, stage.parts
    ids = UniqueKeys(lambda: stage.column(parts, "patch_id"))
    images = UniqueKeys(lambda: _images(stage))
    schema = schemas.regions(stage.manifest.details.feature_dim)
    found, photos = Digests(), Digests()
    of_bank, by_concept = _BankPatches(stage.ties), ByConcept(stage.manifest.details.regions)
    expected = dict(
        zip((part.name for part in stage.manifest.parts), stage.manifest.details.images_by_part, strict=False)
    )
    if len(stage.manifest.details.images_by_part) != len(stage.manifest.parts):
        report.add(files.join(stage.folder, manifest.NAME), "images_by_part is not for each part")
    for output in parts:
        path, in_part = stage.path(output), 0
        with report.reading(path):
            for table in stage.tables(output, schema):
                features = building.feature_rows(table["feature"])
                if not np.isfinite(features).all():
                    report.add(path, "features are not finite")
                elif spread(features) > MAX_SPREAD_HALF:
                    report.add(path, "features are noise: they were read as another type than they were written in")
                elif len(features) and not features.any():
                    report.add(path, "features are all 0")
                rows = table.drop_columns(["feature"]).to_pylist()
                for image, row in {row["image_id"]: row for row in reversed(rows)}.items():
                    images.add(image)
                    photos.add(of_photo(row))
                    in_part += 1
                by_concept.add(row["concept"] for row in rows)
                for row in rows:
                    ids.add(row["patch_id"])
                    check_box(path, row["patch_id"], row["box"], row["width"], row["height"], report)
                    if not 0 <= row["score"] <= MAX_SCORE:
                        report.add(path, f"{row['patch_id']}: score {row['score']:g} is not from 0 to 1")
                    check_crop(path, row["patch_id"], row["crop"], report)
                digests = [of_region(row, feature) for row, feature in zip(rows, features, strict=True)]
                of_bank.found([whole for _, whole in digests])
                for digest in _digests_of_images(rows, [part for part, _ in digests]):
                    found.add(digest)
            if in_part != expected.get(output.name):
                report.add(path, f"{in_part} images in its row groups, the manifest has {expected.get(output.name)}")
    stage.ties.images = found if stage.complete else None
    if stage.complete and (missing := of_bank.missing()):
        report.add(stage.folder, f"{missing} patches of bank/ are not here with the same feature, score, box and crop")
    stage.check_count("images", len(images))
    stage.check_by_concept("regions", by_concept)
    stage.check_unique("patch_id", ids)
    stage.check_unique("image_id", images)
    report.rows["regions"] += len(ids)
    _check_record(stage, photos)


def _digests_of_images(rows: Sequence[Mapping[str, Any]], regions: Sequence[int]) -> Iterator[int]:
    """Digests of the images of a row group, which holds all the rows of an image."""
    at = 0
    for image_id, group in groupby(rows, key=lambda row: row["image_id"]):
        own = list(group)
        first = own[0]
        yield of_image(image_id, first["source"], first["width"], first["height"], regions[at : at + len(own)])
        at += len(own)


class _BankPatches:
    """The patches of the bank that have not been met in regions/ yet."""

    def __init__(self, ties: Ties) -> None:
        self._bank = ties.regions
        self._met = Digests()

    def found(self, regions: Sequence[int]) -> None:
        """Take note of these regions."""
        if self._bank is not None:
            for digest, lacking in zip(regions, self._bank.lacks(regions), strict=True):
                if not lacking:
                    self._met.add(digest)

    def missing(self) -> int:
        """The number of patches that were not met."""
        return 0 if self._bank is None else self._bank.count_not_in(self._met)


def _images(stage: StageFolder[RegionsDetails]) -> Iterator[str]:
    """The image ids, once per run of rows of one image."""
    return (image for image, _ in groupby(stage.column(stage.parts, "image_id")))


def _check_record(stage: StageFolder[RegionsDetails], photos: Digests) -> None:
    """The record must say of every image what the counts say, and of those with regions what the regions say. Results
    of older versions have no record."""
    counts = stage.manifest.counts["images"]
    for output in stage.named(IMAGES):
        path = stage.path(output)
        with stage.report.reading(path):
            reasons, others = Counter[str](), 0
            for table in stage.tables(output, as_recorded):
                reasons.update(table["reason"].to_pylist())
                recorded = table.filter(pc.equal(table["reason"], "")).select(PHOTO)
                for batch in recorded.to_batches(ROWS_AT_ONCE):
                    others += int(photos.lacks([of_photo(row) for row in batch.to_pylist()]).sum())
            if stage.complete and others:
                stage.report.add(path, f"{others} images are not in the parts with the same id, size, source and key")
            written = reasons.pop("", 0)
            if (written, dict(reasons)) != (counts.written, counts.rejected):
                stage.report.add(path, f"{written} images with regions, others {dict(reasons)}; the manifest differs")
