"""Running a command and watching what it takes: time, processor time, and memory of the processes that it starts."""

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmixer.artifacts import stages

MIB = 2**20
CHECKOUT = Path(__file__).resolve().parents[1]

STAGES = stages.NAMES


@dataclass(frozen=True)
class Watched:
    """What a command took. Bytes are memory of a process's own (RssAnon): pages of mapped files, which the system takes
    back when it needs them, and what processes share are not in them. largest: most that one process held at a time;
    together: most that all held."""

    seconds: float
    cpu: float
    largest: int
    together: int
    output: str


def watch(command: Sequence[str | Path], every: float = 0.5) -> Watched:
    """Run the command and wait for it. Raises CalledProcessError, with what it said, if it fails."""
    used, began = _children(), time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said: list[str] = []
    reader = threading.Thread(target=said.extend, args=(process.stdout,))
    reader.start()
    largest = together = 0
    while process.poll() is None:
        held = own_memory(process.pid)
        largest, together = max([largest, *held]), max(together, sum(held))
        time.sleep(every)
    reader.join()
    output = "".join(said)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Watched(time.monotonic() - began, _children() - used, largest, together, output)


def vlmixer(*arguments: object) -> list[str]:
    """The command line of `vlmixer` from this checkout."""
    return [sys.executable, "-m", "vlmixer", *map(str, arguments)]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def own_memory(root: int) -> list[int]:
    """Bytes that a process and each of all that it started hold for themselves."""
    children: dict[int, list[int]] = {}
    held: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            lines = Path("/proc", name, "status").read_text().splitlines()
        except OSError:  # it ended meanwhile
            continue
        fields = dict(line.split(":", 1) for line in lines)
        children.setdefault(int(fields["PPid"]), []).append(int(name))
        held[int(name)] = 1024 * int(fields.get("RssAnon", "0 kB").split()[0])
    found, waiting = [], [root]
    while waiting:
        number = waiting.pop()
        waiting += children.get(number, [])
        found.append(held.get(number, 0))
    return found
