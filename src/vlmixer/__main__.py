"""`vlmixer`, and `python -m vlmixer`: the command. Ctrl-C is handled from the first moment to the last."""

# Built in. `signal` imports more, and Ctrl-C in these milliseconds would be a traceback.
import _signal  # type: ignore[import-not-found]
import atexit
import os
import sys

_codes: list[int] = []
"""The exit code, once it is known."""


def _exit_at_once(*_: object) -> None:
    os.write(2, b"interrupted.\n")
    os._exit(130)


# Child processes that import this file have handlers of their own.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler and "multiprocessing" not in sys.modules:
    _signal.signal(_signal.SIGINT, _exit_at_once)


def main() -> int:
    """Run the command with the arguments of the process. Returns its exit code, with which the process then ends."""
    atexit.register(_end)  # before all others, so that it is called last
    from vlmixer.artifacts import interrupts

    interrupts.exit_at_once()
    from vlmixer.pipeline.commands.main import main as command

    code = command()
    interrupts.exit_at_once()
    _codes.append(code)
    return code


def _end() -> None:
    """End without taking Beam, torch and all they hold apart, which takes a second."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # closed, or full: Python knows what to say and to return
        return
    if _codes:
        os._exit(_codes[-1])


if __name__ == "__main__":
    sys.exit(main())
