"""One run at a time: a run holds the lock of its folder, and a second run is refused. Runs that share the work of one
stage hold it together.

Local folders, also on network file systems, are locked by the system (flock), so a killed run leaves nothing to remove.
Object stores have no locks; there the lock is an object that only one run can create.
"""

import errno
import json
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vlmixer.artifacts import files, json_files
from vlmixer.artifacts.errors import UserError, WriteError

LOG = logging.getLogger("vlmixer")
NAME, TURN = "lock", "turn"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks."""


@contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the lock of `folder`, the file `lock` in it, while the block runs.

    Raises UserError if another process holds it, WriteError if the folder cannot be written.
    """
    path = files.join(folder, NAME)
    with _object(path) if files.is_url(path) else _flock(path):
        yield


@contextmanager
def held_together(folder: str) -> Iterator[None]:
    """Hold the lock of a local `folder` while the block runs, with others that hold it in this way.

    Raises UserError if a process holds it alone, or if the file system has no locks; WriteError if the folder cannot be
    written.
    """
    with _flock(files.join(folder, NAME), together=True):
        yield


@contextmanager
def in_turn(folder: str) -> Iterator[None]:
    """Let the block run in one process at a time; wait for one that is there. Raises as `held_together`."""
    with _flock(files.join(folder, TURN), wait=True):
        yield


@contextmanager
def _flock(path: str, *, together: bool = False, wait: bool = False) -> Iterator[None]:
    import fcntl

    how = fcntl.LOCK_SH if together else fcntl.LOCK_EX
    with ExitStack() as opened:
        try:
            files.refuse_link(os.path.dirname(path))
            files.refuse_link(path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            while True:
                descriptor = files.not_through_links(path, os.O_RDWR | os.O_CREAT)
                opened.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, how | fcntl.LOCK_NB)
                except BlockingIOError:
                    if not wait:
                        raise _refused(path, os.read(descriptor, 4096), "") from None
                    LOG.info("%s: waiting for the process that prepares the work", path)
                    fcntl.flock(descriptor, how)
                except OSError as error:
                    if error.errno not in _NO_LOCKS:
                        raise
                    if together or wait:
                        raise UserError(
                            f"{path}: this file system has no locks, which processes that share work need. Run the "
                            "stage in one process, or give an --out on a file system with flock."
                        ) from None
                    LOG.warning("%s: no locks on this file system; make sure that only one run uses the folder.", path)
                # A run that has just ended may have removed this very file, and a third run may hold a new one.
                if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    break
                opened.close()
            os.truncate(descriptor, 0)
            os.write(descriptor, _holder())
        except OSError as error:
            raise WriteError.of(path, error) from error
        if not together:  # others may hold it; the next process that holds it alone removes it
            opened.callback(Path(path).unlink, missing_ok=True)
        yield


@contextmanager
def _object(path: str) -> Iterator[None]:
    try:
        files.create(path, _holder())
    except FileExistsError:
        held = files.read_bytes(path)
        if not _is_gone(held):
            raise _refused(path, held, f" If it was killed on another machine, remove {path}.") from None
        files.remove(path)
        files.create(path, _holder())
    try:
        yield
    finally:
        files.remove(path)


def _holder() -> bytes:
    """The content of the lock: who holds it."""
    content = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.argv[:3]),
        "started": _started(os.getpid()),
    }
    return json.dumps(content).encode() + b"\n"


def _started(pid: int) -> str:
    """When a process of this machine started, in clock ticks of the system; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_gone(held: bytes) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    try:
        holder = json_files.parse(held)
        return bool(
            holder["host"] == socket.gethostname()
            and holder["started"]
            and holder["started"] != _started(int(holder["pid"]))
        )
    except (ValueError, KeyError, TypeError):
        return False


def _refused(path: str, held: bytes, how: str) -> UserError:
    try:
        holder = json_files.parse(held)
        who = f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        who = "the lock does not say which"
    return UserError(
        f"{path}: another run is using this folder ({who}). Wait until it has ended, or give another --out.{how}"
    )
