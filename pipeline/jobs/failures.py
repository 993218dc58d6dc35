"""From an exception that stopped a pipeline to what the user is told. Engines pass on what a worker raised as text."""

import re

from grpc import FutureTimeoutError

from vlmixer.artifacts.errors import CallError, UserError, WriteError


def explained(error: Exception, runner: str | None) -> Exception:
    """What to raise in place of `error`. runner: the name after --runner, None for the local one.

    A UserError of ours is found again in the text of any engine. What else stops a local pipeline passes through; of
    another engine it becomes a UserError with the line that says most.
    """
    text = str(error)
    if isinstance(error, UserError):
        return type(error)(_WHERE.sub("", text))
    found = _OURS.search(text)
    if found:
        kinds = {kind.__name__: kind for kind in (CallError, UserError, WriteError)}
        return kinds.get(found["kind"], UserError)(_WHERE.sub("", found["message"]))
    if runner is None:
        return error
    if isinstance(error, FutureTimeoutError):
        return UserError(
            f"--runner={runner}: no job server answered in time. Start it, and give its address by --job_endpoint."
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    cause = next((line for line in reversed(lines) if line.startswith("Caused by: ")), "")
    said = lines[0] if cause else next((line for line in reversed(lines) if _SAID.match(line)), lines[0])
    because = f"; c{cause[1:300]}" if cause else ""
    return UserError(
        f"--runner={runner}: the job failed: {said[:300]}{because}. OUT/logs and the runner's own log have it all. "
        "What is done is kept: rerun the command to resume."
    )


_OURS = re.compile(r"\bartifacts\.errors\.(?P<kind>\w+): (?P<message>.+)")
_WHERE = re.compile(r" \[while running '.*")
_SAID = re.compile(r"[\w.$]*(Error|Exception)\b")
