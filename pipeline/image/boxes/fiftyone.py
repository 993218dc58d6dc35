"""FiftyOne's samples.json, sample by sample: boxes in fractions of the photo, in a field such as ground_truth."""

from typing import Any

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import CappedRejects
from vlmixer.artifacts.texts import encodable
from vlmixer.pipeline.image.boxes.records import (
    BadBox,
    BoxColumns,
    FileBoxes,
    NamedPhoto,
    box_of,
    score_of,
    shown,
    single_of,
    size_of,
)

KEY = "images.detector_options.field"
BEYOND = 1.1
"""Boxes may end a little outside the photo, from rounding. Larger numbers are pixels."""


class FiftyOneBoxes:
    """Gathers the samples of a file. wanted: the field with the boxes; None for the only one that has any."""

    def __init__(self, path: str, wanted: str | None, log: CappedRejects) -> None:
        self._columns = BoxColumns(path, log)
        self._wanted = wanted
        self._photos: list[NamedPhoto] = []
        self._labels: dict[str, int] = {}
        self._fields: dict[str, None] = {}

    def take_sample(self, value: Any) -> None:
        """A sample. Raises CallError if it has boxes in several fields and the config names none."""
        path = value.get("filepath") if isinstance(value, dict) else None
        if not isinstance(path, str) or not path:
            return
        about = value.get("metadata")
        self._photos.append(NamedPhoto(encodable(path), *size_of(about if isinstance(about, dict) else {})))
        for name, content in value.items():
            detections = _detections(content)
            if detections is None:
                continue
            self._fields[encodable(name)] = None
            if self._wanted is None and len(self._fields) > 1:
                raise CallError(
                    f"{KEY}: {self._columns.path} has boxes in {' and '.join(self._fields)}. Name one of them."
                )
            if self._wanted in (None, name):
                for detection in detections:
                    self._take_box(detection)

    def take(self) -> FileBoxes:
        """All boxes of the field. Raises CallError if no sample has the field."""
        if self._wanted is not None and self._wanted not in self._fields:
            others = f"in {' and '.join(self._fields)}" if self._fields else "in no field"
            raise CallError(f"{KEY}: {self._columns.path} has no boxes in {self._wanted!r}, but {others}.")
        return self._columns.take(self._photos, list(self._labels), relative=True)

    def _take_box(self, value: Any) -> None:
        columns = self._columns
        columns.read += 1
        try:
            value = single_of(value)
            label = value.get("label")
            if not isinstance(label, str) or not label:
                raise BadBox("no label")
            box = box_of(value.get("bounding_box"), "bounding_box")
            if max(box) > BEYOND or min(box) < 1 - BEYOND:
                raise BadBox(f"{shown(box)}, expected fractions of the photo's width and height")
            if max(box[:2]) >= 1 or min(box[2:]) <= 0:
                raise BadBox(f"{shown(box)} is outside the photo")
            score = score_of(value.get("confidence"), required=False)
        except BadBox as bad:
            columns.reject(self._photos[-1].name, bad)
            return
        columns.add(len(self._photos) - 1, self._labels.setdefault(encodable(label), len(self._labels)), box, score)


def _detections(value: Any) -> list[Any] | None:
    """The boxes in a field of a sample; None if it is no field of boxes."""
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("detections"), list):
        found: list[Any] = value["detections"]
        return found
    return [value] if value.get("_cls") == "Detection" else None
