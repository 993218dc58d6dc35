"""Names of dropped inputs outside the stages' folders: in the logs, which are cleared, and in files of the user's."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from vlmixer.artifacts import files

REMOVED = b"(dropped)"
MAX_BYTES = 64 << 20
"""Larger files are not searched."""
SHORTEST = 4
"""Shorter names are not searched for: they are found anywhere."""


def clear_logs(out: str, names: Iterable[str]) -> None:
    """Replace the names in the messages that OUT/logs keeps."""
    for path in sorted(Path(out, "logs").glob("*.log")):
        data = path.read_bytes()
        cleared = data
        for name in _searched(names):
            cleared = cleared.replace(name, REMOVED)
        if cleared != data:
            files.publish_bytes(str(path), cleared)


def other_files(out: str, names: Iterable[str]) -> list[str]:
    """Files below `out` that have one of the names in them, or are called so. They are not changed."""
    searched = _searched(names)
    return [
        str(path.relative_to(out))
        for path in _files(Path(out))
        if any(name in os.fsencode(path.name) or name in _content(path) for name in searched)
    ]


def _searched(names: Iterable[str]) -> list[bytes]:
    return sorted({name.encode() for name in names if len(name) >= SHORTEST}, key=len, reverse=True)


def _files(out: Path) -> Iterator[Path]:
    return (path for path in sorted(out.rglob("*")) if path.is_file() and path.name != "lock")


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.stat().st_size <= MAX_BYTES else b""
