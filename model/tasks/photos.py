"""Photos by name: what `vlmixer detect` found in them, and their tags.

Features are read from the Parquet parts of regions/ by row groups, in sorted order. What is held of a photo is where
its rows are.
"""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.image_names import ImageName, ImageNames, is_ambiguous
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.schemas import REGIONS_IMAGES, regions
from vlmixer.artifacts.snapshot import Snapshot
from vlmixer.artifacts.stages import DETECT
from vlmixer.artifacts.texts import encodable
from vlmixer.model.tasks.config import DETECTOR, NONE
from vlmixer.model.tasks.files import document, entries, is_lines
from vlmixer.model.tasks.parquet_names import row_names

_COCO_NAME = re.compile(r"(?:^|_)(\d{12})$|^\d{1,18}$")
RECORD = pa.schema(
    [
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in ("image_id", "key", "url", "reason")),
        *(pa.field(name, pa.int32(), nullable=False) for name in ("width", "height")),
        pa.field("sha256", pa.binary(32), nullable=False),
    ]
)
"""Columns of regions/record/images.parquet that are read here."""
COLUMNS = ("box", "concept", "score", "feature", "width", "height")


@dataclass(frozen=True)
class Photo:
    """What is known of a photo. Region i has row i of all; the best score comes first.

    `features`: (n, D) float16. `boxes`: (n, 4) float32, xyxy in pixels of the upright image, which is `width` ×
    `height`. `concepts`: names of the regions. `tags`: names of the photo.
    """

    features: np.ndarray
    boxes: np.ndarray
    width: int
    height: int
    concepts: tuple[str, ...]
    tags: tuple[str, ...]


class UnknownPhoto(Exception):
    """A name that no photo has, or several. `reason`: of the reject."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class PhotoNames:
    """Finds photos by the names that annotation files give them: a path, a file name with or without its ending, an
    id in the table of images, COCO's number."""

    def __init__(self, images: Sequence[ImageName]) -> None:
        self._numbers: dict[ImageName, int] = {}
        self._stems: dict[str, list[ImageName]] = {}
        self._coco: dict[int, list[ImageName]] = {}
        for number, image in enumerate(images):
            if self._numbers.setdefault(image, number) != number:
                continue
            for stem in dict.fromkeys(_stem(name) for name in (image.key or image.source, image.url) if name):
                self._stems.setdefault(stem, []).append(image)
                if digits := re.search(r"(?:^|\D)(\d{1,18})$", stem):
                    self._coco.setdefault(int(digits[1]), []).append(image)
        self._names = ImageNames(images)
        self._found: dict[str, int | UnknownPhoto] = {}

    def find(self, name: str) -> int:
        """The number of the photo in the list. Raises UnknownPhoto."""
        if name not in self._found:
            self._found[name] = self._search(name)
        found = self._found[name]
        if isinstance(found, UnknownPhoto):
            raise found
        return found

    def _search(self, name: str) -> int | UnknownPhoto:
        found = self._names.find(name) or self._stems.get(_stem(name), [])
        if not found and (digits := _COCO_NAME.search(_stem(name))):
            found = self._coco.get(int(digits[1] or digits[0]), [])
        if not found:
            return UnknownPhoto("missing_photo", name)
        if is_ambiguous(found):
            return UnknownPhoto("ambiguous_photo", f"{name}: {found[0].source} or {found[1].source}")
        return self._numbers[found[0]]


class Regions:
    """The photos of a folder regions/, by number, in the order of its parts; those without a region come last."""

    def __init__(self, folder: str) -> None:
        """Raises UserError or CallError if the stage `detect` has not finished there."""
        description = manifest.read(folder, DETECT)
        self.folder, self.content_hash = folder, description.content_hash
        self.feature_dim = description.details.feature_dim
        self.concepts = tuple(description.details.regions)
        #: Of the concepts: its name and its hash.
        self.vocabulary = description.details.vocabulary, description.details.vocabulary_hash
        self._snapshot, self._schema = Snapshot(folder, description), regions(self.feature_dim)
        #: Where the rows of a photo are: part, row group, first row in it, number of rows.
        self._places: list[tuple[str, int, int, int]] = []
        self.images: list[ImageName] = []
        #: Width and height of photos without a region.
        self.sizes: dict[int, tuple[int, int]] = {}
        #: The number of the photo with the same bytes.
        self.same: dict[int, int] = {}
        self._row_names: dict[str, list[str]] = {}
        for output in description.parts:
            self._index(output.name)
        if any(output.name == REGIONS_IMAGES for output in description.outputs):
            self._add_without_regions()

    def read(self, numbers: Iterable[int]) -> dict[int, Photo]:
        """The photos of these numbers, read in the order of the files, each row group once.

        Raises UserError if a file is damaged, the folder was replaced, or a feature is not finite.
        """
        wanted = sorted(set(numbers))
        found: dict[int, Photo] = {}
        for (part, group), members in groupby((n for n in wanted if n not in self.sizes), self._group):
            table = self._read_group(part, group)
            for number in members:
                _, _, first, count = self._places[number]
                found[number] = self._photo(table.slice(first, count))
        for number in wanted:
            if number in self.sizes:
                none = np.zeros((0, self.feature_dim), np.float16)
                found[number] = Photo(none, np.zeros((0, 4), np.float32), *self.sizes[number], (), ())
        return found

    def crops(self, number: int) -> list[bytes]:
        """The pictures of the photo's regions, JPEGs; empty bytes where there is none."""
        if number in self.sizes:
            return []
        part, group, first, count = self._places[number]
        crops: list[bytes] = self._read_group(part, group, ["crop"])["crop"].slice(first, count).to_pylist()
        return crops

    def _group(self, number: int) -> tuple[str, int]:
        return self._places[number][:2]

    def _read_group(self, part: str, group: int, columns: Sequence[str] = COLUMNS) -> pa.Table:
        try:
            with reading(files.join(self.folder, part), self._schema) as table:
                return table.read_row_group(group, columns)
        finally:
            self._snapshot.check()

    def _photo(self, rows: pa.Table) -> Photo:
        rows = rows.combine_chunks()
        count = len(rows)
        features = _matrix(rows["feature"], count)
        concepts = tuple(rows["concept"].to_pylist())
        tags = tuple(dict.fromkeys(concepts))
        size = (int(rows["width"][0].as_py()), int(rows["height"][0].as_py()))
        return Photo(features, _matrix(rows["box"], count), *size, concepts, tags)

    def _index(self, part: str) -> None:
        with reading(files.join(self.folder, part), self._schema) as parquet:
            for group in range(len(parquet.row_groups)):
                table = parquet.read_row_group(group, ["image_id", "source", "key", "url"])
                ids = np.array(table["image_id"].to_pylist(), object)
                firsts = np.flatnonzero(np.append(True, ids[1:] != ids[:-1])[: len(ids)])
                names = table.take(pa.array(firsts)).to_pylist()
                for first, stop, row in zip(firsts, np.append(firsts[1:], len(ids)), names, strict=False):
                    image = self._named(row)
                    if self.images and self.images[-1].image_id == image.image_id:
                        raise UserError(f"{files.join(self.folder, part)}: {image.source} is in two row groups.")
                    self._places.append((part, group, int(first), int(stop - first)))
                    self.images.append(image)

    def _named(self, row: Mapping[str, Any]) -> ImageName:
        """The image of a row. Of one in a Parquet file the key is its row, in place of which it gets its name there."""
        key = row["key"]
        if row["source"].lower().endswith(".parquet"):
            if row["source"] not in self._row_names:
                self._row_names[row["source"]] = row_names(row["source"]) if files.may_follow(row["source"]) else []
            names = self._row_names[row["source"]]
            key = names[int(key)] if key.isdecimal() and int(key) < len(names) else ""
        return ImageName(row["image_id"], row["source"], key, row["url"])

    def _add_without_regions(self) -> None:
        """Photos that were decoded, but have no region; and further names of photos, whose bytes were there before."""
        with reading(files.join(self.folder, REGIONS_IMAGES), _with_record) as parquet:
            table = parquet.read(RECORD.names)
        numbers = {image.image_id: number for number, image in enumerate(self.images)}
        contents: dict[bytes, int] = {}
        rows = table.to_pylist()
        for row in rows:
            name = self._named(row)
            if row["reason"] == "no_region" and row["width"] and name.image_id not in numbers:
                numbers[name.image_id] = len(self.images)
                self.sizes[len(self.images)] = (row["width"], row["height"])
                self.images.append(name)
            if row["reason"] in ("", "no_region") and name.image_id in numbers:
                contents[row["sha256"]] = numbers[name.image_id]
        for row in rows:
            if row["reason"] == "duplicate" and row["sha256"] in contents:
                self.same[len(self.images)] = contents[row["sha256"]]
                self.images.append(self._named(row))


def _with_record(found: pa.Schema) -> pa.Schema:
    """The columns of the file as they should be: those of RECORD, and what others there are."""
    places = [RECORD.field(field.name) if field.name in RECORD.names else field for field in found]
    return pa.schema([*places, *(field for field in RECORD if field.name not in found.names)])


class Photos:
    """The photos of a fine-tuning: regions, or none, and tags, from the detector, a file, or none."""

    def __init__(self, regions: str, tags: str) -> None:
        """regions: a folder of the stage `detect`, or "none". tags: "detector", "none", or a file; see `read_tags`."""
        self._regions = None if regions == NONE else Regions(regions)
        self._detected = tags == DETECTOR
        listed = {} if tags in (NONE, DETECTOR) else read_tags(tags)
        self._tags = list(listed.values())
        if tags == DETECTOR and self._regions is None:
            raise CallError("task.tags: detector, but task.regions is none. Set task.tags to none, or name a file.")
        self._tag_names = PhotoNames([ImageName("", name) for name in listed])
        self._names = self._tag_names if self._regions is None else PhotoNames(self._regions.images)
        self._unseen: dict[str, int] | None = {} if self._regions is None and tags == NONE else None
        hashes = [self._regions.content_hash if self._regions else "", "" if not listed else files.sha256(tags)]
        #: Stands for all that is known of the photos.
        self.content_hash = manifest.digest([*hashes, tags if tags in (NONE, DETECTOR) else "file"])

    @property
    def feature_dim(self) -> int | None:
        """The width of the regions' features; None without regions."""
        return self._regions.feature_dim if self._regions else None

    @property
    def vocabulary(self) -> tuple[str, str] | None:
        """The name and the hash of the vocabulary that the tags are of; None if the detector does not give them."""
        return self._regions.vocabulary if self._regions and self._detected else None

    def number(self, name: str) -> int:
        """The number of the photo that an annotation file calls `name`. Raises UnknownPhoto."""
        if self._unseen is not None:
            return self._unseen.setdefault(name, len(self._unseen))
        found = self._names.find(name)
        return self._regions.same.get(found, found) if self._regions else found

    def source(self, number: int) -> ImageName | None:
        """Where the photo itself is; None if only its name is known."""
        return self._regions.images[number] if self._regions else None

    def crops(self, number: int) -> list[bytes]:
        """The pictures of the photo's regions, JPEGs; none without regions."""
        return self._regions.crops(number) if self._regions else []

    def read(self, numbers: Iterable[int], feature_dim: int) -> dict[int, Photo]:
        """The photos of these numbers. feature_dim: the width of no features, for photos without regions."""
        if self._regions is None:
            none = np.zeros((0, feature_dim), np.float16), np.zeros((0, 4), np.float32)
            tags = self._tags if self._unseen is None else None
            return {number: Photo(*none, 1, 1, (), tags[number] if tags else ()) for number in set(numbers)}
        found = self._regions.read(numbers)
        if self._detected:
            return found
        return {number: _with_tags(photo, self._tags_of(number)) for number, photo in found.items()}

    def all_tags(self) -> set[str]:
        """The tags of all photos, to learn a vocabulary of word pieces from."""
        if self._detected and self._regions is not None:
            return set(self._regions.concepts)
        return {tag for tags in self._tags for tag in tags}

    def _tags_of(self, number: int) -> tuple[str, ...]:
        assert self._regions is not None
        image = self._regions.images[number]
        for name in filter(None, (image.key, image.source)):
            with suppress(UnknownPhoto):
                return self._tags[self._tag_names.find(name)]
        return ()


def read_tags(path: str) -> dict[str, tuple[str, ...]]:
    """The names of what is in photos, by photo: a JSON object of photo -> names, or lines of {"image": …, "tags": […]};
    plain or .gz. Raises CallError for anything else."""
    if is_lines(path):
        listed = [(entry.where, entry.identifier("image", "image_id"), entry.field("tags")) for entry in entries(path)]
    else:
        whole = document(path, _TAGS)
        listed = [(path, str(name), names) for name, names in whole.items()] if isinstance(whole, dict) else []
        if not listed:
            raise CallError(f"task.tags: {path}: no photos in it. {_TAGS}")
    for where, name, names in listed:
        if not name or not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise CallError(f"task.tags: {where}: found {json.dumps(names)[:100]} for the photo {name!r}. {_TAGS}")
    return {encodable(name): tuple(dict.fromkeys(map(encodable, names))) for _, name, names in listed}


_TAGS = 'Expected a JSON object of photo -> [name, …], or lines of {"image": photo, "tags": [name, …]}.'


def _with_tags(photo: Photo, tags: tuple[str, ...]) -> Photo:
    return Photo(photo.features, photo.boxes, photo.width, photo.height, photo.concepts, tags)


def _matrix(column: pa.ChunkedArray, rows: int) -> np.ndarray:
    """(rows, width) of a column of lists of one length."""
    whole = column.combine_chunks()
    return whole.flatten().to_numpy(zero_copy_only=False).reshape(rows, -1)


def _stem(name: str) -> str:
    """The file name without its ending, in lower case."""
    last = posixpath.basename(name.strip().replace("\\", "/"))
    stem, dot, ending = last.rpartition(".")
    return (stem if dot and len(ending) <= 4 and ending.isalnum() and not ending.isdecimal() else last).lower()
