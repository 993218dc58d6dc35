"""Names of a detector's classes, as a config gives them."""

from collections.abc import Sequence

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError


def read_class_names(classes: Sequence[str] | str) -> list[str]:
    """The names: a list, or the lines of a text file. Raises CallError if the file cannot be read."""
    if not isinstance(classes, str):
        return list(classes)
    try:
        lines = files.read_bytes(classes).decode("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CallError(
            f"images.detector_options.classes: {classes}: {error}. Expected a text file with one name per line."
        ) from None
    return [line.strip() for line in lines if line.strip()]
