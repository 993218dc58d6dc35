"""Where local worker processes come from: a server process that has imported Beam, and forks itself for each of them.

Importing Beam takes a process two seconds, spaCy or torch two more. The server does it once per command, while the
command itself gets ready; the workers of all jobs begin as copies of it. It is a process of its own because a fork
beside gRPC's threads aborts now and then. What it does is in pipeline/jobs/worker.py.
"""

import json
import logging
import os
import resource
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

WORKER = "vlmixer.pipeline.jobs.worker"
WARM, COLD = "warm", "cold"
"""Whether workers are copies of the server, or start anew: on a Mac, a fork of a process with such libraries aborts."""
PARENT = "VLMIXER_PARENT"
"""The environment variable with the process id of the command: it may be gone before the server can ask for it."""
LINES_KEPT = 20
# Kept in OUT/logs, and shown with --debug only (pipeline/commands/main.py).
LOG = logging.getLogger("apache_beam.worker_process")
SECONDS_TO_END = 5.0


def names_runner(beam_args: Sequence[str]) -> bool:
    """Whether the arguments name a runner of Beam, instead of local processes."""
    return any(argument.startswith("--runner") for argument in beam_args)


@contextmanager
def worker_server(workers: int, beam_args: Sequence[str] = ()) -> Iterator["WorkerServer | None"]:
    """The server for all jobs of a command; None with one worker, who is the command itself, or with another runner.

    Enter it before the command imports what is slow, so that both do it at the same time.
    """
    if workers == 1 or names_runner(beam_args):
        yield None
        return
    with WorkerServer() as server:
        yield server


class WorkerServer:
    """The server process, from `__init__` to `close`. It ends with this process, and its workers with it.

    module: what the process runs. warm: see WARM.
    """

    def __init__(self, module: str = WORKER, *, warm: bool = sys.platform != "darwin") -> None:
        self._requests, theirs = socket.socketpair()
        self._sending = threading.Lock()
        # -P keeps the working folder, whatever files the user has there, off the front of sys.path. A session of its
        # own: Ctrl-C is for the command, which then ends its workers.
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, WARM if warm else COLD, str(theirs.fileno())],
                env={**os.environ, PARENT: str(os.getpid())}, pass_fds=[theirs.fileno()], start_new_session=True,
                text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
        assert self._process.stdout is not None
        self.last_lines = LastLines(self._process.stdout, "server of workers")
        self.worked = 0.0
        """Processor seconds of the workers that have ended."""

    def __enter__(self) -> "WorkerServer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def own_seconds(self) -> float:
        """Processor seconds that the server itself has taken, most of them for imports; 0 where /proc is missing."""
        with suppress(OSError):
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def import_packages(self, names: Sequence[str]) -> None:
        """Let the server import these packages, for the workers that it starts from now on. Does not wait."""
        self._send({"imports": list(names)})

    def start(self, environment: Mapping[str, str]) -> "ServedWorker":
        """Start a worker with these environment variables. Does not wait for it: `pid` and `wait` say how it went."""
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        request = {
            "environment": dict(environment),
            "folder": os.getcwd(),
            "open_files": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        }
        try:
            self._send(request, [theirs.fileno(), write])
        finally:
            theirs.close()
            os.close(write)
        return ServedWorker(ours, open(read, errors="replace"))

    def wait(self) -> int:
        """Wait for the server's end. Returns its exit code, below 0 for a signal."""
        return self._process.wait()

    def close(self) -> None:
        """End the server, and workers that are still there."""
        self._requests.close()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:  # it is importing
            self._process.kill()
            self._process.wait()

    def _send(self, request: dict[str, Any], descriptors: Sequence[int] = ()) -> None:
        content = json.dumps(request).encode()
        # If the server has died, the worker's own connection says so.
        with self._sending, suppress(BrokenPipeError, ConnectionResetError):
            socket.send_fds(self._requests, [len(content).to_bytes(8, "big")], descriptors)
            self._requests.sendall(content)


@dataclass(frozen=True)
class ServedWorker:
    """A worker process that a server has started, or will."""

    _channel: socket.socket
    output: IO[str]
    """What it prints."""

    def wait(self) -> "Ended | None":
        """Wait for its end; None if the server is gone. May be called once."""
        with self._channel, self._channel.makefile("r") as said, suppress(ConnectionResetError):
            numbers = said.read().split()
            if len(numbers) == 3:
                return Ended(int(numbers[0]), int(numbers[1]), float(numbers[2]))
        return None

    def kill(self) -> None:
        """End it at once."""
        with suppress(OSError):
            self._channel.shutdown(socket.SHUT_WR)


@dataclass(frozen=True)
class Ended:
    """A worker that has ended: its process id, its exit code, below 0 for a signal, and its processor seconds."""

    pid: int
    code: int
    seconds: float


class LastLines:
    """Logs what a process prints, and keeps the last lines of it."""

    def __init__(self, output: IO[str], name: str) -> None:
        self._lines: deque[str] = deque(maxlen=LINES_KEPT)
        self._output, self._name = output, name
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def get(self) -> list[str]:
        """The last lines, once the process has ended."""
        self._reader.join(timeout=1)  # not forever: its children may hold the pipe open
        return list(self._lines)

    def _read(self) -> None:
        with self._output:
            for line in self._output:
                if line.strip():
                    self._lines.append(line.strip())
                    LOG.error("%s: %s", self._name, line.rstrip())
