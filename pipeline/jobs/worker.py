"""Local worker processes: Beam's own, without its messages, forked from a process that has imported what they need.

`python -m vlmixer.pipeline.jobs.worker warm SOCKET` is that process. It reads requests from the socket
(pipeline/jobs/worker_server.py sends them), and ends with the command that started it; so do the workers.
"""

import gc
import importlib
import json
import logging
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from vlmixer.artifacts.processes import end_when
from vlmixer.pipeline.jobs.worker_server import PARENT, WARM, WORKER

STAGES = "vlmixer.pipeline.jobs.chain"
MOST_DESCRIPTORS = 2
ANEW = "anew"


def serve(requests: socket.socket, begin: Callable[[], object]) -> None:
    """Start a worker for each request, until the socket is closed; then end those that are left.

    begin: the work of a worker process.
    """
    woken = _wake_when_a_child_ends()
    workers: dict[int, socket.socket] = {}
    """The connections of those that asked for the workers, by process id: one that is closed means to kill it."""
    killed: set[int] = set()
    while True:
        live = {channel: pid for pid, channel in workers.items() if pid not in killed}
        ready = select.select([requests, woken, *live], [], [])[0]
        for channel in ready:
            if channel in live:
                os.kill(live[channel], signal.SIGKILL)
                killed.add(live[channel])
        if woken in ready:
            woken.recv(4096)
            _tell_ends(workers, killed)
        if requests in ready:
            request, descriptors = _receive(requests)
            if request is None:
                break
            if packages := request.get("imports"):
                import_packages(packages)
            if "environment" in request:
                channel = socket.socket(fileno=descriptors[0])
                server, pid = os.getpid(), os.fork()
                if pid == 0:
                    for other in (requests, woken, channel, *workers.values()):
                        other.close()
                    _work(request, descriptors[1], server, begin)
                os.close(descriptors[1])
                workers[pid] = channel
                _say(channel, f"{pid}\n")
    for pid in workers.keys() - killed:
        os.kill(pid, signal.SIGKILL)


def import_packages(names: list[str]) -> None:
    """Import packages for the workers to come. One that cannot be imported is the worker's to complain about."""
    if all(name in sys.modules for name in names):
        return
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)
    # A collection in a worker would write to all pages that it shares with this process.
    gc.collect()
    gc.freeze()


def _wake_when_a_child_ends() -> socket.socket:
    """A socket that can be read once a child has ended."""
    woken, wake = socket.socketpair()
    for end in (woken, wake):
        end.setblocking(False)
    signal.set_wakeup_fd(wake.detach())
    signal.signal(signal.SIGCHLD, lambda *_: None)
    return woken


def _tell_ends(workers: dict[int, socket.socket], killed: set[int]) -> None:
    for pid in list(workers):
        done, status, used = os.wait4(pid, os.WNOHANG)
        if done:
            with workers.pop(pid) as channel:
                _say(channel, f"{os.waitstatus_to_exitcode(status)}\n{used.ru_utime + used.ru_stime}\n")
            killed.discard(pid)


def _say(channel: socket.socket, text: str) -> None:
    with suppress(OSError):  # nobody waits for it any more
        channel.sendall(text.encode())


def _receive(requests: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    """The next request and its file descriptors; None at the end."""
    length, descriptors, _, _ = socket.recv_fds(requests, 8, MOST_DESCRIPTORS)
    content = b""
    wanted = int.from_bytes(length, "big") if len(length) == 8 else 0
    while len(content) < wanted:
        more = requests.recv(wanted - len(content))
        if not more:
            break
        content += more
    return (json.loads(content) if wanted and len(content) == wanted else None), descriptors


def _work(request: dict[str, Any], output: int, server: int, begin: Callable[[], object]) -> NoReturn:
    """Be a worker, in a process that was just forked. output: where it prints. server: the id of the first process."""
    code = 1
    try:
        os.close(signal.set_wakeup_fd(-1))
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for standard in (1, 2):
            os.dup2(output, standard)
        os.close(output)
        end_when(lambda: os.getppid() != server)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (request["open_files"], hard))
        begin()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else bool(ended.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _import_beam() -> None:
    # Before Beam is imported, because it already logs then. Errors still come through.
    logging.disable(logging.WARNING)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main  # noqa: F401

    # It prints the traceback of every exception, which the command gets as well.
    sdk_worker.print = lambda *_, **__: None


def _begin_beam() -> None:
    """What Beam's worker process does. Its connections are in the environment."""
    _import_beam()
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main(sys.argv)


def _begin_anew() -> None:
    """Be a worker that shares nothing with the server."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", WORKER, ANEW, str(os.getppid())])


def main() -> None:
    """Serve, or be a worker that was started anew."""
    how, number = sys.argv[1], int(sys.argv[2])
    if how == ANEW:
        end_when(lambda: os.getppid() != number)
        _begin_beam()
        return
    parent = int(os.environ.pop(PARENT, os.getppid()))
    requests = socket.socket(fileno=number)
    if how == WARM:
        _import_beam()
        import_packages([STAGES])
    if os.getppid() == parent:
        serve(requests, _begin_beam if how == WARM else _begin_anew)
    os._exit(0)  # at once: the command waits for it


if __name__ == "__main__":
    main()
