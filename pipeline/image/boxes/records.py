"""What is read of one box, and what cannot be right about it."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vlmixer.artifacts.rejects import CappedRejects
from vlmixer.artifacts.texts import encodable


@dataclass(frozen=True, slots=True)
class NamedPhoto:
    """A photo that a file names. width, height: pixels, 0 if the file does not say."""

    name: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class FileBoxes:
    """The usable boxes of one file; see Boxes for the arrays. read: number of boxes in the file."""

    photos: Sequence[NamedPhoto]
    names: Sequence[str]
    photo: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    relative: bool
    read: int


class BadBox(ValueError):
    """Why a box cannot be used. reason: of the reject."""

    def __init__(self, detail: str, reason: str = "bad_box") -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass
class BoxColumns:
    """Boxes as they are met: some 25 bytes each. photo, label: numbers that the reader gave out."""

    path: str
    log: CappedRejects
    read: int = 0
    photo: "array[int]" = field(default_factory=lambda: array("i"))
    label: "array[int]" = field(default_factory=lambda: array("i"))
    box: "array[float]" = field(default_factory=lambda: array("f"))
    score: "array[float]" = field(default_factory=lambda: array("f"))

    def add(self, photo: int, label: int, box: Sequence[float], score: float) -> None:
        """Add a box, (4,) xyxy."""
        self.photo.append(photo)
        self.label.append(label)
        self.box.extend(box)
        self.score.append(score)

    def reject(self, key: object, bad: BadBox) -> None:
        """Record a box that cannot be used."""
        self.log.add(self.path, key, bad.reason, str(bad))

    def take(
        self, photos: Sequence[NamedPhoto], names: Sequence[str], bad: np.ndarray | None = None, *, relative: bool
    ) -> FileBoxes:
        """The boxes but for those that are `bad`, (n,) bool, with their photos and classes."""
        photo, label = np.array(self.photo, np.int32), np.array(self.label, np.int32)
        boxes, scores = np.array(self.box, np.float32).reshape(-1, 4), np.array(self.score, np.float32)
        keep = slice(None) if bad is None else ~bad
        return FileBoxes(photos, names, photo[keep], label[keep], boxes[keep], scores[keep], relative, self.read)


def identity_of(value: Any) -> int | str | None:
    """An id, which some files write as a number and others as text; None for anything else."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 20 else encodable(value) or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if isinstance(value, int) or (math.isfinite(value) and value == value // 1) else None


def box_of(value: Any, name: str) -> tuple[float, float, float, float]:
    """x1, y1, x2, y2 of [x, y, width, height]. name: of the field. Raises BadBox."""
    if value is None:
        raise BadBox(f"no {name}")
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_number, value)):
        raise BadBox(f"{name} {str(value)[:100]}, expected four numbers: x, y, width, height")
    x, y, width, height = map(float, value)
    if width <= 0 or height <= 0:
        raise BadBox(f"{name} {str(value)[:100]}: its width or height is not above 0")
    return x, y, x + width, y + height


def score_of(value: Any, *, required: bool) -> float:
    """The score; 1 if there is none and none is required. Raises BadBox."""
    if value is None and not required:
        return 1.0
    if value is None:
        raise BadBox("no score")
    if not is_number(value) or not 0 <= value <= 1:
        raise BadBox(f"score {str(value)[:100]}, expected 0 to 1")
    return float(value)


def is_number(value: Any) -> bool:
    """Whether it is a number that float32 can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def single_of(value: Any) -> dict[str, Any]:
    """The record of a box around one thing. Raises BadBox for anything else."""
    if not isinstance(value, dict):
        raise BadBox("not an object")
    if value.get("iscrowd") in (1, True):
        raise BadBox("", "crowd")
    return value


def size_of(record: dict[str, Any]) -> tuple[int, int]:
    """Width and height in pixels; 0 and 0 if one is missing or cannot be right."""
    width, height = (record.get(name) for name in ("width", "height"))
    if not (is_number(width) and is_number(height)):
        return 0, 0
    size = int(width or 0), int(height or 0)
    return size if min(size) >= 1 and max(size) < 1 << 30 else (0, 0)


def shown(box: Sequence[float] | np.ndarray) -> str:
    """A box in messages."""
    return "(" + ", ".join(f"{float(number):g}" for number in box) + ")"
