"""COCO's annotations (instances_*.json) and detection results (results.json), entry by entry."""

from typing import Any

import numpy as np

from vlmixer.artifacts.rejects import CappedRejects
from vlmixer.artifacts.texts import encodable
from vlmixer.pipeline.image.boxes.records import (
    BadBox,
    BoxColumns,
    FileBoxes,
    NamedPhoto,
    box_of,
    identity_of,
    score_of,
    shown,
    single_of,
    size_of,
)

RESULTS = ""
"""The name of the entries of a list at the top of a file, as detection results are."""


class CocoBoxes:
    """Gathers the entries of a file. Categories may come after annotations, so numbers stand for ids until the end.

    Ids of annotations are not looked at: nothing depends on them, and merged files often repeat them.
    """

    def __init__(self, path: str, log: CappedRejects) -> None:
        self._columns = BoxColumns(path, log)
        self._images: dict[int | str, int] = {}
        self._photos: dict[int, NamedPhoto] = {}
        self._classes: dict[int | str, int] = {}
        self._names: dict[int, str] = {}
        #: Images, and classes, whose id another one has, too, with the other one's name.
        self._twice: dict[int, str] = {}
        self._twice_named: dict[int, str] = {}

    @property
    def lacking(self) -> str:
        """What has no entry yet, `images` or `categories`; "" if nothing is lacking."""
        return "images" if not self._photos else "" if self._names else "categories"

    def take_name(self, kind: str, value: Any) -> None:
        """An entry of `images` or `categories`. One without an id or a name is as good as missing."""
        if not isinstance(value, dict) or (identity := identity_of(value.get("id"))) is None:
            return
        name = value.get("file_name" if kind == "images" else "name")
        if not isinstance(name, str) or not name:
            return
        if kind == "categories":
            label = self._classes.setdefault(identity, len(self._classes))
            if self._names.setdefault(label, encodable(name)) != encodable(name):
                self._twice_named[label] = encodable(name)
            return
        number = self._images.setdefault(identity, len(self._images))
        photo = NamedPhoto(encodable(name), *size_of(value))
        if self._photos.setdefault(number, photo).name != photo.name:
            self._twice[number] = photo.name

    def take_box(self, kind: str, value: Any) -> None:
        """An entry of `annotations`, or of detection results (kind: RESULTS), which must have a score."""
        columns = self._columns
        columns.read += 1
        try:
            value = single_of(value)
            box, score = box_of(value.get("bbox"), "bbox"), score_of(value.get("score"), required=kind == RESULTS)
            image, category = identity_of(value.get("image_id")), identity_of(value.get("category_id"))
            if image is None or category is None:
                raise BadBox("no image_id" if image is None else "no category_id")
        except BadBox as bad:
            columns.reject(f"box {columns.read}", bad)
            return
        number = self._images.setdefault(image, len(self._images))
        columns.add(number, self._classes.setdefault(category, len(self._classes)), box, score)

    def take(self) -> FileBoxes:
        """All boxes whose photo and class are known."""
        columns = self._columns
        images, classes = list(self._images), list(self._classes)
        photos = [self._photos.get(number, NamedPhoto("")) for number in range(len(images))]
        names = [self._names.get(number, "") for number in range(len(classes))]
        unclear = ["" if name else "which no entry of categories has" for name in names]
        for number, other in self._twice_named.items():
            unclear[number] = f"which is {names[number]} and {other}"
            names[number] = ""
        wrong = ["" if photo.name else "which no entry of images has" for photo in photos]
        for number, other in self._twice.items():
            wrong[number] = f"which is {photos[number].name} and {other}"
            photos[number] = NamedPhoto("")
        found = columns.take(photos, names, relative=False)
        size = np.array([(photo.width, photo.height) for photo in photos], np.float32).reshape(-1, 2)[found.photo]
        outside = (found.boxes[:, :2] >= size).any(axis=1) | (found.boxes[:, 2:] <= 0).any(axis=1)
        outside &= size[:, 0] > 0
        unnamed = np.array([not name for name in names], bool)[found.label]
        faulty = np.array([bool(fault) for fault in wrong], bool)[found.photo]
        bad = faulty | unnamed | outside
        for row in np.flatnonzero(bad):
            photo, label = int(found.photo[row]), int(found.label[row])
            if faulty[row]:
                detail = f"image {images[photo]}, {wrong[photo]}"
            elif unnamed[row]:
                detail = f"category {classes[label]}, {unclear[label]}"
            else:
                width, height = (int(length) for length in size[row])
                detail = f"{shown(found.boxes[row])} is outside the photo of {width}×{height}"
            columns.reject(photos[photo].name or f"image {images[photo]}", BadBox(detail))
        return columns.take(photos, names, bad, relative=False)
