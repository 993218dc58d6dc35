"""Names of a detector's classes, as a config gives them."""

import json
from collections.abc import Sequence
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError


def read_class_names(classes: Sequence[str] | str) -> list[str]:
    """The names: a list, the lines of a text file, or a label map in JSON. Raises CallError if the file cannot be read.

    A label map is a list of names, {name: number}, {number: name}, or an object with one of these as `label_to_idx` or
    `idx_to_label`. Numbers that it lacks get the name "".
    """
    if not isinstance(classes, str):
        return list(classes)
    if classes.lower().endswith(".json"):
        return _label_map(classes)
    try:
        lines = files.read_bytes(classes).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(
            f"images.detector_options.classes: {classes}: {error}. Expected a text file with one name per line."
        ) from None
    return [line.strip() for line in lines if line.strip()]


def _label_map(path: str) -> list[str]:
    try:
        found: Any = json.loads(files.read_bytes(path).decode("utf-8-sig"))
        if isinstance(found, dict):
            found = found.get("label_to_idx", found.get("idx_to_label", found))
        if isinstance(found, dict):
            pairs = [(int(key), name) if str(key).isdecimal() else (int(name), key) for key, name in found.items()]
            names = dict(pairs)
            found = [names.get(number, "") for number in range(max(names, default=-1) + 1)]
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise ValueError("names must be text")
    except (OSError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise CallError(
            f"images.detector_options.classes: {path}: {error}. Expected a JSON list of names, or a map of names and "
            "numbers, also as label_to_idx or idx_to_label."
        ) from None
    return found
