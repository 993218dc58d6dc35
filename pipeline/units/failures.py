"""What stopped a unit, kept in the work folder for the launcher to find, whatever the engine.

As an exception it would be retried in vain, and would reach the user as pages of a runner's own words.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import CallError, UserError, WriteError
from vlmixer.pipeline.units.stage import AnyStage

_ERROR = ".error"


@dataclass
class Attempt:
    """Whether the block of `keeping_error` ran to its end."""

    done: bool = False


@contextmanager
def keeping_error(stage: AnyStage, unit: str) -> Iterator[Attempt]:
    """Keep the UserError that the block raises, for `raise_error`; what it yields says whether there was none.

    Raises WriteError where the stage is not under way, or where the block raises one: no other unit will do better.
    """
    check_under_way(stage)
    attempt = Attempt()
    try:
        yield attempt
        attempt.done = True
    except WriteError:
        raise
    except UserError as error:
        publish_error(stage, unit, error)


def check_under_way(stage: AnyStage) -> None:
    """Raises WriteError where a worker does not see that the stage is under way."""
    if not files.exists(stage.plan):
        raise WriteError(
            f"{stage.plan}: not there for the worker on {socket.gethostname()}. Either another run has taken the place "
            "of this one, or the workers do not see the output folder: give an --out that is one place for all of "
            "them, a shared file system or a URL."
        )


def publish_error(stage: AnyStage, unit: str, error: UserError) -> None:
    """Keep what stopped a unit, for the launcher to find whatever the engine."""
    content = {"call": isinstance(error, CallError), "message": str(error)}
    files.publish_bytes(files.join(stage.work, f"{unit}{_ERROR}"), manifest.canonical(content))


def forget_errors(stage: AnyStage) -> None:
    """Remove errors of an earlier run."""
    for name in _errors(stage):
        files.remove(files.join(stage.work, name))


def any_failed(stage: AnyStage) -> bool:
    """Whether a unit met an error in this run."""
    return bool(_errors(stage))


def raise_error(stage: AnyStage) -> None:
    """Raise the first unit's error, if any unit met one."""
    for name in _errors(stage):
        content = json.loads(files.read_bytes(files.join(stage.work, name)))
        raise (CallError if content["call"] else UserError)(content["message"])


def _errors(stage: AnyStage) -> list[str]:
    return [name for name in files.list_files(stage.work) if name.endswith(_ERROR)]
