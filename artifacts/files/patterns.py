"""From patterns in the config to files: paths, folders and globs, local or behind URLs."""

import glob
import os
import uuid
from dataclasses import dataclass
from typing import Any

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files.paths import is_url, join, scheme
from vlmixer.artifacts.files.reading import list_files
from vlmixer.artifacts.files.stores import NO_BUCKET, OBJECT_STORES, allowed, reaching


@dataclass(frozen=True)
class FileStat:
    """A file's name (as listed) and its size in bytes."""

    name: str
    size: int


def expand(patterns: list[str] | tuple[str, ...], *, key: str) -> list[FileStat]:
    """The files that `patterns` match, sorted within a pattern, each once. A folder stands for all files below it.

    Raises CallError, naming the config `key`, if a pattern matches nothing or a name is not valid UTF-8.
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
                raise CallError(f"{key}: the name of the file {match.name!r} is not valid UTF-8. Rename it.")
            found[match.name] = match
    return list(found.values())


def _is_utf8(name: str) -> bool:
    """Python shows bytes of a name that are not valid UTF-8 as lone surrogates, which no output file can hold."""
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
            # A folder that matches a glob such as *.jpg is passed on, to be rejected as a photo.
            named_as_folder = os.path.isdir(path) and (path == pattern or pattern.endswith("*"))
            if not named_as_folder:
                files.append(path)
            elif path == pattern:
                files += [join(path, name) for name in list_files(path)]
        # A broken link has no size. It is passed on, to be rejected when it is read.
        return [FileStat(path, os.path.getsize(path) if os.path.exists(path) else 0) for path in files]
    with reaching(pattern) as (filesystem, inner), allowed(pattern, "list files"):
        try:
            info = filesystem.info(inner)
        except FileNotFoundError:
            info = None
        if info is not None and info["type"] == "file":
            return [FileStat(filesystem.unstrip_protocol(inner), int(info["size"] or 0))]
        wanted = filesystem.glob if glob.has_magic(inner) and info is None else filesystem.find
        found = [
            FileStat(filesystem.unstrip_protocol(name), int(info["size"] or 0))
            for name, info in sorted(wanted(inner, detail=True).items())
            if info["type"] == "file"
        ]
        if not found and scheme(pattern) in OBJECT_STORES:
            _want_bucket(filesystem, inner)
        return found


def _want_bucket(filesystem: Any, inner: str) -> None:
    """Raises FileNotFoundError if the bucket of a path does not exist: a search in it just finds nothing."""
    bucket = inner.partition("/")[0]
    try:
        filesystem.ls(f"{bucket}/{uuid.uuid4().hex}")
    except FileNotFoundError as error:
        if NO_BUCKET in str(error):
            raise
