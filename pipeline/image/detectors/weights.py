"""Class names in files of weights."""

import json
import os

BYTES_PER_CLASS = 1024
"""At least, of a detector's weights: a row of numbers. A file of a few megabytes could name a million classes."""


def class_names_in(path: str) -> list[str] | None:
    """The class names in the metadata of a .safetensors file (`classes`, a JSON list), None if it has none, or more
    than it has weights for."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get("classes", "null"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None  # Reading the weights says what is wrong with the file.
    if not isinstance(names, list) or os.path.getsize(path) < BYTES_PER_CLASS * len(names):
        return None
    return names if all(isinstance(name, str) for name in names) else None
