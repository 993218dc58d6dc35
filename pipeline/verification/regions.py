"""Checks regions/: ids, boxes, features and crops."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from vlmixer.artifacts import schemas
from vlmixer.artifacts.details import RegionsDetails
from vlmixer.bank import building
from vlmixer.pipeline.verification.checks import StageFolder, UniqueKeys, check_box, check_crop


def check(stage: StageFolder[RegionsDetails]) -> None:
    """Read every region."""
    report = stage.report
    ids = UniqueKeys(lambda: stage.column(stage.outputs, "patch_id"))
    images = UniqueKeys(lambda: _images(stage))
    schema = schemas.regions(stage.manifest.details.feature_dim)
    for output in stage.outputs:
        path = stage.path(output)
        with report.reading(path):
            for table in stage.tables(output, schema):
                if not np.isfinite(building.feature_rows(table["feature"])).all():
                    report.add(path, "features are not finite")
                rows = table.drop_columns(["feature"]).to_pylist()
                for image in dict.fromkeys(row["image_id"] for row in rows):
                    images.add(image)
                for row in rows:
                    ids.add(row["patch_id"])
                    check_box(path, row["patch_id"], row["box"], row["width"], row["height"], report)
                    check_crop(path, row["patch_id"], row["crop"], report)
    stage.check_count("images", len(images))
    stage.check_unique("patch_id", ids)
    stage.check_unique("image_id", images)
    report.rows["regions"] += len(ids)


def _images(stage: StageFolder[RegionsDetails]) -> Iterator[str]:
    """The image ids, once per run of rows of one image."""
    return (image for image, _ in groupby(stage.column(stage.outputs, "image_id")))
