"""Errors of units, kept in the work folder, where the launcher finds them with any engine.

As exceptions they would be retried in vain, and would reach the user as pages of a runner's own output.
"""

import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from vlmixer.artifacts import files, json_files, manifest
from vlmixer.artifacts.errors import CallError, UserError, WriteError, explain
from vlmixer.pipeline.units.stage import AnyStage

_ERROR = ".error"


@dataclass(frozen=True)
class _Kept:
    """The error of a unit. call: whether it is a CallError."""

    call: bool
    message: str


@dataclass
class Attempt:
    """Whether the block of `keeping_error` ended without an error."""

    done: bool = False


@contextmanager
def keeping_error(stage: AnyStage, unit: str) -> Iterator[Attempt]:
    """Keep a UserError or MemoryError that the block raises, for `raise_error`. Yields an Attempt, which says whether
    the block ended well.

    Raises WriteError if the stage is not under way, or if the block raises one: other units would fail, too.
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
    except MemoryError as error:
        publish_error(stage, unit, explain(error) or UserError(str(error)))


def check_under_way(stage: AnyStage) -> None:
    """Raises WriteError if this worker does not see that the stage is under way."""
    if not files.exists(stage.plan):
        raise WriteError(
            f"{stage.plan}: missing for the worker on {socket.gethostname()}. Either another run has replaced this "
            "one, or the workers do not see the output folder. Give an --out that all workers share: a shared file "
            "system or a URL."
        )


def publish_error(stage: AnyStage, unit: str, error: UserError) -> None:
    """Keep the error of a unit."""
    kept = _Kept(isinstance(error, CallError), str(error).encode(errors="replace").decode())
    files.publish_bytes(files.join(stage.work, f"{unit}{_ERROR}"), manifest.canonical(asdict(kept)))


def forget_errors(stage: AnyStage, among: Collection[str] | None = None) -> None:
    """Remove the errors of an earlier run. among: units; None for all."""
    for name in _errors(stage, among):
        files.remove(files.join(stage.work, name))


def any_failed(stage: AnyStage) -> bool:
    """Whether a unit of this run failed."""
    return bool(_errors(stage))


def raise_error(stage: AnyStage, among: Collection[str] | None = None) -> None:
    """Raise the error of the first unit that failed, if any did. among: units; None for all."""
    for name in _errors(stage, among):
        kept = json_files.read(files.join(stage.work, name), _Kept, advice="Run the command again.")
        raise (CallError if kept.call else UserError)(kept.message)


def _errors(stage: AnyStage, among: Collection[str] | None = None) -> list[str]:
    kept = [name for name in files.list_files(stage.work) if name.endswith(_ERROR)]
    return kept if among is None else [name for name in kept if name.removesuffix(_ERROR) in among]
