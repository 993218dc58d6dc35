"""The one door to files: local paths and fsspec URLs (s3://, gs://, …) alike.

A file is either published whole or not there: `publishing` writes under a temporary name and renames. What goes to
a URL is written to a local temporary file and uploaded when it is whole; object stores show uploads only when complete.
"""

import glob
import hashlib
import io
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import fsspec
from fsspec.core import url_to_fs

from artifacts.errors import CallError, WriteError

TEMPORARY = ".tmp-"
WRITE_BUFFER = 1 << 18


@dataclass(frozen=True)
class FileStat:
    """A file's name (as listed) and its size in bytes."""

    name: str
    size: int


def is_url(path: str) -> bool:
    """Whether `path` is an fsspec URL rather than a local path."""
    return "://" in path


def join(folder: str, *names: str) -> str:
    """`folder/name/…` for paths and URLs."""
    return "/".join([folder.removesuffix("/"), *names]) if names else folder


def absolute(path: str) -> str:
    """The path as it is from any folder; URLs as they are."""
    return path if is_url(path) else os.path.abspath(path)


def open_read(path: str) -> IO[bytes]:
    """`path` for reading bytes. Raises FileNotFoundError."""
    if not is_url(path):
        return open(path, "rb")
    handle: IO[bytes] = fsspec.open(path, "rb").open()
    return handle


def read_bytes(path: str) -> bytes:
    """All bytes of `path`."""
    with open_read(path) as file:
        return file.read()


def read_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Parts of a file, (first byte, end) each; shorter where the file ends. A URL's are asked for side by side."""
    if not is_url(path):
        with open(path, "rb") as file:
            parts = []
            for start, end in ranges:
                file.seek(start)
                parts.append(file.read(end - start))
            return parts
    filesystem, inner = url_to_fs(path)
    starts, ends = [start for start, _ in ranges], [end for _, end in ranges]
    found: list[bytes] = filesystem.cat_ranges([inner] * len(ranges), starts, ends, on_error="raise")
    return found


def exists(path: str) -> bool:
    """Whether there is a file or folder at `path`."""
    if not is_url(path):
        return os.path.exists(path)
    filesystem, inner = url_to_fs(path)
    return bool(filesystem.exists(inner))


def is_folder(path: str) -> bool:
    """Whether `path` is a folder."""
    if not is_url(path):
        return os.path.isdir(path)
    filesystem, inner = url_to_fs(path)
    return bool(filesystem.isdir(inner))


def size(path: str) -> int:
    """Size of the file in bytes."""
    if not is_url(path):
        return os.path.getsize(path)
    filesystem, inner = url_to_fs(path)
    return int(filesystem.size(inner))


def list_files(folder: str) -> list[str]:
    """Names of all files below `folder`, relative to it, with forward slashes, sorted; [] if there is none."""
    if not is_url(folder):
        found = []
        for where, _, names in os.walk(folder):
            inside = os.path.relpath(where, folder)
            found += [name if inside == "." else f"{inside}/{name}" for name in names]
        return sorted(name.replace(os.sep, "/") for name in found)
    filesystem, inner = url_to_fs(folder)
    inner = inner.rstrip("/") + "/"
    return sorted(name.removeprefix(inner) for name in filesystem.find(inner))


def expand(patterns: list[str] | tuple[str, ...], *, key: str) -> list[FileStat]:
    """Files that `patterns` name, sorted within a pattern, each once; a folder stands for all files below it.

    Raises CallError, naming the config `key`, for a pattern that nothing matches and for a name that is no UTF-8.
    """
    found: dict[str, FileStat] = {}
    for pattern in patterns:
        matches = _matches(pattern)
        if not matches:
            raise CallError(
                f"{key}: nothing matches {pattern!r} (relative paths start at {os.getcwd()}). "
                "Give existing files, folders or globs."
            )
        for match in matches:
            if not _is_utf8(match.name):
                raise CallError(f"{key}: the name of the file {match.name!r} is no UTF-8. Rename it.")
            found[match.name] = match
    return list(found.values())


def _is_utf8(name: str) -> bool:
    """Python shows bytes of a file name that are no UTF-8 as lone surrogates, which no output file can hold."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _matches(pattern: str) -> list[FileStat]:
    if not is_url(pattern):
        paths = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
        files: list[str] = []
        for path in sorted(paths):
            # A folder that a glob such as *.jpg happens to match is no photo; it is passed on and rejected there.
            named_as_folder = os.path.isdir(path) and (path == pattern or pattern.endswith("*"))
            if not named_as_folder:
                files.append(path)
            elif path == pattern:
                files += [join(path, name) for name in list_files(path)]
        # A link that leads nowhere has no size; it is passed on and rejected when it is read.
        return [FileStat(path, os.path.getsize(path) if os.path.exists(path) else 0) for path in files]
    filesystem, inner = url_to_fs(pattern)
    if filesystem.isfile(inner):
        return [FileStat(filesystem.unstrip_protocol(inner), int(filesystem.size(inner)))]
    wanted = filesystem.glob if glob.has_magic(inner) and not filesystem.isdir(inner) else filesystem.find
    return [
        FileStat(filesystem.unstrip_protocol(name), int(info["size"] or 0))
        for name, info in sorted(wanted(inner, detail=True).items())
        if info["type"] == "file"
    ]


@contextmanager
def publishing(path: str) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` only when the block ends without an exception.

    Raises WriteError where the disk does not take it: full, read-only, no folder.
    """
    if is_url(path):
        with tempfile.NamedTemporaryFile(prefix="vlmixer-") as upload:
            yield upload.file
            upload.flush()
            filesystem, inner = url_to_fs(path)
            filesystem.makedirs(inner.rpartition("/")[0], exist_ok=True)
            filesystem.put_file(upload.name, inner)
        return
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


@contextmanager
def writing(path: str) -> Iterator[None]:
    """What the system says of a change to `path` that it does not allow is a WriteError."""
    try:
        yield
    except OSError as error:
        raise WriteError.of(path, error) from error


class _LocalFile(io.FileIO):
    """A local file; an error in writing to it names the file that it is to become."""

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


def create(path: str, data: bytes) -> None:
    """Write a small file where there is none. Raises FileExistsError; of several that try at once, one succeeds."""
    if is_url(path):
        filesystem, inner = url_to_fs(path)
        filesystem.makedirs(inner.rpartition("/")[0], exist_ok=True)
        filesystem.pipe_file(inner, data, mode="create")
        return
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "xb") as file:
        file.write(data)


def publish_bytes(path: str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with publishing(path) as file:
        file.write(data)


def sweep_temporaries(folder: str) -> None:
    """Remove what an interrupted run left behind under temporary names."""
    for name in list_files(folder):
        if TEMPORARY in name:
            remove(join(folder, name))


def remove(path: str) -> None:
    """Remove a file, or a folder with all it holds; nothing happens where there is none."""
    if is_url(path):
        filesystem, inner = url_to_fs(path)
        if filesystem.exists(inner):
            filesystem.rm(inner, recursive=True)
        return
    with writing(path):
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.unlink(path)


def sha256(path: str) -> str:
    """SHA-256 of the file's bytes, in hexadecimal."""
    if not is_url(path):
        with open(path, "rb") as local:
            return hashlib.file_digest(local, "sha256").hexdigest()
    with open_read(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        return digest.hexdigest()
