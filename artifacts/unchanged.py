"""Whether an input file is still the one that was planned."""

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError


def check_unchanged(name: str, stamp: str) -> None:
    """Compare a local file with the stamp that it had (`files.stamp`). Does nothing if the stamp is not known, and for
    URLs, whose stores are asked when the stage is planned and when it ends.

    Raises UserError if the file was changed, replaced or removed.
    """
    if stamp and not files.is_url(name) and files.stamp(name) != stamp:
        raise UserError(changed_while_running([name]))


def changed_while_running(names: list[str]) -> str:
    """The message about input files that changed while a stage was running."""
    return (
        f"{listed(names)}: changed while the stage was running, so the results would be a mixture. Leave the inputs "
        "alone, and rerun the command with --overwrite."
    )


def listed(names: list[str], most: int = 3) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
