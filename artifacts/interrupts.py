"""Ctrl-C and SIGTERM: one line, the exit codes that shells give, and time to save what was done.

Imports next to nothing, because it is the first thing that a command imports.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM)

_raised: list[int] = []
"""The signals for which KeyboardInterrupt was raised. Libraries may have turned it into another exception."""


class Interrupted(KeyboardInterrupt):
    """The work was stopped by a signal, in good order. The message says what was saved."""

    def __init__(self, message: str, number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.number = number


REPEATED = 1.0
"""Seconds in which a signal is the same as the one before: torchrun sends again what a terminal has sent to all."""


class Noted:
    """The first signal that came, 0 if none did."""

    number: int = 0


def exit_at_once() -> None:
    """From now on Ctrl-C ends the process at once, with a line: for the time before and after the work."""
    _handle(_exit)


def raise_interrupts() -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, and `was_interrupted` knows of it."""
    if signal.getsignal(signal.SIGINT) is _exit:
        _handle(_raise)


def was_interrupted() -> bool:
    """Whether Ctrl-C was pressed, whatever exception the work ended with."""
    return bool(_raised)


def report(error: BaseException, hint: str, *, quiet: bool = False) -> int:
    """Say in one line that the work was interrupted. Returns the exit code that shells give such a program.

    quiet: say nothing, because another process of the same work does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C does not disturb the line
    # If the interrupt went through an `eval`, Python would end by the signal; another `eval` clears its note of that.
    eval("None")
    saved, number = (f": {error}", error.number) if isinstance(error, Interrupted) else (".", signal.SIGINT)
    if not quiet:
        print(f"interrupted{saved} {hint}".rstrip(), file=sys.stderr, flush=True)
    return 128 + number


@contextmanager
def noted(repeated: float = REPEATED) -> Iterator[Noted]:
    """Note the first Ctrl-C or SIGTERM in the block, which looks for it between two steps of its work.

    The next one raises KeyboardInterrupt at once, unless it comes within `repeated` seconds. Does nothing outside the
    main thread, which alone gets signals.
    """
    found = Noted()
    came = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if not found.number:
            found.number, came = number, time.monotonic()
        elif time.monotonic() - came > repeated:
            _raise(number, frame)

    numbers = _NUMBERS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            if before[number] is not signal.SIG_IGN:
                signal.signal(number, note)
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def terminable(message: str) -> Iterator[None]:
    """SIGTERM in the block raises Interrupted with this message, so that what others do for this process can be ended.

    Does nothing outside the main thread, which alone gets signals.
    """

    def end(number: int, _: FrameType | None) -> None:
        _raised.append(number)
        raise Interrupted(message, number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def held() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait for the end of the block. In processes that it starts they wait for `leave_to_parent`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_to_parent(patience: float = 30.0) -> None:
    """For a process that works for another one, which gets the same signals: it ends this one when it is done.

    SIGTERM, which may come from the parent, still ends it, after `patience` seconds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def end_later(*_: object) -> None:
        timer = threading.Timer(patience, os._exit, [1])
        timer.daemon = True
        timer.start()

    signal.signal(signal.SIGTERM, end_later)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _NUMBERS)


def _handle(handler: "signal._HANDLER") -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as for commands in the background
        signal.signal(signal.SIGINT, handler)


def _exit(*_: object) -> None:
    os.write(2, b"interrupted.\n")
    os._exit(128 + signal.SIGINT)


def _raise(number: int, _: FrameType | None) -> None:
    _raised.append(number)
    raise KeyboardInterrupt
