"""Runs the checks of a call, and reports all problems at once."""

from dataclasses import replace

from vlmixer.artifacts.errors import CallError, UserError, explain
from vlmixer.artifacts.extras import extra_of, install_command
from vlmixer.pipeline.preflight.call import TRAIN, Call
from vlmixer.pipeline.preflight.checks import CHECKS, EVERY, Check


def check(call: Call) -> list[str]:
    """Run all checks of the call's stages. Returns what they found, a line each.

    Raises the error of the only problem. Of several, raises one error that lists them: a CallError if any is one.
    Missing packages come first: other checks need them, too.
    """
    call = replace(call)  # What the checks find of many inputs takes much memory. It goes with this copy.
    found: list[str] = []
    problems: dict[str, UserError] = {}
    missing: dict[tuple[str, str], list[str]] = {}  # packages by stage and extra
    done: set[Check] = set()
    for stage, checks in [("vlmixer", EVERY), *((stage, CHECKS[stage]) for stage in call.stages)]:
        for one in checks:
            if one in done:
                continue
            done.add(one)
            try:
                found.append(one(call))
            except UserError as error:
                problems.setdefault(str(error), error)
            except ModuleNotFoundError as error:
                extra = extra_of(error.name or "")
                if extra is None:
                    raise
                missing.setdefault((stage, TRAIN if stage == TRAIN else extra), []).append(str(error.name))
            except (OSError, MemoryError, RuntimeError) as error:
                refused = explain(error)
                if refused is None:
                    raise
                problems.setdefault(str(refused), refused)
    if missing:
        problems = {
            message: CallError(message)
            for (stage, extra), names in missing.items()
            for message in [
                f"`vlmixer {stage}` needs packages that are not installed: {', '.join(dict.fromkeys(names))}. "
                f"Run `{install_command(extra)}`."
            ]
        }
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        kind = CallError if any(isinstance(error, CallError) for error in problems.values()) else UserError
        listed = [line for message in problems for line in f"- {message}".splitlines()]
        raise kind(f"{len(problems)} problems, found before any work:", *listed)
    return [line for line in found if line]
