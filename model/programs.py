"""How the programs `python -m vlmixer.model.…` end: an exit code, and one line on stderr."""

import os
import sys
from collections.abc import Callable

from vlmixer.artifacts import interrupts

# Everything else is imported later: only then is Ctrl-C handled from the first moment.


def exit_code(work: Callable[[], object], debug: bool) -> int:
    """Do the work of a training. Returns 0 if it is done, 1 if it failed, 2 if the call was wrong, 130 after Ctrl-C.

    debug: show tracebacks.
    """
    try:
        interrupts.raise_interrupts()
        return _done(work, debug)
    except BaseException as error:
        # Ctrl-C while a library is imported may arrive as an error of the import.
        if not isinstance(error, KeyboardInterrupt) and (debug or not interrupts.was_interrupted()):
            raise
        return interrupts.report(error, "Continue with --resume.", quiet=_is_further_rank())


def _done(work: Callable[[], object], debug: bool) -> int:
    import traceback

    from vlmixer.artifacts.colours import ERROR, coloured
    from vlmixer.artifacts.errors import CallError, UserError, explain

    try:
        work()
    except (UserError, OSError, MemoryError, RuntimeError) as error:
        from vlmixer.model.progress import say

        shown = error if isinstance(error, UserError) else explain(error)
        if shown is None:
            raise
        if debug:
            traceback.print_exc()
        say(f"{coloured('error:', ERROR, sys.stderr)} {shown}")
        return 2 if isinstance(shown, CallError) else 1
    return 0


def _is_further_rank() -> bool:
    """Whether torchrun's first process says what is to be said; ranks.from_environment knows it exactly."""
    world, rank = (os.environ.get(name, "").strip() for name in ("WORLD_SIZE", "RANK"))
    return world not in ("", "1") and rank != "0"
