"""The records of a JSON file, read as a stream: the file may be larger than memory."""

import codecs
import json
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import IO, Any

MAX_CHARACTERS = 1 << 20
"""Of a record."""
BLOCK_CHARACTERS = 1 << 16
"""Characters read at a time."""
_NOT_BLANK = re.compile(r"[^ \t\r\n]")

Numbers = Callable[[str], float]
"""What makes an integer of its digits. Integers of any length are fast to read as floats; `int` refuses very long ones,
and keeps the last digits of long ids."""


class BrokenJson(Exception):
    """From some place on, the file cannot be read as a list of records."""


def json_records(
    file: IO[bytes], key: str, block: int = BLOCK_CHARACTERS, max_characters: int = MAX_CHARACTERS
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
            if name == key and stream.next() == "[":
                yield from stream.items()
            else:
                stream.skip()
    if stream.next(at_end=""):
        raise ValueError(f"{stream.next()!r} follows the end")


def json_entries(
    file: IO[bytes], block: int = BLOCK_CHARACTERS, max_characters: int = MAX_CHARACTERS, integers: Numbers = float
) -> Iterator[tuple[str, Any]]:
    """(name, value) of what the file holds: of an object at the top its values, and the items of those that are lists,
    each with the value's name; of a list at the top the items, with the name "".

    Raises BrokenJson as `json_records` does.
    """
    stream = _Stream(file, block, max_characters, integers)
    try:
        if stream.next() == "[":
            yield from (("", item) for item in stream.items())
        else:
            stream.take("{")
            for name in stream.names():
                if stream.next() == "[":
                    yield from ((name, item) for item in stream.items())
                else:
                    yield name, stream.value()
        if stream.next(at_end=""):
            raise ValueError(f"{stream.next()!r} follows the end")
    except (ValueError, RecursionError) as error:
        raise BrokenJson(str(error)) from None


def json_at(
    file: IO[bytes], path: Sequence[str], block: int = BLOCK_CHARACTERS, max_characters: int = MAX_CHARACTERS
) -> Iterator[tuple[Any, Sequence[str]]]:
    """(value, rest of the path) of the values that the path's beginning leads to. "*": each item or value.

    Lists on the way are read item by item, whether the path has a * for them or not. Raises BrokenJson as
    `json_records` does.
    """
    stream = _Stream(file, block, max_characters)
    try:
        yield from _walk(stream, path)
        if stream.next(at_end=""):
            raise ValueError(f"{stream.next()!r} follows the end")
    except (ValueError, RecursionError) as error:
        raise BrokenJson(str(error)) from None


def json_sample(
    file: IO[bytes], block: int = BLOCK_CHARACTERS, max_characters: int = MAX_CHARACTERS, most: int = 20
) -> tuple[list[str], Any]:
    """The first names of the object at the top ([] for a list), and a small value like the file's: of lists, the first
    item. Reads only as much of the file as that takes; what is broken or too long is left out."""
    stream = _Stream(file, block, max_characters)
    keys: list[str] = []
    sample: Any = None
    try:
        if stream.next() == "[":
            return [], list(islice(stream.items(), 1))
        stream.take("{")
        sample = {}
        for name in stream.names():
            keys.append(name)
            if stream.next() == "[":
                items = stream.items()
                sample[name] = list(islice(items, 1))
                for _ in items if len(keys) < most else ():
                    pass
            else:
                sample[name] = stream.value()
            if len(keys) == most:
                break
    except (ValueError, RecursionError):
        pass
    return keys, sample


def _walk(stream: "_Stream", path: Sequence[str]) -> Iterator[tuple[Any, Sequence[str]]]:
    start = stream.next()
    if start == "[":
        rest = path[1:] if path[:1] == ("*",) else path
        for item in stream.items():
            yield item, rest
    elif start != "{" or not path:
        yield stream.value(), path
    else:
        stream.take("{")
        for name in stream.names():
            if path[0] == "*":
                yield stream.value(), path[1:]
            elif name == path[0]:
                yield from _walk(stream, path[1:])
            else:
                stream.skip()


class _Stream:
    """The rest of the file's characters. json reads whole values; only the brackets around them are read here."""

    def __init__(self, file: IO[bytes], block: int, max_characters: int, integers: Numbers = float) -> None:
        self._block = block
        self._max = max_characters
        self._decoder = json.JSONDecoder(parse_int=integers)
        # Invalid UTF-8 becomes lone surrogates: they spoil the record that holds them and no other.
        self._file = codecs.getreader("utf-8-sig")(file, "surrogateescape")
        self._text = ""
        self._at = 0

    def next(self, at_end: str | None = None) -> str:
        """The next character that is not white space, without going past it. At the end `at_end`, if it is given."""
        while True:
            if found := _NOT_BLANK.search(self._text, self._at):
                self._at = found.start()
                return found[0]
            self._at = len(self._text)
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
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if full or not self._more(wanted):
                    raise
            else:
                # The number may continue in the next block: "-2." is read as -2.
                whole = not isinstance(value, int | float) or self._text[end : end + 1] not in ("", ".", "e", "E")
                if whole or full or not self._more(wanted):
                    self._at = end
                    return value
            wanted *= 2

    def skip(self) -> None:
        """Go past the next value, however long it is."""
        if self.next() == "[":
            for _ in self.items():
                pass
        elif self.next() == "{":
            self.take("{")
            for _ in self.names():
                self.skip()
        else:
            self.value()

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
