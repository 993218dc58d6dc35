"""Parses lines of region features, in the formats of VinVL, bottom-up attention and LXMERT, as detections.

VinVL: `features.tsv` (id, number of boxes, base64 of float32; or id, JSON with num_boxes and features) and
`predictions.tsv` (id, JSON with image_h, image_w, objects of rect, class, conf); or one file (id, JSON of
objects with a feature each, as scene_graph_benchmark writes it, with or without the image's size). Bottom-up attention:
image_id, image_w, image_h, num_boxes, boxes, features. LXMERT's: img_id, img_h, img_w, objects_id, objects_conf,
attrs_id, attrs_conf, num_boxes, boxes, features. Each line is checked: its counts must agree with its contents.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.plausibility import DTYPES, MAX_SIDE, wrong_features, wrong_numbers
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.features import (
    MAX_LINE_BYTES,
    labels_of,
    predictions_of,
    read_part,
    sizes_of,
)
from vlmixer.pipeline.image.readers.tsv_lines import LinesById, line_id

COLUMNS = (2, 3, 6, 10)
PROBED_LINES = 100
MAX_SIZE_BYTES = 1 << 20
"""Of a line with an image's size."""


class BadRecord(ValueError):
    """A line whose parts contradict each other."""


@dataclass(frozen=True)
class KnownRegions:
    """What a line says: the image's size in pixels, its regions, and the class names that their labels index.

    width, height: 0 if the line does not say; its photo does.
    """

    width: int
    height: int
    detections: Detections
    names: tuple[str, ...]


class FeatureLines:
    """Parses the lines of the files that match `pattern`.

    predictions: the file with the classes, if the config names it. classes: the names that numbers of classes index, a
    list, a text file or a label map; without it, the label map next to the file. sizes: the file with the images'
    sizes, lines of an id and [{height, width}]; without it, hw.tsv next to the file. dtype: the type of the features.
    `feature_dim` is the width of the features. Raises CallError if the first line has no known format, its classes are
    unknown, or its numbers cannot be what they should be.
    """

    def __init__(
        self,
        pattern: str,
        predictions: str | None = None,
        classes: Sequence[str] | str | None = None,
        sizes: str | None = None,
        dtype: str = "float32",
    ) -> None:
        if dtype not in DTYPES:
            raise CallError(f"images.detector_options.dtype: expected one of {', '.join(DTYPES)}, found {dtype!r}.")
        first = files.expand([pattern], key="images.detector: tsv")[0].name
        names = classes or labels_of(first) or None
        self._classes = None if names is None else read_class_names(names)
        place = sizes or sizes_of(first)
        self._sizes = read_sizes(place) if place else {}
        self._dtype = dtype
        self.feature_dim = self._probe(first, predictions_of(first, predictions))

    def parse(self, ref: ImageRef, data: bytes) -> KnownRegions | Unreadable:
        """What the line says, or why it cannot be used. data: as FeatureReader reads it."""
        try:
            known = self._parse(data[: ref.size], data[ref.size :])
            if not known.width and not ref.photo:
                raise BadRecord(
                    "no image size in the line; give the photos in images.inputs, or an hw.tsv next to the file"
                )
            width = known.detections.features.shape[1]
            if len(known.detections.scores) and width != self.feature_dim:
                raise BadRecord(f"features of {width} numbers, those of the first line have {self.feature_dim}")
        except BadRecord as error:
            return Unreadable("bad_record", str(error))
        return known

    def _probe(self, name: str, predictions: str) -> int:
        """The width of the features, from the first usable line that has a box. Others may be half-written."""
        places: LinesById | None = None
        fault = ""
        with files.open_read(name) as file, ExitStack() as opened:
            for row in range(PROBED_LINES):
                line = file.readline(MAX_LINE_BYTES)
                if not line:
                    break
                columns = len(line.rstrip(b"\r\n").split(b"\t"))
                if columns not in COLUMNS:
                    fault = fault or (
                        f"a line of {name} has {columns} columns; expected 3 or 2 (VinVL), 6 (bottom-up attention) or "
                        "10 (LXMERT)"
                    )
                    continue
                self._check_classes(name, columns, predictions)
                if predictions and places is None:
                    places = opened.enter_context(LinesById(predictions))
                place = None if places is None else places.longest(line_id(line))
                try:
                    found = self._parse(line, read_part(predictions, place) if place else b"").detections
                except BadRecord as error:
                    fault = fault or f"line {row + 1} of {name} is not usable: {error}"
                    continue
                if len(found.scores):
                    return int(found.features.shape[1])
        raise CallError(f"images.detector: {fault or f'the first {PROBED_LINES} lines of {name} have no box'}.")

    def _check_classes(self, name: str, columns: int, predictions: str) -> None:
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
                boxes, features = _boxes(fields[4], count), self._features(fields[5], count)
                return self._known(width, height, boxes, features, _objects(prediction)["objects"])
            if len(fields) == 3:
                return self._vinvl(line, _objects(prediction), self._features(fields[2], int(fields[1])))
            if len(fields) == 2:
                record = json.loads(fields[1])
                record = {"objects": record} if isinstance(record, list) else record
                if "features" in record:
                    packed = self._features(str(record["features"]).encode(), int(record["num_boxes"]))
                    return self._vinvl(line, _objects(prediction), packed)
                parts = [_decoded(one["feature"].encode(), "feature") for one in record["objects"]]
                if len({len(part) for part in parts}) > 1:
                    raise BadRecord("features of different widths")
                return self._vinvl(line, record, self._numbers(b"".join(parts), len(parts)))
        except BadRecord:
            raise
        except (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError) as error:
            raise BadRecord(f"{type(error).__name__}: {error}"[:200]) from None
        raise BadRecord(f"{len(fields)} columns, expected one of {', '.join(map(str, COLUMNS))}")

    def _lxmert(self, fields: list[bytes]) -> KnownRegions:
        height, width, count = int(fields[1]), int(fields[2]), int(fields[7])
        labels = _numbers(fields[3], np.int64, count, "objects_id")
        scores = _numbers(fields[4], np.float32, count, "objects_conf")
        names = self._classes or []
        if count and not 0 <= labels.min() <= labels.max() < len(names):
            raise BadRecord(f"objects_id up to {labels.max()}, there are {len(names)} classes")
        boxes, features = _boxes(fields[8], count), self._features(fields[9], count)
        if wrong := wrong_numbers(boxes, scores, width, height):
            raise BadRecord(wrong)
        return KnownRegions(width, height, Detections(boxes, scores, labels, features), tuple(names))

    def _vinvl(self, line: bytes, record: Mapping[str, Any], features: np.ndarray) -> KnownRegions:
        objects = record["objects"]
        boxes = np.array([one["rect"] for one in objects], np.float32).reshape(len(objects), 4)
        width, height = self._sizes.get(line_id(line), (0, 0))
        if "image_w" in record or "image_h" in record:
            width, height = int(record["image_w"]), int(record["image_h"])
            if width < 1 or height < 1:
                raise BadRecord(f"an image of {width}×{height}")
        return self._known(width, height, boxes, features, objects)

    def _features(self, field: bytes, count: int) -> np.ndarray:
        """The base64 field as (count, width) float32."""
        return self._numbers(_decoded(field, "features"), count)

    def _numbers(self, data: bytes, count: int) -> np.ndarray:
        """The bytes as (count, width) float32."""
        size = np.dtype(DTYPES[self._dtype]).itemsize
        if count < 0 or len(data) % size or (count and len(data) // size % count) or (not count and data):
            raise BadRecord(f"features: {len(data)} bytes for {count} boxes in {self._dtype}")
        if not count:
            return np.zeros((0, 1), np.float32)
        if wrong := wrong_features(data, self._dtype):
            raise BadRecord(wrong)
        return np.frombuffer(data, DTYPES[self._dtype]).astype(np.float32).reshape(count, -1)

    def _known(
        self, width: int, height: int, boxes: np.ndarray, features: np.ndarray, objects: Sequence[Mapping[str, Any]]
    ) -> KnownRegions:
        if not len(objects) == len(boxes) == len(features):
            raise BadRecord(f"{len(boxes)} boxes, {len(features)} features, {len(objects)} objects with classes")
        classes = [self._name(one["class"]) for one in objects]
        names = tuple(dict.fromkeys(classes))
        places = {name: place for place, name in enumerate(names)}
        labels = np.array([places[name] for name in classes], np.int64)
        scores = np.array([one["conf"] for one in objects], np.float32)
        # Without a size, what can be said at all. Boxes are compared with the photo's size when it is read.
        reach = (width, height) if width else (MAX_SIDE, MAX_SIDE)
        if wrong := wrong_numbers(boxes, scores, *reach):
            raise BadRecord(wrong)
        return KnownRegions(width, height, Detections(boxes, scores, labels, features), names)

    def _name(self, value: Any) -> str:
        if isinstance(value, str) and not value.isdecimal():
            return value
        if self._classes is None:
            raise BadRecord(f"a class {value!r}, expected a name; set images.detector_options.classes to the label map")
        number = int(value) if isinstance(value, str | int) or value == int(value) else -1
        if not 0 <= number < len(self._classes) or not self._classes[number]:
            raise BadRecord(f"a class {value!r}, there are {len(self._classes)} names in the label map")
        return self._classes[number]


def _objects(prediction: bytes) -> Mapping[str, Any]:
    if not prediction:
        raise BadRecord("it has no prediction")
    record = json.loads(prediction.rstrip(b"\r\n").partition(b"\t")[2])
    if not isinstance(record, dict):
        raise BadRecord("its prediction is not a JSON object")
    return record


def _numbers(field: bytes, dtype: Any, count: int, what: str) -> np.ndarray:
    """The base64 field as `count` numbers."""
    data = _decoded(field, what)
    size = np.dtype(dtype).itemsize
    if len(data) != count * size:
        raise BadRecord(f"{what}: {len(data)} bytes for {count} boxes")
    return np.frombuffer(data, dtype).copy()


def _decoded(field: bytes, what: str) -> bytes:
    try:
        return base64.b64decode(field, validate=True)
    except binascii.Error as error:
        raise BadRecord(f"{what}: not valid base64: {error}") from None


def _boxes(field: bytes, count: int) -> np.ndarray:
    """The base64 field as (count, 4) float32. The number of bytes shows the type."""
    data = _decoded(field, "boxes")
    for code in DTYPES.values():
        if len(data) == count * 4 * np.dtype(code).itemsize:
            return np.frombuffer(data, code).astype(np.float32).reshape(count, 4)
    raise BadRecord(f"boxes: {len(data)} bytes for {count} boxes")


def read_sizes(path: str) -> dict[str, tuple[int, int]]:
    """(width, height) by id, from lines of an id and JSON with `height` and `width`, in a list or not, or "h w".

    Raises CallError that names the line.
    """
    found: dict[str, tuple[int, int]] = {}
    number = 0
    try:
        with files.open_read(path) as file:
            while line := file.readline(MAX_SIZE_BYTES + 1):
                number += 1
                if len(line) > MAX_SIZE_BYTES:
                    raise ValueError(f"a line of more than {MAX_SIZE_BYTES:,} bytes")
                identity, _, text = line.decode("utf-8-sig").partition("\t")
                if line.strip():
                    found[identity.strip()] = _size(text)
    except (OSError, ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
        raise CallError(
            f"images.detector_options.sizes: {path}, line {number}: {error!r}. Expected an id, a tab and "
            '[{"height": …, "width": …}] in each line.'
        ) from None
    return found


def _size(text: str) -> tuple[int, int]:
    if text.lstrip()[:1] in ("[", "{"):
        value: Any = json.loads(text)
        value = value[0] if isinstance(value, list) else value
        width, height = int(value["width"]), int(value["height"])
    else:
        height, width = map(int, text.split())
    if min(width, height) < 1:
        raise ValueError(f"a size of {width}×{height}")
    return width, height
