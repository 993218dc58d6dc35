"""Runs a command and measures it: wall-clock time, CPU time, and memory of all its processes."""

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

STAGES = stages.NAMES


@dataclass(frozen=True)
class Watched:
    """What a command took.

    Own memory (RssAnon) is without pages of mapped files, which the system takes back when it needs them, and without
    what processes share. Resident memory counts both, the latter once per process.
    """

    seconds: float
    cpu: float
    largest: int
    """Peak of one process's own memory, in bytes."""
    together: int
    """Peak of all processes' own memory, in bytes."""
    resident: int
    """Peak of all processes' resident memory, in bytes."""
    output: str


def watch(command: Sequence[str | Path], every: float = 0.5) -> Watched:
    """Run the command to its end, and look at its memory every `every` seconds.

    Raises CalledProcessError, with its output, if it fails.
    """
    used, began = _children(), time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    said: list[str] = []
    reader = threading.Thread(target=said.extend, args=(process.stdout,))
    reader.start()
    largest = together = resident = 0
    while process.poll() is None:
        held = memory_of(process.pid)
        own = [one.own for one in held]
        largest, together = max([largest, *own]), max(together, sum(own))
        resident = max(resident, sum(one.resident for one in held))
        time.sleep(every)
    reader.join()
    output = "".join(said)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, output)
    return Watched(time.monotonic() - began, _children() - used, largest, together, resident, output)


def vlmixer(*arguments: object) -> list[str]:
    """The command line of `vlmixer` from this checkout."""
    return [sys.executable, "-m", "vlmixer", *map(str, arguments)]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@dataclass(frozen=True)
class Held:
    """Memory of a process, in bytes."""

    own: int
    resident: int


def memory_of(root: int) -> list[Held]:
    """What a process and all its descendants hold."""
    found, waiting = [], [Path("/proc", str(root))]
    while waiting:
        process = waiting.pop()
        try:
            lines = (process / "status").read_text().splitlines()
            threads = [(thread / "children").read_text().split() for thread in (process / "task").iterdir()]
        except OSError:  # it ended meanwhile
            continue
        fields = dict(line.split(":", 1) for line in lines)
        found.append(Held(*(1024 * int(fields.get(key, "0 kB").split()[0]) for key in ("RssAnon", "VmRSS"))))
        waiting += [Path("/proc", child) for children in threads for child in children]
    return found
