"""What `text.inputs` names."""

from collections.abc import Sequence

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.readers.formats import is_side_file


def find_inputs(patterns: Sequence[str]) -> tuple[list[FileStat], list[str]]:
    """The files to read, and the names of those that are set aside.

    Files of folders and globs whose names say that they hold no sentences (README.md …) are set aside, unless there
    are no others. Raises CallError for patterns that match nothing.
    """
    if not patterns:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    found = files.expand(tuple(patterns), key="text.inputs")
    aside = [entry.name for entry in found if is_side_file(entry.name) and entry.name not in patterns]
    if len(aside) == len(found):
        return found, []
    names = set(aside)
    return [entry for entry in found if entry.name not in names], aside
