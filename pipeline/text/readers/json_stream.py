"""The records of a JSON file, read as a stream: the file may be larger than memory."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES

BLOCK_CHARACTERS = 1 << 16
"""Characters read at a time."""

# Integers of any length are fast to read as floats.
_DECODER = json.JSONDecoder(parse_int=float)


class BrokenJson(Exception):
    """From some place on, the file cannot be read as a list of records."""


def json_records(
    file: IO[bytes], key: str, block: int = BLOCK_CHARACTERS, max_characters: int = MAX_LINE_BYTES
) -> Iterator[Any]:
    """The items of the list at the top of the file, or of the list that the object at the top has as `key`.

    Raises BrokenJson where the file is not valid JSON, holds no list, is nested very deep or ends early, and where a
    single record is longer than `max_characters`.
    """
    try:
        yield from _records(_Stream(file, block, max_characters), key)
    except (ValueError, RecursionError) as error:
        raise BrokenJson(str(error)) from None


def _records(stream: "_Stream", key: str) -> Iterator[Any]:
    if stream.next() == "[":
        yield from stream.items()
    else:
        stream.take("{")
        for name in stream.names():
            if stream.next() != "[":
                stream.value()
            elif name == key:
                yield from stream.items()
            else:
                for _ in stream.items():
                    pass
    if stream.next(at_end=""):
        raise ValueError(f"{stream.next()!r} follows the end")


class _Stream:
    """The rest of the file's characters. json reads whole values; only the brackets around them are read here."""

    def __init__(self, file: IO[bytes], block: int, max_characters: int) -> None:
        self._block = block
        self._max = max_characters
        # Invalid UTF-8 becomes lone surrogates: they spoil the record that holds them and no other.
        self._file = codecs.getreader("utf-8-sig")(file, "surrogateescape")
        self._text = ""
        self._at = 0

    def next(self, at_end: str | None = None) -> str:
        """The next character that is not white space, without going past it. At the end `at_end`, if it is given."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more(self._block):
                if at_end is None:
                    raise ValueError("the file breaks off")
                return at_end

    def take(self, wanted: str) -> str:
        """Go past the next character, one of `wanted`."""
        found = self.next()
        if found not in wanted:
            raise ValueError(f"expected one of {wanted}, found {found!r}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Go past the next value."""
        self.next()
        wanted = self._block
        while True:
            full = len(self._text) - self._at > self._max
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if full or not self._more(wanted):
                    raise
            else:
                # The number may continue in the next block: "-2." is read as -2.
                whole = not isinstance(value, float) or self._text[end : end + 1] not in ("", ".", "e", "E")
                if whole or full or not self._more(wanted):
                    self._at = end
                    return value
            wanted *= 2

    def items(self) -> Iterator[Any]:
        """Go past the list that comes next, item by item."""
        self.take("[")
        if self.next() == "]":
            self.take("]")
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def names(self) -> Iterator[str]:
        """The names in the object that is open. The caller must go past the value of each."""
        if self.next() == "}":
            self.take("}")
            return
        while True:
            name = self.value()
            if not isinstance(name, str):
                raise ValueError(f"expected a name, found {name!r}")
            self.take(":")
            yield name
            if self.take(",}") == "}":
                return

    def _more(self, characters: int) -> bool:
        """Whether there was more of the file to read."""
        part = self._file.read(characters, characters)
        if part:
            self._text = self._text[self._at :] + part
            self._at = 0
        return bool(part)
