"""Turns an exception that stopped a pipeline into a message for the user. Engines pass on a worker's error as text."""

import re

from grpc import FutureTimeoutError

from vlmixer.artifacts.errors import CallError, UserError, WriteError


def explained(error: Exception, runner: str | None) -> BaseException:
    """What to raise in place of `error`. runner: the name after --runner, None for the local one.

    A UserError of ours is found in the text of any engine. Beam turns Ctrl-C in a unit's work into another exception,
    from which it becomes a KeyboardInterrupt again. Any other error of a local pipeline is returned as it is; that of
    another engine becomes a UserError with its most telling line.
    """
    text = str(error)
    if isinstance(error, UserError):
        return type(error)(*(_WHERE.sub("", line) for line in text.splitlines()))
    found = _OURS.search(text)
    if found:
        kinds = {kind.__name__: kind for kind in (CallError, UserError, WriteError)}
        return kinds.get(found["kind"], UserError)(_WHERE.sub("", found["message"]))
    if runner is None:
        return KeyboardInterrupt() if _INTERRUPTED.search(text) else error
    if isinstance(error, FutureTimeoutError):
        return UserError(
            f"--runner={runner}: no job server answered in time. Start it, and give its address by --job_endpoint."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    cause = next((line for line in reversed(lines) if line.startswith("Caused by: ")), "")
    said = lines[0] if cause else next((line for line in reversed(lines) if _SAID.match(line)), lines[0])
    because = f"; c{cause[1:300]}" if cause else ""
    return UserError(
        f"--runner={runner}: the job failed: {said[:300]}{because}. OUT/logs and the runner's log have the details. "
        "Finished work is kept: rerun the command to resume."
    )


_OURS = re.compile(r"\bartifacts\.errors\.(?P<kind>\w+): (?P<message>.+)")
_INTERRUPTED = re.compile(r"\bKeyboardInterrupt( \[while running '.*)?$", re.MULTILINE)
_WHERE = re.compile(r" \[while running '.*")
_SAID = re.compile(r"[\w.$]*(Error|Exception)\b")
