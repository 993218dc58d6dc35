"""Region features that people already have, in the TSV files of VinVL and of bottom-up attention, as detections.

A line is an image. VinVL: `features.tsv` (id, number of boxes, base64 of float32; or id, JSON with num_boxes and
features) beside `predictions.tsv` (id, JSON with image_h, image_w, objects of rect, class, conf). Bottom-up attention:
image_id, image_w, image_h, num_boxes, boxes, features; as LXMERT writes it: img_id, img_h, img_w, objects_id,
objects_conf, attrs_id, attrs_conf, num_boxes, boxes, features. What a line says of itself is checked against what it
holds.
"""

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.readers.sources import Corpus, ImageRef, Piece, Unreadable, named

KIND = "tsv"
WIDTHS = (2, 3, 6, 10)
MAX_LINE_BYTES = 64 << 20
PROBED_LINES = 100


class BadRecord(ValueError):
    """A line whose parts do not fit together."""


@dataclass(frozen=True)
class Found:
    """What a line says: the image's size, its regions, and the class names that their labels are indices into."""

    width: int
    height: int
    detections: Detections
    names: tuple[str, ...]


def predictions_of(path: str, given: str | None) -> str:
    """The file with the classes of a features file: as given, or beside it, `features` being `predictions`."""
    if given:
        return given
    folder, slash, base = path.rpartition("/")
    beside = f"{folder}{slash}{base.replace('features', 'predictions')}"
    return beside if beside != path and files.exists(beside) else ""


def plan_features(pattern: str, predictions: str | None) -> Corpus:
    """A piece for each file. Raises CallError where there is none, or where one gives no classes."""
    found = files.expand([pattern], key="images.detector: tsv")
    inputs: dict[str, FileStat] = {entry.name: entry for entry in found}
    pieces = []
    for number, entry in enumerate(found):
        other = predictions_of(entry.name, predictions)
        if other and not files.exists(other):
            raise CallError(f"images.detector_options.predictions: no such file: {other}.")
        if other:
            inputs.setdefault(other, FileStat(other, files.size(other)))
        pieces.append(Piece(KIND, ((number, entry.name, other),), 0, entry.size))
    return Corpus(list(inputs.values()), pieces, [])


def photos_by_id(corpus: Corpus) -> dict[str, str]:
    """Paths of photos by the ids that lines may have: the name without its ending, and the number at its end."""
    if any(piece.kind != "files" for piece in corpus.pieces):
        raise CallError("images.inputs: with a detector tsv:FILE, give photos as files, folders or globs.")
    paths = sorted(name for piece in corpus.pieces for _, name, _ in piece.names)
    found: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(path.rpartition("/")[2])[0]
        found.setdefault(stem, path)
        number = re.search(r"(?:^|\D)(\d+)$", stem)
        if number:
            found.setdefault(str(int(number[1])), path)
    return found


def survey_features(piece: Piece, photos: Mapping[str, str] | None) -> Iterator[ImageRef]:
    """A reference for each line: position and size in bytes, those of its prediction, and its photo.

    photos: by id; None where there are none. Raises UserError where the index files beside it say something else.
    """
    ((number, name, predictions),) = piece.names
    classes = dict(_lines(predictions)) if predictions else None
    starts, ids = [], []
    for identity, (start, size) in _lines(name):
        starts.append(start)
        ids.append(identity)
        other = classes.get(identity, (-1, -1)) if classes is not None else (-1, -1)
        photo = "" if photos is None else photos.get(identity, "")
        reason = detail = ""
        if size > MAX_LINE_BYTES:
            reason, detail = "bad_record", f"a line of {size} bytes"
        elif classes is not None and other[0] < 0:
            reason, detail = "bad_record", f"{predictions} has no line for it"
        elif photos is not None and not photo:
            reason, detail = "missing_photo", "no photo among images.inputs is named so"
        yield named(
            ImageRef(
                name, identity, start, size, (number, start), reason=reason, detail=detail, other=other, photo=photo
            )
        )
    _check_index(name, starts, ids)


def _lines(name: str) -> Iterator[tuple[str, tuple[int, int]]]:
    """(id, (first byte, bytes)) of each line that is not blank."""
    at = 0
    with files.open_read(name) as file:
        for line in file:
            if line.strip():
                identity = line[:1000].partition(b"\t")[0].strip()
                yield identity.decode(errors="backslashreplace"), (at, len(line))
            at += len(line)


def _check_index(name: str, starts: list[int], ids: list[str]) -> None:
    stem = os.path.splitext(name)[0]
    if files.exists(f"{stem}.lineidx"):
        listed = [int(word) for word in files.read_bytes(f"{stem}.lineidx").split()]
        if listed != starts:
            raise UserError(
                f"{stem}.lineidx: lists {len(listed)} lines, {name} has {len(starts)}, or they begin elsewhere. "
                "The two do not belong together; remove the index, or fetch both again."
            )
    index = files.join(files.parent(name), "imageid2idx.json")
    if files.exists(index):
        places = json.loads(files.read_bytes(index))
        wrong = [identity for row, identity in enumerate(ids) if places.get(identity) != row]
        if wrong or len(places) != len(ids):
            raise UserError(
                f"{index}: names {len(places)} images, {name} has {len(ids)}; {len(wrong)} are in other lines "
                f"({', '.join(wrong[:3])}). They do not belong together; remove the index, or fetch both again."
            )


class FeatureFiles:
    """Reads lines as detections. classes: the names that objects_id are indices into, a list or a text file.

    Raises CallError where the first line is of no known format, or tells no classes.
    """

    def __init__(
        self, pattern: str, predictions: str | None = None, classes: Sequence[str] | str | None = None
    ) -> None:
        if isinstance(classes, str):
            text = files.read_bytes(classes).decode()
            classes = [line.strip() for line in text.splitlines() if line.strip()]
        self._classes = None if classes is None else list(classes)
        self.predictions = predictions
        self.feature_dim = self._probe(files.expand([pattern], key="images.detector: tsv")[0].name)

    def _probe(self, name: str) -> int:
        """The features' width, from the first line that has a box."""
        other = predictions_of(name, self.predictions)
        places: dict[str, tuple[int, int]] | None = None
        with files.open_read(name) as file:
            for row in range(PROBED_LINES):
                line = file.readline(MAX_LINE_BYTES)
                self._check_columns(name, line, other)
                if other and places is None:
                    places = dict(_lines(other))
                place = (places or {}).get(line[:1000].partition(b"\t")[0].strip().decode(errors="backslashreplace"))
                try:
                    found = self._parse(line, _read_part(other, *place) if place else b"").detections
                except BadRecord as error:
                    raise CallError(f"images.detector: line {row + 1} of {name} is not usable: {error}.") from None
                if len(found.scores):
                    return int(found.features.shape[1])
        raise CallError(f"images.detector: the first {PROBED_LINES} lines of {name} have no box.")

    def _check_columns(self, name: str, line: bytes, predictions: str) -> None:
        columns = len(line.rstrip(b"\r\n").split(b"\t"))
        if columns not in WIDTHS:
            raise CallError(
                f"images.detector: a line of {name} has {columns} columns; expected 3 or 2 (VinVL), 6 "
                "(bottom-up attention) or 10 (LXMERT)."
            )
        if columns == 10 and self._classes is None:
            raise CallError(
                f"images.detector_options.classes: {name} has numbers of classes; give their names, a list or a text "
                "file with one a line (bottom-up attention's objects_vocab.txt)."
            )
        if columns in (3, 6) and not predictions:
            raise CallError(
                f"images.detector_options.predictions: {name} tells no classes. Give the TSV file with id and JSON "
                "of the objects (VinVL's predictions.tsv)."
            )

    def read(self, ref: ImageRef) -> tuple[bytes, Found | Unreadable]:
        """The line's bytes, and what it says or why it cannot be used."""
        if ref.reason:
            return b"", Unreadable(ref.reason, ref.detail)
        try:
            line = _read_part(ref.source, ref.position, ref.size)
            prediction = b""
            if ref.other[0] >= 0:
                prediction = _read_part(predictions_of(ref.source, self.predictions), *ref.other)
        except OSError as error:
            return b"", Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
        try:
            found = self._parse(line, prediction)
            if len(found.detections.scores) and found.detections.features.shape[1] != self.feature_dim:
                raise BadRecord(
                    f"features of {found.detections.features.shape[1]} numbers, the first line's have "
                    f"{self.feature_dim}"
                )
        except BadRecord as error:
            return line + prediction, Unreadable("bad_record", str(error))
        return line + prediction, found

    def _parse(self, line: bytes, prediction: bytes) -> Found:
        try:
            fields = line.rstrip(b"\r\n").split(b"\t")
            if len(fields) == 10:
                return self._lxmert(fields)
            if len(fields) == 6:
                width, height, count = (int(float(field)) for field in fields[1:4])
                boxes = _floats(fields[4], count, "boxes", 4)
                objects = _objects(prediction)["objects"]
                return self._found(width, height, boxes, _floats(fields[5], count, "features"), objects)
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
        raise BadRecord(f"{len(fields)} columns, expected one of {', '.join(map(str, WIDTHS))}")

    def _lxmert(self, fields: list[bytes]) -> Found:
        height, width, count = int(fields[1]), int(fields[2]), int(fields[7])
        labels = _numbers(fields[3], np.int64, count, "objects_id")
        scores = _numbers(fields[4], np.float32, count, "objects_conf")
        names = self._classes or []
        if count and not 0 <= labels.min() <= labels.max() < len(names):
            raise BadRecord(f"objects_id up to {labels.max()}, there are {len(names)} classes")
        boxes, features = _floats(fields[8], count, "boxes", 4), _floats(fields[9], count, "features")
        return Found(width, height, Detections(boxes, scores, labels, features), tuple(names))

    def _vinvl(self, record: Mapping[str, Any], features: np.ndarray) -> Found:
        objects = record["objects"]
        boxes = np.array([one["rect"] for one in objects], np.float32).reshape(len(objects), 4)
        return self._found(int(record["image_w"]), int(record["image_h"]), boxes, features, objects)

    def _found(
        self, width: int, height: int, boxes: np.ndarray, features: np.ndarray, objects: Sequence[Mapping[str, Any]]
    ) -> Found:
        if not len(objects) == len(boxes) == len(features):
            raise BadRecord(f"{len(boxes)} boxes, {len(features)} features, {len(objects)} objects with classes")
        if width < 1 or height < 1:
            raise BadRecord(f"an image of {width}×{height}")
        classes = [self._name(one["class"]) for one in objects]
        names = tuple(dict.fromkeys(classes))
        places = {name: place for place, name in enumerate(names)}
        labels = np.array([places[name] for name in classes], np.int64)
        scores = np.array([one["conf"] for one in objects], np.float32)
        return Found(width, height, Detections(boxes, scores, labels, features), names)

    def _name(self, value: Any) -> str:
        if isinstance(value, int) and self._classes is not None and 0 <= value < len(self._classes):
            return self._classes[value]
        if not isinstance(value, str):
            raise BadRecord(f"a class {value!r}, expected a name")
        return value


def _read_part(name: str, start: int, size: int) -> bytes:
    with files.open_read(name) as file:
        file.seek(start)
        return file.read(size)


def _objects(prediction: bytes) -> Mapping[str, Any]:
    if not prediction:
        raise BadRecord("no prediction for it")
    record = json.loads(prediction.rstrip(b"\r\n").partition(b"\t")[2])
    if not isinstance(record, dict):
        raise BadRecord("its prediction is no object")
    return record


def _numbers(field: bytes, dtype: Any, count: int, what: str) -> np.ndarray:
    """The base64 field as `count` numbers."""
    try:
        data = base64.b64decode(field, validate=True)
    except binascii.Error as error:
        raise BadRecord(f"{what}: no base64: {error}") from None
    size = np.dtype(dtype).itemsize
    if len(data) != count * size:
        raise BadRecord(f"{what}: {len(data)} bytes for {count} boxes")
    return np.frombuffer(data, dtype).copy()


def _floats(field: bytes, count: int, what: str, width: int | None = None) -> np.ndarray:
    """The base64 field as (count, width) float32; the width is what there is where it is not given."""
    try:
        data = base64.b64decode(field, validate=True)
    except binascii.Error as error:
        raise BadRecord(f"{what}: no base64: {error}") from None
    if count < 0 or len(data) % 4 or (count and len(data) // 4 % count) or (not count and data):
        raise BadRecord(f"{what}: {len(data)} bytes for {count} boxes")
    values = np.frombuffer(data, "<f4").astype(np.float32)
    if not count:
        return np.zeros((0, width or 1), np.float32)
    if width is not None and len(values) != count * width:
        raise BadRecord(f"{what}: {len(values)} numbers for {count} boxes")
    return values.reshape(count, -1)
