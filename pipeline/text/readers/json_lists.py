"""The records of a JSON file that may be larger than memory, one after the other."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from vlmixer.pipeline.text.readers.lines import MAX_LINE_BYTES

_CHARACTERS = 1 << 16
"""Read at once."""

# As floats, numbers of any length are read in no time.
_DECODER = json.JSONDecoder(parse_int=float)


class BrokenJson(Exception):
    """What stands in a file cannot be read as a list of records, from some place on."""


def json_records(file: IO[bytes], key: str) -> Iterator[Any]:
    """The items of the list at the top of the file, or of the list that the object at the top has as `key`.

    Raises BrokenJson at what is no JSON, is no list, is nested very deep or breaks off, and where a single record has
    more than MAX_LINE_BYTES characters.
    """
    try:
        yield from _records(_Stream(file), key)
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
    """Characters of the file from a place on. Whole values go through json; only the brackets around them do not."""

    def __init__(self, file: IO[bytes]) -> None:
        # Bytes that are no UTF-8 become lone surrogates: they spoil the record that they stand in, not the others.
        self._file = codecs.getreader("utf-8-sig")(file, "surrogateescape")
        self._text = ""
        self._at = 0

    def next(self, at_end: str | None = None) -> str:
        """The next character that is no white space, which stays; `at_end`, if it is given, at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if not self._more(_CHARACTERS):
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
        wanted = _CHARACTERS
        while True:
            full = len(self._text) - self._at > MAX_LINE_BYTES
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if full or not self._more(wanted):
                    raise
            else:
                # A number may go on: of "-2." the "-2" is read.
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
        """The names in the object that is open; the caller goes past the value of each."""
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
