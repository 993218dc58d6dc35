"""The progress messages of a long run. They come from the results of units on disk, so they hold for any engine and
after a restart."""

import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from tqdm import tqdm

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Counts
from vlmixer.pipeline.units.results import read_counts
from vlmixer.pipeline.units.stage import AnyStage

LOG = logging.getLogger("vlmixer")
SECONDS_PER_LINE = 20.0
SECONDS_PER_LOOK, SECONDS_PER_REMOTE_LOOK = 0.5, 5.0
"""Between two looks at what is done, in a local folder and behind a URL …"""
LOOK_SHARE = 20
"""… or this many times as long as a look takes."""


@contextmanager
def progress(
    stage: AnyStage,
    label: str,
    units: Sequence[str],
    kind: str,
    *,
    seconds_per_line: float = SECONDS_PER_LINE,
    seconds_per_look: float | None = None,
) -> Iterator[None]:
    """Report while the block runs: a bar where stderr is a terminal, a line now and then where it is not.

    kind: of the items that units count, such as "images". seconds_per_look: None for SECONDS_PER_LOOK, or
    SECONDS_PER_REMOTE_LOOK behind a URL.
    """
    if seconds_per_look is None:
        seconds_per_look = SECONDS_PER_REMOTE_LOOK if files.is_url(stage.work) else SECONDS_PER_LOOK
    reporter = _Reporter(stage, label, frozenset(units), ProgressCount(kind, len(units)))
    # Here and not in the thread: what the block does first would count as done before.
    reporter.count_finished()
    stop = threading.Event()
    thread = threading.Thread(target=reporter.report, args=(stop, seconds_per_line, seconds_per_look), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@dataclass
class ProgressCount:
    """What the finished units add up to. `fresh`: done by this command, not by an earlier one."""

    kind: str
    units: int
    done: int = 0
    items: int = 0
    fresh_done: int = 0
    fresh_items: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, counts: Iterable[Counts], *, fresh: bool) -> None:
        """Count a unit."""
        read = 0
        for entry in counts:
            read += entry.read
            self.rejected.update(entry.rejected)
        self.done += 1
        self.items += read
        self.fresh_done += fresh
        self.fresh_items += read * fresh

    def describe(self, seconds: float) -> str:
        """Items, items per second, those not used by reason, and the time left; `seconds`: since the start."""
        parts = [f"{self.items:,} {self.kind}"]
        if self.fresh_items and seconds > 0:
            rate = self.fresh_items / seconds
            parts.append(f"{rate:,.0f} {self.kind}/s" if rate >= 100 else f"{rate:.3g} {self.kind}/s")
        if self.rejected:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in self.rejected.most_common())
            parts.append(f"{self.rejected.total():,} not used ({reasons})")
        if self.fresh_done and self.done < self.units:
            parts.append(f"about {_duration(seconds / self.fresh_done * (self.units - self.done))} left")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    """Seconds in at most two units."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class _Reporter:
    stage: AnyStage
    label: str
    units: frozenset[str]
    count: ProgressCount
    seen: set[str] = field(default_factory=set)

    def count_finished(self) -> None:
        """Count the units that an earlier command did."""
        self._look(fresh=False)
        if self.seen and len(self.seen) < len(self.units):
            LOG.info("%s: %d of %d units were done before", self.label, len(self.seen), len(self.units))

    def report(self, stop: threading.Event, seconds_per_line: float, seconds_per_look: float) -> None:
        """Until `stop` is set, and once more then."""
        total = len(self.units)
        began, said, took = time.monotonic(), 0.0, 0.0
        bar = tqdm(
            total=total, desc=self.label, unit="unit", disable=not sys.stderr.isatty(), initial=len(self.seen),
            bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} units{postfix}",
        )  # fmt: skip
        with bar:
            while True:
                # Listing a large folder of an object store is slow, and each listing is billed.
                last = stop.wait(max(seconds_per_look, LOOK_SHARE * took))
                took = -time.monotonic()
                self._look(fresh=True)
                took += time.monotonic()
                elapsed = time.monotonic() - began
                bar.update(len(self.seen) - bar.n)
                bar.set_postfix_str(self.count.describe(elapsed))
                if bar.disable and (last or elapsed - said >= seconds_per_line):
                    said = elapsed
                    done = self.count.describe(elapsed)
                    LOG.info("%s: %d of %d units, %s", self.label, len(self.seen), total, done)
                if last:
                    return

    def _look(self, *, fresh: bool) -> None:
        names = {name.removesuffix(".json") for name in files.list_files(self.stage.work) if name.endswith(".json")}
        new = sorted((names & self.units) - self.seen)
        self.seen.update(new)
        for counts in read_counts(self.stage, new):
            self.count.add(counts.values(), fresh=fresh)
