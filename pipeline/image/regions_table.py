"""Kept regions as rows of regions/."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlmixer.pipeline.image.decoding import crop_jpeg, grey_jpeg
from vlmixer.pipeline.image.photos import Photo
from vlmixer.pipeline.image.regions import Region


def regions_table(found: Sequence[tuple[Photo, Sequence[Region]]], schema: pa.Schema, crop_size: int) -> pa.Table:
    """One row per region of the photos. Photos without pixels get plain grey crops.

    schema: artifacts.schemas.regions. crop_size: longest side of a crop, in pixels.
    """
    rows = [(photo, number, region) for photo, regions in found for number, region in enumerate(regions)]
    dim = schema.field("feature").type.list_size
    features = np.stack([region.feature for _, _, region in rows])
    boxes = np.stack([region.box for _, _, region in rows])
    columns: dict[str, Any] = {
        "image_id": [photo.ref.image_id for photo, _, _ in rows],
        "patch_id": [f"{photo.ref.image_id}-{number:03d}" for photo, number, _ in rows],
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), 4),
        "concept": [region.concept for _, _, region in rows],
        "score": [region.score for _, _, region in rows],
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), dim),
        "crop": [
            grey_jpeg(region.box) if photo.pixels is None else crop_jpeg(photo.pixels, region.box, crop_size)
            for photo, _, region in rows
        ],
        "width": [photo.width for photo, _, _ in rows],
        "height": [photo.height for photo, _, _ in rows],
        "source": [photo.ref.source for photo, _, _ in rows],
        "key": [photo.ref.key for photo, _, _ in rows],
        "url": [photo.ref.url for photo, _, _ in rows],
        "license": [photo.ref.license for photo, _, _ in rows],
    }
    return pa.table(columns, schema=schema)
