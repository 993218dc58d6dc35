"""Writing files, whole or not at all, and removing them."""

import errno
import io
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from vlmixer.artifacts.errors import WriteError
from vlmixer.artifacts.files.paths import is_url, join, parent, scheme
from vlmixer.artifacts.files.reading import list_files, sha256, size
from vlmixer.artifacts.files.stores import OBJECT_STORES, allowed, reaching

TEMPORARY = ".tmp-"
"""Mark of temporary names: it follows the final name, and a hexadecimal number follows it."""
WRITE_BUFFER = 1 << 18
UPLOADS_KEPT = 64
_uploaded: OrderedDict[str, tuple[int, str]] = OrderedDict()
"""Size and SHA-256 of the last files that this process put to URLs."""


@contextmanager
def publishing(path: str) -> Iterator[IO[bytes]]:
    """A file to write, which appears at `path` only when the block ends without an exception.

    Raises WriteError if it cannot be written: disk full, read-only, no folder, a pipe or a device.
    """
    if is_url(path):
        with tempfile.NamedTemporaryFile(prefix="vlmixer-") as whole:
            yield whole.file
            whole.flush()
            _put(whole.name, path)
        return
    _refuse_device(path)
    temporary = f"{path}{TEMPORARY}{uuid.uuid4().hex}"
    try:
        with io.BufferedWriter(_open_write(temporary, path), WRITE_BUFFER) as file:
            yield file
            file.flush()
            with writing(path):
                os.fsync(file.fileno())
        with writing(path):
            os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _put(local: str, url: str) -> None:
    with reaching(url) as (filesystem, inner), allowed(url, "write"):
        if scheme(url) in OBJECT_STORES:
            filesystem.put_file(local, inner)
        else:
            filesystem.makedirs(parent(inner), exist_ok=True)
            temporary = f"{inner}{TEMPORARY}{uuid.uuid4().hex}"
            filesystem.put_file(local, temporary)
            filesystem.mv(temporary, inner)
    _uploaded[url] = (os.path.getsize(local), sha256(local))
    while len(_uploaded) > UPLOADS_KEPT:
        _uploaded.popitem(last=False)


def fingerprint(path: str) -> tuple[int, str]:
    """(bytes, SHA-256) of a file. One that this process just put to a URL is not read back: the store checked it."""
    if path in _uploaded:
        return _uploaded.pop(path)
    return size(path), sha256(path)


@contextmanager
def writing(path: str) -> Iterator[None]:
    """Turns the system's error for a change to `path` in the block into a WriteError."""
    try:
        yield
    except OSError as error:
        raise WriteError.of(path, error) from error


class _LocalFile(io.FileIO):
    """A local file with a temporary name. An error in writing to it names the final file."""

    final = ""

    def write(self, data: Any) -> int:
        with writing(self.final):
            return super().write(data)


def _open_write(temporary: str, path: str) -> _LocalFile:
    with writing(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        file = _LocalFile(temporary, "wb")
    file.final = path
    return file


def refuse_link(path: str) -> None:
    """Raises WriteError if a link is in the place of a file or folder of ours: it would lead our bytes elsewhere."""
    if not is_url(path) and os.path.islink(path):
        raise WriteError(
            f"{path}: is a link, and nothing is written through links. Remove it, or give another --out; "
            "OUT itself may be a link."
        )


def _refuse_device(path: str) -> None:
    """Raises WriteError if a pipe or a device is there: a finished file would take its place, even /dev/null's."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # nothing is there, or it says more when it is opened
        mode = stat.S_IFREG
    of_the_system = os.path.abspath(path).startswith("/dev/") and not os.path.abspath(path).startswith("/dev/shm/")
    if of_the_system or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise WriteError(f"{path}: is a pipe or a device, expected a file. Remove it, or give another name.")


def not_through_links(path: str, flags: int) -> int:
    """An opener for `open`, for files that are written in place. Raises OSError for a link, a pipe or a device."""
    # Not blocking: a pipe that nobody reads would be waited for.
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def create(path: str, data: bytes) -> None:
    """Write a small new file. Raises FileExistsError if there is one; of several writers at once, one succeeds."""
    if is_url(path):
        with reaching(path) as (filesystem, inner), allowed(path, "write"):
            if scheme(path) not in OBJECT_STORES:
                filesystem.makedirs(parent(inner), exist_ok=True)
            filesystem.pipe_file(inner, data, mode="create")
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "xb") as file:
        file.write(data)


def publish_bytes(path: str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with publishing(path) as file:
        file.write(data)


def is_temporary(name: str) -> bool:
    """Whether the file or folder has a temporary name: it is still being written."""
    return re.search(rf"{re.escape(TEMPORARY)}[0-9a-f]+(/|$)", name) is not None


def sweep_temporaries(folder: str, *, deep: bool = True) -> None:
    """Remove what an interrupted run left under temporary names. deep: also in the folders below."""
    if not deep and (is_url(folder) or not os.path.isdir(folder)):  # an object is never partly written
        return
    for name in list_files(folder) if deep else os.listdir(folder):
        if is_temporary(name):
            remove(join(folder, name))


def link(source: str, target: str) -> None:
    """Give a local file a second name, unless this exists; where the file system cannot, copy it."""
    with writing(target):
        os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        os.link(source, target)
    except FileExistsError:
        return
    except OSError:
        with open(source, "rb") as file, publishing(target) as copy:
            shutil.copyfileobj(file, copy)


def remove(path: str) -> None:
    """Remove a file, or a folder with all its content. Nothing happens if there is none."""
    if is_url(path):
        with reaching(path) as (filesystem, inner), allowed(path, "remove files"):
            try:
                filesystem.rm(inner, recursive=True)
            except FileNotFoundError:
                return
        return
    with writing(path):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)
