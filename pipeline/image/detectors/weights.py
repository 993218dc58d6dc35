"""Class names in files of weights."""

import json


def class_names_in(path: str) -> list[str] | None:
    """The class names in the metadata of a .safetensors file (`classes`, a JSON list), None if it has none."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = json.loads((file.metadata() or {}).get("classes", "null"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None  # Reading the weights says what is wrong with the file.
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None
