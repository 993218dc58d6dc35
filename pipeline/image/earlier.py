"""What an earlier run found in images, to be taken over for those that are the same."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files.http import FetchPolicy
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.schemas import regions
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.image.photos import (
    NOTHING,
    Content,
    EarlierRegions,
    Photo,
    decode_photo,
    max_file_bytes,
)
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import read_images
from vlmixer.pipeline.image.record import IMAGES, NO_REGION, UNIT, each_group, read_group
from vlmixer.pipeline.image.survey import DETECT_UNITS

PARTS_HELD = 4
GROUPS_HELD = 4


class EarlierImages:
    """The images of a finished stage `detect`, by id. Holds sixteen bytes per image, twice as many while it sorts."""

    def __init__(self, folder: str) -> None:
        """folder: regions/ of the earlier run. Raises UserError if the stage has not finished."""
        description = manifest.read(folder, DETECT)
        self.folder = folder
        self.feature_dim = description.details.feature_dim
        self.unmapped = description.details.labels_not_in_vocabulary
        groups = [_numbers(group["image_id"].to_pylist()) for group in each_group(folder, ["image_id"])]
        self._starts = np.cumsum([0, *map(len, groups)])
        ids = np.concatenate([*groups, np.zeros(0, np.uint64)])
        del groups
        self._order = np.argsort(ids, kind="stable")
        self._sorted = ids[self._order]
        self._recorded = lru_cache(GROUPS_HELD)(lambda number: read_group(folder, number))
        self._groups = lru_cache(PARTS_HELD)(self._read_groups)
        self._group = lru_cache(GROUPS_HELD)(self._read_group)

    def find(self, ref: ImageRef, content: Content) -> Photo | None:
        """The photo with what was found in it, if `content`, which was read now, is what was read then. None if it is
        not known, or if it could not be used."""
        for row in self._records(ref):
            same_origin = (row["position"], row["url"], row["license"]) == (ref.position, ref.url, ref.license)
            if same_origin and (row["bytes"], row["sha256"]) == content and row["reason"] in ("", NO_REGION):
                return self._photo(ref, row)
        return None

    def recall(self, ref: ImageRef) -> tuple[Content, Photo | Unreadable]:
        """What was read of the image at this place among the inputs, and what became of it."""
        for row in self._records(ref):
            if (row["input"], row["place"]) == ref.order:
                content = Content(row["bytes"], row["sha256"])
                if row["width"]:
                    return content, self._photo(ref, row)
                return content, Unreadable(row["reason"], row["detail"])
        raise UserError(
            f"{self.folder}: {ref.name} is not in {IMAGES}. Run `vlmixer verify`, then detect with --overwrite."
        )

    def _records(self, ref: ImageRef) -> Iterator[dict[str, Any]]:
        """The rows of the image in the record. An image that is named twice has two."""
        number = _numbers([ref.image_id])[0]
        for at in range(int(np.searchsorted(self._sorted, number)), len(self._sorted)):
            if self._sorted[at] != number:
                return
            place = int(self._order[at])
            group = int(np.searchsorted(self._starts, place, "right")) - 1
            yield self._recorded(group).slice(place - int(self._starts[group]), 1).to_pylist()[0]

    def _photo(self, ref: ImageRef, row: Mapping[str, Any]) -> Photo:
        rows = None if row["reason"] else self._rows(row[UNIT], ref.image_id)
        found = EarlierRegions(rows, row["reason"], row["detail"])
        return Photo(ref, row["width"], row["height"], None, earlier=found)

    def _rows(self, unit: int, image_id: str) -> pa.Table:
        """The image's rows of regions/."""
        name = f"{DETECT_UNITS.name(unit)}.parquet"
        group = self._groups(name).get(image_id)
        if group is None:
            raise UserError(
                f"{files.join(self.folder, name)}: has no region of image {image_id}, which {IMAGES} says it has. Run "
                "`vlmixer verify`, then detect with --overwrite."
            )
        table = self._group(name, group)
        return table.filter(pc.equal(table["image_id"], image_id))

    def _read_groups(self, name: str) -> dict[str, int]:
        """The row group of each image of a part."""
        with reading(files.join(self.folder, name), regions(self.feature_dim)) as table:
            return {
                image: number
                for number in range(len(table.row_groups))
                for image in dict.fromkeys(table.read_row_group(number, ["image_id"])["image_id"].to_pylist())
            }

    def _read_group(self, name: str, number: int) -> pa.Table:
        with reading(files.join(self.folder, name), regions(self.feature_dim)) as table:
            return table.read_row_group(number)


class KnownSource:
    """Photos from files of images. What is known of an unchanged image is taken over; it is read, but not decoded."""

    def __init__(self, earlier: EarlierImages, max_pixels: float, fetch: FetchPolicy) -> None:
        self._earlier = earlier
        self._max_pixels = max_pixels
        self._fetch = fetch

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[Content, Photo | Unreadable]]:
        for ref, data in read_images(refs, max_file_bytes(self._max_pixels), self._fetch):
            if isinstance(data, Unreadable):
                yield NOTHING, data
                continue
            content = Content.of(data)
            yield content, self._earlier.find(ref, content) or decode_photo(ref, data, self._max_pixels)


class RecordedSource:
    """Photos of an earlier run, without a look at their files."""

    def __init__(self, earlier: EarlierImages) -> None:
        self._earlier = earlier

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[Content, Photo | Unreadable]]:
        return map(self._earlier.recall, refs)


def _numbers(ids: Sequence[str]) -> np.ndarray:
    """Image ids as numbers, (n,) uint64."""
    return np.frombuffer(bytes.fromhex("".join(ids)), ">u8").astype(np.uint64)
