"""What `tag` says about text that cannot be used: files that cannot be read, and inputs without a sentence."""

import logging
from collections.abc import Collection, Iterable
from itertools import islice

from vlmixer.artifacts import files
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Output
from vlmixer.artifacts.rejects import BAD, bad_count, meaning, read_rejects
from vlmixer.pipeline.units.stage import Stage

LOG = logging.getLogger("vlmixer")
SHOWN = 3
"""Bad inputs that a message names."""


def has_sentence(counts: Counts) -> bool:
    """Whether anything was read besides bad inputs and blank lines."""
    return counts.read > bad_count(counts.rejected.items()) + counts.rejected.get("empty_line", 0)


def check_unreadable(
    stage: Stage[TaggedDetails], lost: int, rejects: Iterable[Output], size: int, max_bad_fraction: float
) -> None:
    """Warn of files that cannot be read. Raises UserError if they are a larger share of the text's bytes than allowed.

    As single inputs among the sentences of all other files they would never count for much. lost: their bytes.
    rejects: the files with their names. size: bytes of the text.
    """
    if not lost:
        return
    names = why(stage, rejects, ("unreadable_file",))
    share = f"{lost / max(size, 1):.2%} of the text cannot be read"
    if lost > max_bad_fraction * size:
        raise UserError(
            f"text.inputs: {share}, by bytes, but max_bad_fraction allows only {max_bad_fraction:.0%}. Replace the "
            f"files or leave them out, or raise max_bad_fraction and rerun the command; finished work is kept.",
            *names,
        )
    LOG.warning("tag: %s, by bytes:", share)
    for name in names:
        LOG.warning("%s", name)


def why(stage: Stage[TaggedDetails], rejects: Iterable[Output], reasons: Collection[str] = tuple(BAD)) -> list[str]:
    """The first bad inputs of these reasons in files of rejects, each with what was found."""
    paths = (files.join(stage.rejects, output.name) for output in rejects)
    found = (reject for path in paths for reject in read_rejects(path) if reject.reason in reasons)
    return [f"{each.source}: {each.detail or meaning(each.reason)}" for each in islice(found, SHOWN)]
