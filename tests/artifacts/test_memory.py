"""Freed memory goes back to the system."""

from pathlib import Path

from vlmixer.artifacts import memory


def own() -> int:
    """Memory of this process without pages of mapped files, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


def test_what_was_freed_below_something_that_is_held():
    blocks = [b"%d" % number * 30_000 for number in range(100, 400)]  # too small for pages of their own
    held = blocks[-1]
    before = own()
    del blocks
    memory.give_back()
    assert before - own() > 20_000_000
    assert held
