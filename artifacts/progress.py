"""Progress of work that takes a minute: a bar on a terminal, else a line now and then."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def shown(items: Iterable[Item], total: int, what: str, units: str) -> Iterator[Item]:
    """The items, with progress on stderr: WHAT: 120 of 5,000 UNITS. Work of a few seconds is done silently."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        yield from tqdm(items, total=total, desc=what, unit=f" {units}", delay=2)
        return
    began = last = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES:
            last = now
            left = f", {(now - began) / done * (total - done):.0f} s left" if done else ""
            print(f"{what}: {done:,} of {total:,} {units}{left}", file=sys.stderr, flush=True)
        yield item
