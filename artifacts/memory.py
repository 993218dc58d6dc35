"""Gives freed memory back to the system. Arrow and the C library keep it, in pieces that are too small for what comes
later."""

import ctypes
import sys
from collections.abc import Callable
from functools import cache


def give_back() -> None:
    """Call it after work over all files or units of a stage. It takes milliseconds."""
    if (arrow := sys.modules.get("pyarrow")) is not None:  # training does without it
        arrow.default_memory_pool().release_unused()
    _trim()(0)


@cache
def _trim() -> Callable[[int], object]:
    """`malloc_trim` of the GNU C library; other C libraries have none."""
    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return lambda _: None
    return found
