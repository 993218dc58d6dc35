"""The only way to JSON that this program wrote. Whatever a file holds instead is one message, never a traceback.

A file is read up to a limit, nested up to 200 deep (the parser's limit), without infinite numbers and lone surrogates,
and turned into the expected type. The users' JSON, records of corpora, is read where its format is.
"""

import math
from collections.abc import Iterator
from typing import Any, TypeVar, overload

from vlmixer.artifacts import details, files
from vlmixer.artifacts.errors import UserError

Record = TypeVar("Record")

MAX_BYTES = 1 << 28
"""Of a file. Manifests, the largest, take some 200 bytes for each file of a stage."""


@overload
def parse(data: bytes) -> Any: ...
@overload
def parse(data: bytes, kind: type[Record]) -> Record: ...
def parse(data: bytes, kind: type[Record] | None = None) -> Record | Any:
    """The value in `data`, as a record of type `kind`, or as plain data. Raises ValueError with one line."""
    from pydantic_core import from_json

    value = from_json(data, allow_inf_nan=False, cache_strings="keys")  # of names of files, none comes twice
    for number in _floats(value):
        if not math.isfinite(number):
            raise ValueError("a number that is too large")
    return value if kind is None else details.from_json(kind, value)


@overload
def read(path: str, *, advice: str) -> Any: ...
@overload
def read(path: str, kind: type[Record], *, advice: str) -> Record: ...
def read(path: str, kind: type[Record] | None = None, *, advice: str) -> Record | Any:
    """The value in a file, as a record of type `kind`, or as plain data.

    advice: what to do if it is damaged. Raises FileNotFoundError or NotADirectoryError if there is none, or UserError.
    """
    data = read_limited(path, advice=advice)
    return parse_file(path, data, advice=advice) if kind is None else parse_file(path, data, kind, advice=advice)


@overload
def parse_file(path: str, data: bytes, *, advice: str) -> Any: ...
@overload
def parse_file(path: str, data: bytes, kind: type[Record], *, advice: str) -> Record: ...
def parse_file(path: str, data: bytes, kind: type[Record] | None = None, *, advice: str) -> Record | Any:
    """As `read`, of bytes that were read from `path` already."""
    try:
        return parse(data) if kind is None else parse(data, kind)
    except ValueError as error:
        raise UserError(f"{path}: damaged ({str(error)[:300]}). {advice}") from None


def whole_lines(data: bytes, kind: type[Record]) -> Iterator[tuple[bytes, Record]]:
    """The lines of a log and their records, up to the first that is damaged.

    The last line is incomplete if the process was killed while it wrote it.
    """
    for line in data.splitlines():
        try:
            yield line, parse(line, kind)
        except ValueError:
            return


def read_limited(path: str, most: int = MAX_BYTES, *, advice: str) -> bytes:
    """The bytes of a file. Raises FileNotFoundError or NotADirectoryError if there is none, UserError if it cannot be
    read or has more than `most` bytes."""
    try:
        data = files.read_start(path, most + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}). {advice}") from None
    if len(data) > most:
        raise UserError(f"{path}: more than {most:,} bytes, so it is not what this program writes. {advice}")
    return data


def _floats(value: Any) -> Iterator[float]:
    """All floats in plain data: "1e999" is read as infinity."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, float):
            yield inner
        elif isinstance(inner, dict):
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner
