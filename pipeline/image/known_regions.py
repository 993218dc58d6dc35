"""Parses lines of region features, in the formats of VinVL, bottom-up attention and LXMERT, as detections.

VinVL: `features.tsv` (id, number of boxes, base64 of float32; or id, JSON with num_boxes and features) and
`predictions.tsv` (id, JSON with image_h, image_w, objects of rect, class, conf). Bottom-up attention: image_id,
image_w, image_h, num_boxes, boxes, features. LXMERT's: img_id, img_h, img_w, objects_id, objects_conf, attrs_id,
attrs_conf, num_boxes, boxes, features. Each line is checked: its counts must agree with its contents.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.features import MAX_LINE_BYTES, line_id, lines_by_id, predictions_of, read_part

COLUMNS = (2, 3, 6, 10)
PROBED_LINES = 100


class BadRecord(ValueError):
    """A line whose parts contradict each other."""


@dataclass(frozen=True)
class KnownRegions:
    """What a line says: the image's size in pixels, its regions, and the class names that their labels index."""

    width: int
    height: int
    detections: Detections
    names: tuple[str, ...]


class FeatureLines:
    """Parses the lines of the files that match `pattern`.

    predictions: the file with the classes, if the config names it. classes: the names that objects_id index, a list or
    a text file. `feature_dim` is the width of the features. Raises CallError if the first line has no known format or
    its classes are unknown.
    """

    def __init__(
        self, pattern: str, predictions: str | None = None, classes: Sequence[str] | str | None = None
    ) -> None:
        self._classes = None if classes is None else read_class_names(classes)
        first = files.expand([pattern], key="images.detector: tsv")[0].name
        self.feature_dim = self._probe(first, predictions_of(first, predictions))

    def parse(self, ref: ImageRef, data: bytes) -> KnownRegions | Unreadable:
        """What the line says, or why it cannot be used. data: as FeatureReader reads it."""
        try:
            known = self._parse(data[: ref.size], data[ref.size :])
            width = known.detections.features.shape[1]
            if len(known.detections.scores) and width != self.feature_dim:
                raise BadRecord(f"features of {width} numbers, those of the first line have {self.feature_dim}")
        except BadRecord as error:
            return Unreadable("bad_record", str(error))
        return known

    def _probe(self, name: str, predictions: str) -> int:
        """The width of the features, from the first line that has a box."""
        places: dict[str, tuple[int, int]] | None = None
        with files.open_read(name) as file:
            for row in range(PROBED_LINES):
                line = file.readline(MAX_LINE_BYTES)
                self._check_columns(name, line, predictions)
                if predictions and places is None:
                    places = dict(lines_by_id(predictions))
                place = (places or {}).get(line_id(line))
                try:
                    found = self._parse(line, read_part(predictions, place) if place else b"").detections
                except BadRecord as error:
                    raise CallError(f"images.detector: line {row + 1} of {name} is not usable: {error}.") from None
                if len(found.scores):
                    return int(found.features.shape[1])
        raise CallError(f"images.detector: the first {PROBED_LINES} lines of {name} have no box.")

    def _check_columns(self, name: str, line: bytes, predictions: str) -> None:
        columns = len(line.rstrip(b"\r\n").split(b"\t"))
        if columns not in COLUMNS:
            raise CallError(
                f"images.detector: a line of {name} has {columns} columns; expected 3 or 2 (VinVL), 6 "
                "(bottom-up attention) or 10 (LXMERT)."
            )
        if columns == 10 and self._classes is None:
            raise CallError(
                f"images.detector_options.classes: {name} has numbers of classes. Give their names: a list, or a text "
                "file with one name per line (bottom-up attention's objects_vocab.txt)."
            )
        if columns in (3, 6) and not predictions:
            raise CallError(
                f"images.detector_options.predictions: {name} does not contain classes. Give the TSV file with id and "
                "JSON of the objects (VinVL's predictions.tsv)."
            )

    def _parse(self, line: bytes, prediction: bytes) -> KnownRegions:
        try:
            fields = line.rstrip(b"\r\n").split(b"\t")
            if len(fields) == 10:
                return self._lxmert(fields)
            if len(fields) == 6:
                width, height, count = (int(float(field)) for field in fields[1:4])
                boxes = _floats(fields[4], count, "boxes", 4)
                objects = _objects(prediction)["objects"]
                return self._known(width, height, boxes, _floats(fields[5], count, "features"), objects)
            if len(fields) == 3:
                count, features = int(fields[1]), fields[2]
                return self._vinvl(_objects(prediction), _floats(features, count, "features"))
            if len(fields) == 2:
                record = json.loads(fields[1])
                if "features" in record:
                    packed = _floats(str(record["features"]).encode(), int(record["num_boxes"]), "features")
                    return self._vinvl(_objects(prediction), packed)
                rows = [_floats(one["feature"].encode(), 1, "feature") for one in record["objects"]]
                return self._vinvl(record, np.concatenate(rows) if rows else np.zeros((0, 1), np.float32))
        except BadRecord:
            raise
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
            raise BadRecord(f"{type(error).__name__}: {error}"[:200]) from None
        raise BadRecord(f"{len(fields)} columns, expected one of {', '.join(map(str, COLUMNS))}")

    def _lxmert(self, fields: list[bytes]) -> KnownRegions:
        height, width, count = int(fields[1]), int(fields[2]), int(fields[7])
        labels = _numbers(fields[3], np.int64, count, "objects_id")
        scores = _numbers(fields[4], np.float32, count, "objects_conf")
        names = self._classes or []
        if count and not 0 <= labels.min() <= labels.max() < len(names):
            raise BadRecord(f"objects_id up to {labels.max()}, there are {len(names)} classes")
        boxes, features = _floats(fields[8], count, "boxes", 4), _floats(fields[9], count, "features")
        return KnownRegions(width, height, Detections(boxes, scores, labels, features), tuple(names))

    def _vinvl(self, record: Mapping[str, Any], features: np.ndarray) -> KnownRegions:
        objects = record["objects"]
        boxes = np.array([one["rect"] for one in objects], np.float32).reshape(len(objects), 4)
        return self._known(int(record["image_w"]), int(record["image_h"]), boxes, features, objects)

    def _known(
        self, width: int, height: int, boxes: np.ndarray, features: np.ndarray, objects: Sequence[Mapping[str, Any]]
    ) -> KnownRegions:
        if not len(objects) == len(boxes) == len(features):
            raise BadRecord(f"{len(boxes)} boxes, {len(features)} features, {len(objects)} objects with classes")
        if width < 1 or height < 1:
            raise BadRecord(f"an image of {width}×{height}")
        classes = [self._name(one["class"]) for one in objects]
        names = tuple(dict.fromkeys(classes))
        places = {name: place for place, name in enumerate(names)}
        labels = np.array([places[name] for name in classes], np.int64)
        scores = np.array([one["conf"] for one in objects], np.float32)
        return KnownRegions(width, height, Detections(boxes, scores, labels, features), names)

    def _name(self, value: Any) -> str:
        if isinstance(value, int) and self._classes is not None and 0 <= value < len(self._classes):
            return self._classes[value]
        if not isinstance(value, str):
            raise BadRecord(f"a class {value!r}, expected a name")
        return value


def _objects(prediction: bytes) -> Mapping[str, Any]:
    if not prediction:
        raise BadRecord("it has no prediction")
    record = json.loads(prediction.rstrip(b"\r\n").partition(b"\t")[2])
    if not isinstance(record, dict):
        raise BadRecord("its prediction is not a JSON object")
    return record


def _numbers(field: bytes, dtype: Any, count: int, what: str) -> np.ndarray:
    """The base64 field as `count` numbers."""
    try:
        data = base64.b64decode(field, validate=True)
    except binascii.Error as error:
        raise BadRecord(f"{what}: not valid base64: {error}") from None
    size = np.dtype(dtype).itemsize
    if len(data) != count * size:
        raise BadRecord(f"{what}: {len(data)} bytes for {count} boxes")
    return np.frombuffer(data, dtype).copy()


def _floats(field: bytes, count: int, what: str, width: int | None = None) -> np.ndarray:
    """The base64 field as (count, width) float32. width: None for whatever the field holds."""
    try:
        data = base64.b64decode(field, validate=True)
    except binascii.Error as error:
        raise BadRecord(f"{what}: not valid base64: {error}") from None
    if count < 0 or len(data) % 4 or (count and len(data) // 4 % count) or (not count and data):
        raise BadRecord(f"{what}: {len(data)} bytes for {count} boxes")
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not count:
        return np.zeros((0, width or 1), np.float32)
    if width is not None and len(values) != count * width:
        raise BadRecord(f"{what}: {len(values)} numbers for {count} boxes")
    return values.reshape(count, -1)
