"""How long units took, recorded in OUT/logs. The records show slow units, and pipeline/planning computes with them."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass

from vlmixer.artifacts import files, json_files

PREFIX = "units-"
RUNNABLE = "/proc/thread-self/schedstat"


@dataclass(frozen=True)
class UnitTime:
    """The time of one unit. `load`: seconds of loading before it, in the first unit of a process; `seconds`: of the
    unit itself, both by `clock`. `cpu`: processor seconds of both."""

    stage: str
    unit: str
    load: float
    seconds: float
    cpu: float


def clock() -> float:
    """Seconds of this thread, without those in which it waited for a busy processor: what work takes with a processor
    of its own. Only differences mean something. They include waiting for disks and networks."""
    try:
        with open(RUNNABLE, "rb") as file:
            waited = int(file.read().split()[1])
    except (OSError, IndexError):  # no such file on other systems than Linux
        waited = 0
    return time.monotonic() - waited / 1e9


def record(out: str, done: UnitTime) -> None:
    """Append to OUT/logs/units-PROCESS.jsonl. Does nothing if OUT is a URL."""
    if not files.is_url(out):
        os.makedirs(files.join(out, "logs"), exist_ok=True)
        path = files.join(out, "logs", f"{PREFIX}{os.getpid()}.jsonl")
        with open(path, "a", encoding="utf-8", opener=files.not_through_links) as file:
            file.write(json.dumps(asdict(done)) + "\n")


def read_times(out: str) -> Iterator[UnitTime]:
    """All recorded times, in no particular order."""
    folder = files.join(out, "logs")
    for name in files.list_files(folder):
        if name.startswith(PREFIX):
            for line in files.read_bytes(files.join(folder, name)).splitlines():
                with suppress(ValueError):  # the last line may be cut short by a kill
                    yield json_files.parse(line, UnitTime)
