"""Runs the checks of a call, and reports all problems at once."""

from vlmixer.artifacts.errors import CallError, UserError, explain
from vlmixer.artifacts.extras import extra_of, install_command
from vlmixer.pipeline.preflight.call import Call
from vlmixer.pipeline.preflight.checks import CHECKS, EVERY, Check


def check(call: Call) -> list[str]:
    """Run all checks of the call's stages. Returns what they found, a line each.

    Raises the error of the only problem. Of several, raises one error that lists them: a CallError if any is one.
    """
    found: list[str] = []
    problems: dict[str, UserError] = {}
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
                missing = CallError(
                    f"{stage}: needs packages that are not installed: {error.name}. Run `{install_command(extra)}`."
                )
                problems.setdefault(str(missing), missing)
            except (OSError, MemoryError, RuntimeError) as error:
                refused = explain(error)
                if refused is None:
                    raise
                problems.setdefault(str(refused), refused)
    if len(problems) == 1:
        raise next(iter(problems.values()))
    if problems:
        kind = CallError if any(isinstance(error, CallError) for error in problems.values()) else UserError
        listed = [line for message in problems for line in f"- {message}".splitlines()]
        raise kind(f"{len(problems)} problems, found before any work:", *listed)
    return [line for line in found if line]
