"""Reading files, and asking what is there."""

import errno
import hashlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO

from vlmixer.artifacts.files.paths import is_url, join, parent, scheme
from vlmixer.artifacts.files.stores import OBJECT_STORES, allowed, reaching

PARALLEL_READS = 32
"""Number of files behind URLs that are read in parallel."""
BLOCK_BYTES = 16 << 20
READAHEAD_BYTES = 4 << 20
LARGE_BYTES = 1 << 36
"""A local file that is larger, and of which next to nothing is on the disk, is not read: nobody wrote that much."""


def open_read(path: str) -> IO[bytes]:
    """Open `path` for reading bytes. Raises FileNotFoundError, or another OSError."""
    if not is_url(path):
        return _open_local(path)
    with reaching(path) as (filesystem, inner):
        # Drivers read ahead by a block; that of s3fs has 50 MB.
        blocks = {"block_size": READAHEAD_BYTES} if scheme(path) in OBJECT_STORES else {}
        handle: IO[bytes] = filesystem.open(inner, "rb", **blocks)
        return handle


def _open_local(path: str) -> io.BufferedReader:
    """A regular file: from a pipe or a device bytes may come for ever, or never."""
    try:
        status = os.stat(path)
    except ValueError as error:  # a NUL byte in the name
        raise OSError(errno.EINVAL, str(error), path) from None
    mode = status.st_mode
    if status.st_size > LARGE_BYTES and status.st_blocks * 512 < status.st_size // 1000:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes, nearly all of them a hole", path)
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder is refused by `open`
        raise OSError(errno.EINVAL, "a pipe or a device, expected a regular file", path)
    return open(path, "rb")


def read_bytes(path: str, block_bytes: int = BLOCK_BYTES) -> bytes:
    """All bytes of `path`; from a store in one request, unless there are more than `block_bytes`."""
    return b"".join(read_blocks(path, block_bytes))


def may_follow(path: str) -> bool:
    """Whether an input is read because a result names it: a local file, or one in an object store.

    Whoever made the result chose the name, and could have this machine call any server.
    """
    return not is_url(path) or scheme(path) in OBJECT_STORES


def read_start(path: str, most: int) -> bytes:
    """The first `most` bytes of a file, or all; from a store in one request, without asking for the size first."""
    if scheme(path) not in OBJECT_STORES:
        with open_read(path) as file:
            return file.read(most)
    with reaching(path) as (filesystem, inner):
        try:
            data: bytes = filesystem.cat_file(inner, start=0, end=most)
        except OSError as error:
            if error.errno != errno.EINVAL:  # what stores say for any range of an empty object
                raise
            data = b""
        return data


def read_blocks(path: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes of a file, in blocks of at most `block_bytes`."""
    block = read_start(path, block_bytes)
    yield block
    if len(block) == block_bytes:
        with open_read(path) as file:
            file.seek(block_bytes)
            while block := file.read(block_bytes):
                yield block


def read_all(paths: Sequence[str]) -> list[bytes]:
    """All bytes of each of these files; those behind URLs are read in parallel."""
    if not any(is_url(path) for path in paths):
        return [read_bytes(path) for path in paths]
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return list(pool.map(read_bytes, paths))


@contextmanager
def fetched(url: str) -> Iterator[str]:
    """The path of a local copy of the file behind a URL, with the same ending; removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="vlmixer-") as folder:
        path = os.path.join(folder, url.rpartition("/")[2])
        with reaching(url) as (filesystem, inner):
            filesystem.get_file(inner, path)
        yield path


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Parts of a file, each (first byte, end); shorter if the file ends before. Those of a URL are read in parallel."""
    if not is_url(path):
        with _open_local(path) as file:
            parts = []
            for start, end in ranges:
                file.seek(start)
                parts.append(file.read(end - start))
            return parts
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    with reaching(path) as (filesystem, inner):
        found: list[bytes] = filesystem.cat_ranges([inner] * len(ranges), starts, ends, on_error="raise")
        return found


def sha256(path: str) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    if not is_url(path):
        with _open_local(path) as local:
            return hashlib.file_digest(local, "sha256").hexdigest()
    digest = hashlib.sha256()
    for block in read_blocks(path):
        digest.update(block)
    return digest.hexdigest()


def exists(path: str) -> bool:
    """Whether there is a file or folder at `path`."""
    if not is_url(path):
        return os.path.exists(path)
    with reaching(path) as (filesystem, inner), allowed(path, "read"):
        try:
            filesystem.info(inner)  # fsspec's `exists` returns false for any error
            return True
        except FileNotFoundError:
            return False


def has_file(path: str) -> bool:
    """Whether there is a file at `path`. One request to a store, where `exists` may need two."""
    if not is_url(path):
        return os.path.isfile(path)
    with allowed(path, "read"):
        try:
            read_start(path, 1)
            return True
        except FileNotFoundError:
            return False


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    if not is_url(path):
        return os.path.isdir(path)
    with reaching(path) as (filesystem, inner), allowed(path, "list files"):
        return bool(filesystem.isdir(inner))


def size(path: str) -> int:
    """Size of the file in bytes."""
    if not is_url(path):
        try:
            return os.path.getsize(path)
        except ValueError as error:  # a NUL byte in the name
            raise OSError(errno.EINVAL, str(error), path) from None
    with reaching(path) as (filesystem, inner):
        return int(filesystem.size(inner))


def beside(path: str, name: str) -> str:
    """Where the file or folder `name` next to `path` is: also next to what `path` is a link to, if it is only there."""
    near = join(parent(path), name)
    if is_url(path) or os.path.lexists(near):
        return near
    real = join(os.path.dirname(os.path.realpath(path)), name)
    return real if os.path.exists(real) else near


def list_files(folder: str) -> list[str]:
    """Names of all files below `folder`, relative to it, with forward slashes, sorted; [] if there are none."""
    if is_url(folder):
        return sorted(_find(folder))
    found = []
    for where, _, names in os.walk(folder):
        inside = os.path.relpath(where, folder)
        found += [name if inside == "." else f"{inside}/{name}" for name in names]
    return sorted(name.replace(os.sep, "/") for name in found)


def list_sizes(folder: str) -> dict[str, int]:
    """The names of `list_files`, each with its size in bytes. A store returns both in one request."""
    if is_url(folder):
        return dict(sorted(_find(folder).items()))
    paths = {name: join(folder, name) for name in list_files(folder)}
    # Of a link without a file, the size of the link.
    return {name: os.stat(path, follow_symlinks=os.path.exists(path)).st_size for name, path in paths.items()}


def _find(url: str) -> dict[str, int]:
    with reaching(url) as (filesystem, inner), allowed(url, "list files"):
        inner = inner.rstrip("/") + "/"
        found = filesystem.find(inner, detail=True)
        return {name.removeprefix(inner): int(info["size"] or 0) for name, info in found.items()}
