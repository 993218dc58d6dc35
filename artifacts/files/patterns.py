"""From patterns in the config to files: paths, folders and globs, local or behind URLs.

One rule for local patterns. `~` is the home folder. What exists under the pattern's own name is taken literally, also
the folders at its beginning, brackets included. A folder, named or matched by a glob that ends in `*`, stands for all
files below it. Links to files and folders are followed; each folder is entered once per pattern, also by `**`, so links
in a circle come to an end.
"""

import glob
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files.listed import FileStat, FileStats, Strings, in_order
from vlmixer.artifacts.files.paths import absolute, is_url, join, scheme
from vlmixer.artifacts.files.stores import NO_BUCKET, OBJECT_STORES, allowed, reaching


def expand(patterns: list[str] | tuple[str, ...], *, key: str, out: str = "") -> FileStats:
    """The files that `patterns` match, sorted within a pattern, each once. A folder stands for all files below it.

    out: an output folder. What it holds of a run is left out, unless a pattern begins there.

    Raises CallError, naming the config `key`, if a pattern matches nothing, a name is not valid UTF-8, or the store
    of a URL is unknown or does not answer.
    """
    found = []
    for pattern in patterns:
        try:
            matches = _matches(pattern)
        except OSError as error:
            raise CallError(f"{key}: {pattern!r} cannot be read ({error.strerror or error}).") from None
        except UnicodeEncodeError as error:  # Python shows bytes that are not valid UTF-8 as lone surrogates.
            raise CallError(f"{key}: the name of the file {error.object!r} is not valid UTF-8. Rename it.") from None
        if not matches:
            raise CallError(
                f"{key}: nothing matches {pattern!r} (relative paths start at {os.getcwd()}). "
                "Give existing files, folders or globs."
            )
        if out and not _is_result(pattern, out):
            matches = matches.where(lambda name: not _is_result(name, out))
        found.append(matches)
    return FileStats.merged(found)


RESULTS = frozenset(
    {"tagged", "regions", "bank", "shards", "rejects", "reports", "run", "run-before", "runs", "work", "logs",
     "config.yaml", "contents.json", "dropped.json"}
)  # fmt: skip
"""What a run writes below its output folder. Inputs may be in that folder, too."""


def _is_result(name: str, out: str) -> bool:
    """Whether a file or folder is one that a run wrote to `out`."""
    inside = absolute(name).removeprefix(join(absolute(out), ""))
    return inside != absolute(name) and inside.partition("/")[0] in RESULTS


def _stamp_of(info: dict[str, Any]) -> str:
    """The stamp of an object, from what its store says about it: the hash of its content, or the time of its upload."""
    known = (info.get(name) for name in ("etag", "ETag", "md5Hash", "content_md5", "updated", "LastModified",
                                         "last_modified", "mtime", "created"))  # fmt: skip
    return f"{info.get('size')} {next((value for value in known if value), '')}"


def _matches(pattern: str) -> FileStats:
    if not is_url(pattern):
        pattern = os.path.expanduser(pattern)
        literal = os.path.exists(pattern)
        paths = [pattern] if literal else _globbed(_literal_folders(pattern))
        return FileStats.local(Strings(_files_of(in_order(paths), pattern, literal=literal)))
    with reaching(pattern) as (filesystem, inner), allowed(pattern, "list files"):
        try:
            info = filesystem.info(inner)
        except FileNotFoundError:
            info = None
        if info is not None and info["type"] == "file":
            return FileStats.of([_stat_of(filesystem, inner, info)])
        wanted = filesystem.glob if glob.has_magic(inner) and info is None else filesystem.find
        found = [
            _stat_of(filesystem, name, info)
            for name, info in sorted(wanted(inner, detail=True).items())
            if info["type"] == "file"
        ]
        if not found and scheme(pattern) in OBJECT_STORES:
            _want_bucket(filesystem, inner)
        return FileStats.of(found)


def _files_of(paths: Iterable[str], pattern: str, *, literal: bool) -> Iterator[str]:
    """The files of matches: they themselves, or what is below them. literal: the pattern is itself the match."""
    entered: set[str] = set()
    for path in paths:
        # A folder that matches a glob such as *.jpg is passed on, to be rejected as a photo.
        if not (os.path.isdir(path) and (literal or pattern.endswith("*"))):
            yield path  # also a link without a target, to be rejected when it is read
        elif literal or "**" not in pattern:
            yield from _files_below(path, entered)


def _stat_of(filesystem: Any, name: str, info: dict[str, Any]) -> FileStat:
    return FileStat(filesystem.unstrip_protocol(name), int(info["size"] or 0), _stamp_of(info))


def _literal_folders(pattern: str) -> str:
    """The glob, with the folders at its beginning that exist under their own name escaped: `photos [2019]/*.jpg`."""
    parts = pattern.split("/")
    for count in range(len(parts) - 1, 0, -1):
        folder = "/".join(parts[:count])
        if folder and os.path.isdir(folder):
            return "/".join([glob.escape(folder), *parts[count:]])
    return pattern


def _globbed(pattern: str, entered: Sequence[set[str]] = ()) -> Iterator[str]:
    """What `glob.glob` finds with `recursive`, but for folders that links lead to again: they are entered once. Some
    names may come twice.

    entered: by each `**` of the pattern, in this and in earlier calls; () at first.
    """
    parts = pattern.split("/")
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    at = parts.index("**")
    rest = "/".join(parts[at + 1 :]) or "*"
    start = "/".join(parts[:at])
    own, *inner = entered or [set() for part in parts if part == "**"]
    for base in sorted(glob.glob(f"{start}/")) if at else ["."]:
        for where, _ in _walked(base.rstrip("/") or "/", own, hidden=False):
            for name in _globbed(join(glob.escape(where), rest), inner):
                yield name if at else name.removeprefix("./")


def _files_below(folder: str, entered: set[str]) -> Strings:
    """The files below a folder, through links, sorted. Folders that were `entered` already are passed over."""
    return in_order(join(where, name) for where, names in _walked(folder, entered) for name in names)


def _walked(folder: str, entered: set[str], *, hidden: bool = True) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, through links, each with the names of its files; none that was `entered` already.

    hidden: whether folders below it whose names begin with a dot are entered, too.
    """
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if hidden or not name.startswith("."))
        yield where.replace(os.sep, "/"), names


def _want_bucket(filesystem: Any, inner: str) -> None:
    """Raises FileNotFoundError if the bucket of a path does not exist: a search in it just finds nothing."""
    bucket = inner.partition("/")[0]
    try:
        filesystem.ls(f"{bucket}/{uuid.uuid4().hex}")
    except FileNotFoundError as error:
        if NO_BUCKET in str(error):
            raise
