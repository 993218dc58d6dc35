"""Reads files of boxes: COCO's annotations and detection results, and FiftyOne's samples.json.

A file is read as a stream, and some 25 bytes are kept of each box. A box that cannot be used is counted with a reason.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.json_stream import BrokenJson, json_entries
from vlmixer.artifacts.rejects import BATCH, CappedRejects
from vlmixer.pipeline.image.boxes.coco import RESULTS, CocoBoxes
from vlmixer.pipeline.image.boxes.fiftyone import FiftyOneBoxes
from vlmixer.pipeline.image.boxes.records import FileBoxes, NamedPhoto
from vlmixer.pipeline.text.readers.packing import ERRORS, unpack

KEY = "images.detector: boxes"
ANNOTATIONS = "images.detector_options.annotations"
MAX_CHARACTERS = 1 << 24
"""Of an annotation or a sample. Outlines of crowds take some hundred thousand, masks in samples millions."""
EXPECTED = (
    "Expected COCO annotations (an object with images, annotations and categories), COCO detection results (a list of "
    "image_id, category_id, bbox and score), or FiftyOne's samples.json."
)


@dataclass(frozen=True)
class BoxFiles:
    """What `images.detector: boxes:PATTERN` and its options name.

    annotations: the COCO file with the images and categories of detection results. field: of FiftyOne's samples, the
    one with the boxes.
    """

    pattern: str
    annotations: str | None = None
    field: str | None = None

    @classmethod
    def of(cls, pattern: str, options: Mapping[str, Any]) -> "BoxFiles":
        """With the options of images.detector_options. Raises CallError."""
        known = ("annotations", "field")
        wrong = [key for key, value in options.items() if key not in known or not isinstance(value, str)]
        if wrong:
            raise CallError(
                f"images.detector_options: boxes takes {' and '.join(known)}, each a text, and no {wrong[0]!r}."
            )
        return cls(pattern, **options)

    def find(self) -> Sequence[files.FileStat]:
        """The files with boxes, and the one that names images and categories. Raises CallError."""
        found = files.expand([self.pattern], key=KEY)
        if self.annotations is None:
            return found
        if not files.exists(self.annotations):
            raise CallError(f"{ANNOTATIONS}: no such file: {self.annotations}.")
        stat = files.FileStat(self.annotations, files.size(self.annotations), files.stamp(self.annotations))
        return [*(entry for entry in found if entry.name != stat.name), stat]


@dataclass(frozen=True)
class Boxes:
    """The usable boxes of files. Row i of each array is box i, in the order of the files.

    photo: (n,) int32, indices into `photos`. label: (n,) int32, indices into `names`. boxes: (n, 4) float32, xyxy in
    pixels of the photo; in fractions of its width and height where `relative`, (n,) bool, is true. scores: (n,)
    float32, 0 to 1; 1 for annotations without a score. paths: the files. read: number of boxes in them. rejected: those
    that cannot be used.
    """

    paths: tuple[str, ...]
    photos: tuple[NamedPhoto, ...]
    names: tuple[str, ...]
    photo: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    relative: np.ndarray
    read: int
    rejected: CappedRejects


def read_boxes(named: BoxFiles, *, all_rejects: bool = False) -> Boxes:
    """The boxes of the files, which are read once per process. all_rejects: list each box that cannot be used.

    Raises CallError, UserError.
    """
    return _read(named, tuple((entry.name, entry.size, entry.stamp) for entry in named.find()), all_rejects)


@lru_cache(2)
def _read(named: BoxFiles, stamps: tuple[tuple[str, int, str], ...], all_rejects: bool) -> Boxes:
    log = CappedRejects("detect", 1 << 62 if all_rejects else BATCH)
    names = [name for name, _, _ in stamps]
    paths = [name for name in names if name != named.annotations] or names
    boxes = _joined(paths, [_read_file(path, named, log) for path in paths], log)
    if not len(boxes.scores):
        first = next((f"; the first: {one.key}: {one.detail or one.reason}" for one in log.rejects), "")
        raise UserError(f"{KEY}: {', '.join(paths[:3])}: none of {boxes.read} boxes can be used{first}. {EXPECTED}")
    return boxes


def _read_file(path: str, named: BoxFiles, log: CappedRejects) -> FileBoxes:
    coco, samples = CocoBoxes(path, log), FiftyOneBoxes(path, named.field, log)
    kinds: set[str] = set()
    for kind, value in _entries(path):
        kinds.add(kind)
        if kind == "samples":
            samples.take_sample(value)
        elif kind in ("images", "categories"):
            coco.take_name(kind, value)
        elif kind in (RESULTS, "annotations"):
            coco.take_box(kind, value)
    if "samples" in kinds:
        return samples.take()
    if not kinds & {RESULTS, "annotations"}:
        raise UserError(f"{KEY}: {path}: has no list of boxes. {EXPECTED}")
    if named.annotations is not None:
        for kind, value in _entries(named.annotations):
            if kind in ("images", "categories"):
                coco.take_name(kind, value)
    elif coco.lacking and "images" not in kinds:
        raise CallError(
            f"{ANNOTATIONS}: {path} has images and classes by number. Give the COCO file that names them, such as "
            "instances_val2017.json or image_info_test-dev2017.json."
        )
    if coco.lacking:
        raise UserError(f"{KEY}: {named.annotations or path}: has no usable {coco.lacking}. {EXPECTED}")
    return coco.take()


def _joined(paths: Sequence[str], parts: Sequence[FileBoxes], log: CappedRejects) -> Boxes:
    """The boxes of all files. Classes with equal names are one; photos and classes without a name are left out."""
    photos: list[NamedPhoto] = []
    names: dict[str, int] = {}
    columns: list[tuple[np.ndarray, ...]] = []
    for part in parts:
        places = np.full(len(part.photos), -1, np.int32)
        for number, photo in enumerate(part.photos):
            if photo.name:
                places[number] = len(photos)
                photos.append(photo)
        labels = np.array([names.setdefault(name, len(names)) if name else -1 for name in part.names], np.int32)
        relative = np.full(len(part.scores), part.relative)
        columns.append((places[part.photo], labels[part.label], part.boxes, part.scores, relative))
    owner, label, boxes, scores, relative = (np.concatenate(column) for column in zip(*columns, strict=True))
    read = sum(part.read for part in parts)
    return Boxes(tuple(paths), tuple(photos), tuple(names), owner, label, boxes, scores, relative, read, log)


def _entries(path: str) -> Iterator[tuple[str, Any]]:
    """The entries of a JSON file, plain or packed. Raises UserError if it cannot be read to its end."""
    try:
        with files.open_read(path) as file:
            yield from json_entries(unpack(path, file), max_characters=MAX_CHARACTERS, integers=int)
    except (*ERRORS, BrokenJson) as error:
        what = "cannot be read as JSON" if isinstance(error, BrokenJson) else "cannot be read"
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"{KEY}: {path}: {what} ({problem}). {EXPECTED}") from None
