"""The progress of a run: log.jsonl, the trackers that are asked for, and a bar or plain lines on stderr."""

import itertools
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vlmixer.artifacts import files, json_files
from vlmixer.model.trackers import Tracker

LOG = "log.jsonl"
SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class _Logged:
    """What is needed of a line of log.jsonl."""

    step: int


def say(line: str) -> None:
    """Print a line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)


class Progress:
    """The log of a run from step `start` of `steps` on. Silent if `quiet`, as on all ranks but the first."""

    def __init__(
        self, run: str, steps: int, start: int, *, trackers: Sequence[Tracker] = (), quiet: bool = False
    ) -> None:
        """Removes the lines after step `start` from log.jsonl. trackers: take the same numbers, and are closed."""
        self._steps, self._start, self._quiet = steps, start, quiet
        self._run = run
        self._trackers = trackers
        self._log = None
        if not quiet:
            cut_log(run, start)
            log = files.join(run, LOG)
            files.refuse_link(log)
            self._log = open(log, "a", encoding="utf-8")  # noqa: SIM115
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=quiet or not sys.stderr.isatty())
        self._began = self._last_report = self._last_line = time.monotonic()
        self._samples = self._items = 0
        self._waited = 0.0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._log is not None:
            with suppress(OSError):  # a full disk was reported when the line was written
                self._log.close()
        for tracker in self._trackers:
            tracker.close()

    def count(self, samples: int, items: int, waited: float) -> None:
        """Record a step: its number of samples and items, and the seconds spent waiting for its data."""
        self._samples += samples
        self._items += items
        self._waited += waited
        self._bar.update()

    def report(self, done: int, epoch: int, values: Mapping[str, float]) -> None:
        """Log the `values` of step `done`, and the speed since the last report."""
        if self._log is None:
            return
        now = time.monotonic()
        elapsed = max(now - self._last_report, 1e-9)
        left = (now - self._began) / (done - self._start) * (self._steps - done)
        speed = {
            "samples_per_second": round(self._samples / elapsed, 1),
            "items_per_second": round(self._items / elapsed, 1),
            "share_waiting": round(self._waited / elapsed, 4),
            "seconds_left": round(left, 1),
        }
        line: dict[str, Any] = {"step": done, "epoch": epoch} | dict(values) | speed
        with files.writing(files.join(self._run, LOG)):
            self._log.write(json.dumps(line) + "\n")
            self._log.flush()
        for tracker in self._trackers:
            tracker.log(dict(values) | speed, done)
        shown = f"loss {values['loss']:.3f}, {speed['samples_per_second']:.0f} samples/s"
        self._bar.set_postfix_str(shown)
        if self._bar.disable and (now - self._last_line > SECONDS_BETWEEN_LINES or done == self._steps):
            say(f"train: step {done} of {self._steps}, {shown}, {left:.0f} s left")
            self._last_line = now
        self._last_report, self._samples, self._items, self._waited = now, 0, 0, 0.0


def cut_log(run: str, step: int) -> None:
    """Remove the lines after `step` from log.jsonl, because those steps will be repeated."""
    path = files.join(run, LOG)
    data = files.read_bytes(path) if os.path.exists(path) else b""
    logged = json_files.whole_lines(data, _Logged)
    kept = (line + b"\n" for line, values in itertools.takewhile(lambda entry: entry[1].step <= step, logged))
    files.publish_bytes(path, b"".join(kept))
