"""OUT/contents.json: which stages and which run the folder OUT holds, each by the hash of its manifest.

A folder without a manifest is unfinished; the record tells it from one that was removed. Its own hash stands for all
results in OUT, because the hashes of the manifests stand for all their files.

A folder is taken off the record before anything in it is removed, and put on it after its manifest was written. So the
record never promises what a command has not finished, whenever the command is killed; the next one completes it.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from vlmixer.artifacts import details, files, json_files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import WITH_MANIFEST

NAME = "contents.json"
CONFIG = "config.yaml"
VERSION = 1
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
"""Errors of file systems on which a folder cannot be locked."""


@dataclass(frozen=True)
class Contents:
    """What OUT holds. `folders`: the content hash of each finished folder's manifest. `config`: SHA-256 of config.yaml;
    None while a command is about to write it."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    folders: Mapping[str, str] = field(default_factory=dict)
    config: str | None = None
    version: int = VERSION

    @property
    def content_hash(self) -> str:
        """The SHA-256 of everything in the record."""
        return manifest.digest(details.to_json(self))

    def to_bytes(self) -> bytes:
        """The file's bytes."""
        content: dict[str, Any] = details.to_json(self)
        return manifest.canonical({**content, "content_hash": self.content_hash}, indent=1)


def read(out: str) -> Contents | None:
    """The record of `out`, None if there is none. Raises UserError if it is damaged or of another version."""
    path = files.join(out, NAME)
    try:
        data = json_files.read_limited(path, advice=_REMOVE)
    except (FileNotFoundError, NotADirectoryError):
        return None
    raw = json_files.parse_file(path, data, dict[str, Any], advice=_REMOVE)
    if raw.get("version") != VERSION:
        raise UserError(
            f"{path}: written with version {str(raw.get('version'))[:40]} of its format, this program reads {VERSION}. "
            "Use the program version that wrote it."
        )
    try:
        found = details.from_json(Contents, {key: value for key, value in raw.items() if key != "content_hash"})
    except ValueError as error:
        raise UserError(f"{path}: damaged ({error}). {_REMOVE}") from None
    if data != found.to_bytes():
        raise UserError(f"{path}: damaged (its bytes do not match its own content hash). {_REMOVE}")
    return found


_REMOVE = "Check the folder with `vlmixer verify`, remove the file, and run the command again, which writes it."


def put(out: str, folders: Mapping[str, str]) -> None:
    """Record finished folders of `out`, each with the content hash of its manifest."""
    _change(out, lambda found: replace(found, folders={**found.folders, **folders}))


def take_off(out: str, folder: str) -> None:
    """Take `folder` off the record, because it is about to be removed or changed. No record is made."""
    if read(out) is not None:
        _change(
            out,
            lambda found: replace(
                found, folders={name: value for name, value in found.folders.items() if name != folder}
            ),
        )


def out_of(folder: str) -> str | None:
    """The output folder with a record whose stage or run `folder` is by its name; None if it is on its own."""
    path = files.absolute(folder)
    out = files.parent(path)
    known = {stage.folder for stage in WITH_MANIFEST}
    return out if path.rstrip("/").rpartition("/")[2] in known and read(out) is not None else None


def publish_config(out: str, text: str) -> None:
    """Write config.yaml and record it."""
    data = text.encode()
    hashed = hashlib.sha256(data).hexdigest()
    path = files.join(out, CONFIG)
    found = read(out)
    if found is not None and found.config == hashed and files.has_file(path) and files.read_bytes(path) == data:
        return
    _change(out, lambda found: replace(found, config=None))
    files.publish_bytes(path, data)
    _change(out, lambda found: replace(found, config=hashed))


def _change(out: str, change: Callable[[Contents], Contents]) -> None:
    """Read the record, change it, and write it, unless nothing changes."""
    with _alone(out):
        before = read(out)
        after = change(before or Contents())
        if after != before:
            files.publish_bytes(files.join(out, NAME), after.to_bytes())


@contextmanager
def _alone(out: str) -> Iterator[None]:
    """Let no other process change the record while the block runs: a stage and a training may end at the same time.

    The folder itself is locked, so no file is left. Object stores have no locks, but there the stages' own lock is
    enough, because a training does not write to them.
    """
    if files.is_url(out):
        yield
        return
    import fcntl

    with files.writing(out):
        os.makedirs(out, exist_ok=True)
        descriptor = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
