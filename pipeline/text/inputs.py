"""What `text.inputs` names: the files that are read, and what the user is told about them."""

import logging
from collections.abc import Sequence

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.readers.formats import can_split, is_side_file

LOG = logging.getLogger("vlmixer")
SHOWN = 3
"""Files that a line names."""


def find_inputs(patterns: Sequence[str], out: str = "") -> tuple[Sequence[FileStat], list[str]]:
    """The files to read, and the names of those that are set aside.

    Files of folders and globs whose names say that they hold no sentences (README.md …) are set aside, unless there
    are no others. Results in the output folder `out` are no inputs. Raises CallError for patterns that match nothing.
    """
    if not patterns:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    found = files.expand(tuple(patterns), key="text.inputs", out=out)
    aside = [entry.name for entry in found if is_side_file(entry.name) and entry.name not in patterns]
    if len(aside) == len(found):
        return found, []
    names = set(aside)
    return [entry for entry in found if entry.name not in names], aside


def log_set_aside(names: Sequence[str]) -> None:
    """Say which files are not read."""
    if names:
        LOG.info(
            "tag: %d files are set aside by their names; to read one, name it in text.inputs: %s",
            len(names),
            ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else ""),
        )


def files_that_cannot_be_split(inputs: Sequence[FileStat], large: int) -> str:
    """Which files of more than `large` bytes only one worker can read, in words; "" if there are none."""
    whole = [entry for entry in inputs if entry.size > large and not can_split(entry.name)]
    if not whole:
        return ""
    return (
        f"{len(whole)} files cannot be split (packed, .json or .tar; the largest has "
        f"{max(entry.size for entry in whole) / 1e9:.3g} GB): one worker reads each of them. All workers share the "
        f"tagging. {', '.join(entry.name for entry in whole[:SHOWN])}{', …' if len(whole) > SHOWN else ''}"
    )
