"""The official annotation files of the tasks: JSON, JSON lines, plain or gzipped, single files or folders of them.

Files are read as streams, an entry at a time. What an entry must hold is left to the tasks.
"""

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from vlmixer.artifacts import files, json_files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.json_stream import BrokenJson, json_entries
from vlmixer.artifacts.texts import blank_lines, encodable

MAX_BYTES = 1 << 22
"""Of a line or an entry. The longest official ones, scenes of NLVR and Karpathy's captions, have a few kB."""
MAX_DOCUMENT = 1 << 28
"""Of a file that is read as a whole."""
MAX_RATIO, LEAST_LIMIT = 200, 1 << 26
"""A packed file may unpack to so many times its size, and to so many bytes in any case. The official ones have 5 to 20
times; 1,000 times are made of nothing but equal lines, to fill the memory."""
_ENDINGS = (".json", ".jsonl", ".ndjson")


@dataclass(frozen=True, slots=True)
class Entry:
    """An item of a list, a value of an object, or a line. `name`: of the list or value in its object; "" if it is in
    none. `number`: counts the entries of the file from 1."""

    path: str
    number: int
    name: str
    value: Any

    @property
    def where(self) -> str:
        """The place, for messages."""
        return f"{self.path}, entry {self.number}" + (f" of {self.name!r}" if self.name else "")

    def field(self, name: str) -> Any:
        """The field `name` of an object; None if there is none."""
        return self.value.get(name) if isinstance(self.value, dict) else None

    def text(self, name: str) -> str:
        """The text in the field `name`, without white space around it; "" if there is none."""
        found = self.field(name)
        return encodable(found).strip() if isinstance(found, str) else ""

    def identifier(self, *names: str) -> str:
        """The first of these fields that has an id, a text or a whole number, as text; "" if none has."""
        return next((found for name in names if (found := identifier(self.field(name)))), "")


def identifier(value: Any) -> str:
    """An id as text: a text without white space around it, or a whole number; "" for anything else."""
    if isinstance(value, str):
        return encodable(value).strip()
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1
    return str(int(value)) if whole else ""


def expand(paths: Sequence[str], key: str) -> list[str]:
    """The files that `paths` name: files, folders and globs. `key`: of the config, for messages. Raises CallError."""
    found = [found.name for found in files.expand(list(paths), key=key)]
    return found if len(found) == len(paths) else [name for name in found if _plain_name(name).endswith(_ENDINGS)]


def entries(path: str) -> Iterator[Entry]:
    """The entries of one file, in order. Raises UserError that names the file if it cannot be read to its end."""
    try:
        with files.open_read(path) as file:
            yield from _lines(path, file) if is_lines(path) else _stream(path, file)
    except (OSError, EOFError, zlib.error, UnicodeError, BrokenJson) as error:
        problem = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read as JSON ({problem}). Fetch the file again.") from None


def document(path: str, advice: str) -> Any:
    """The value of a whole JSON file, plain or .gz. Raises UserError with `advice` if it is damaged or too large."""
    try:
        with files.open_read(path) as file:
            data = _unpacked(path, file).read(MAX_DOCUMENT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}). {advice}") from None
    if len(data) > MAX_DOCUMENT:
        raise UserError(f"{path}: more than {MAX_DOCUMENT:,} bytes. {advice}")
    return json_files.parse_file(path, data, advice=advice)


def _stream(path: str, file: IO[bytes]) -> Iterator[Entry]:
    found = json_entries(_unpacked(path, file), max_characters=MAX_BYTES)
    for number, (name, value) in enumerate(found, 1):
        yield Entry(path, number, encodable(name), value)


def _lines(path: str, file: IO[bytes]) -> Iterator[Entry]:
    unpacked = _unpacked(path, file)
    number = 0
    while line := unpacked.readline(MAX_BYTES + 1):
        number += 1
        if len(line) > MAX_BYTES:
            raise BrokenJson(f"line {number} has more than {MAX_BYTES:,} bytes")
        if not line.strip():
            number += blank_lines(unpacked, MAX_BYTES).count(b"\n")
            continue
        try:
            yield Entry(path, number, "", json.loads(line))
        except (ValueError, RecursionError) as error:
            raise BrokenJson(f"line {number}: {error}") from None


def is_lines(path: str) -> bool:
    """Whether the file has an object in each line. A file named .json may, too: if its first line is a whole one, and
    is not the last."""
    if _plain_name(path).endswith((".jsonl", ".ndjson")):
        return True
    with files.open_read(path) as file:
        unpacked = _unpacked(path, file)
        first = unpacked.readline(MAX_BYTES)
        if not first.endswith(b"\n") or not unpacked.readline(MAX_BYTES).strip():
            return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _unpacked(path: str, file: IO[bytes]) -> IO[bytes]:
    return _Unpacked(path, file) if path.lower().endswith(".gz") else file  # type: ignore[return-value]


class _Unpacked(gzip.GzipFile):
    """A packed file whose length is limited by its size. Reading past the limit is an OSError."""

    def __init__(self, path: str, file: IO[bytes]) -> None:
        super().__init__(fileobj=file)
        self._left = max(LEAST_LIMIT, MAX_RATIO * files.size(path))

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(self._left + 1 if size is None or size < 0 else size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._counted(super().readline(size))

    def _counted(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"it unpacks to more than {MAX_RATIO} times its size")
        return data


def _plain_name(path: str) -> str:
    return os.path.basename(path).lower().removesuffix(".gz")
