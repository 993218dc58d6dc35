"""How long units took, in OUT/logs: for finding slow ones, and for plans to be measured by."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from vlmixer.artifacts import files

PREFIX = "units-"
RUNNABLE = "/proc/thread-self/schedstat"


@dataclass(frozen=True)
class UnitTime:
    """A unit that was done. Seconds of `clock`; `load`: what was loaded before it, in the first unit of a process;
    `cpu`: seconds of a processor, with loading."""

    stage: str
    unit: str
    load: float
    seconds: float
    cpu: float


def clock() -> float:
    """Seconds of this thread, less those in which it waited for a processor that others had: what a piece of work
    takes on a machine with a processor for it. Differences count; waiting for disks and networks is in them."""
    try:
        with open(RUNNABLE, "rb") as file:
            waited = int(file.read().split()[1])
    except (OSError, IndexError):  # no such file on other systems than Linux
        waited = 0
    return time.monotonic() - waited / 1e9


def record(out: str, done: UnitTime) -> None:
    """Append to OUT/logs/units-PROCESS.jsonl; nothing where OUT is a URL."""
    if not files.is_url(out):
        os.makedirs(files.join(out, "logs"), exist_ok=True)
        with open(files.join(out, "logs", f"{PREFIX}{os.getpid()}.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(done)) + "\n")


def read_times(out: str) -> Iterator[UnitTime]:
    """All that was recorded, in no order."""
    folder = files.join(out, "logs")
    for name in files.list_files(folder):
        if name.startswith(PREFIX):
            for line in files.read_bytes(files.join(folder, name)).splitlines():
                if line.endswith(b"}"):  # a kill may have cut the last one short
                    yield UnitTime(**json.loads(line))
