"""Canonical JSON: UTF-8 with sorted keys and a newline at the end, so that equal values give equal bytes.

Manifests have hundreds of thousands of entries. So records become text one at a time, by the encoder that is
written in C, which the standard library does not use for text with line breaks.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from vlmixer.artifacts import details

_CONTAINERS = (dict, list, tuple)


def canonical(value: Any, indent: int | None = None) -> bytes:
    """The bytes of plain data. indent: None for one line, or 1."""
    return (_text(value, None if indent is None else 0) + "\n").encode()


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical(value)).hexdigest()


def digest_of_many(entries: Iterable[Any], before: Sequence[Any] | None = None) -> str:
    """`digest([*entries])`, or `digest([*before, [*entries]])` if there is something before them.

    One entry is in memory at a time: there may be millions.
    """
    hashed = hashlib.sha256(b"[" if before is None else canonical(before)[:-2] + b", [")
    for number, entry in enumerate(entries):
        hashed.update((b", " if number else b"") + canonical(entry)[:-1])
    hashed.update(b"]\n" if before is None else b"]]\n")
    return hashed.hexdigest()


def pieces(content: Mapping[str, Any], indent: int | None = None) -> Iterator[bytes]:
    """`canonical(content, indent)` in pieces, one for each item of the lists that `content`, not empty, holds.

    Items of these lists, and no other values, may be records (`details.to_json`).
    """
    inner, outer = ("", "") if indent is None else ("\n ", "\n")
    yield b"{"
    for number, name in enumerate(sorted(content)):
        yield f"{_comma(indent) if number else ''}{inner}{_text(name, None)}: ".encode()
        value = content[name]
        if isinstance(value, list) and value:
            for place, item in enumerate(value):
                before = f"{_comma(indent) if place else '['}{inner and inner + ' '}"
                yield (before + _text(details.to_json(item), None if indent is None else 2)).encode()
            yield f"{inner}]".encode()
        else:
            yield _text(value, None if indent is None else 1).encode()
    yield f"{outer}}}\n".encode()


def _comma(indent: int | None) -> str:
    return ", " if indent is None else ","


def _text(value: Any, depth: int | None) -> str:
    """The JSON of plain data. depth: in how many others it is, which is how far it is indented; None: in one line."""
    if depth is None or not isinstance(value, _CONTAINERS) or not value:
        return _encoder(None).encode(value)
    outer, inner = "\n" + " " * depth, "\n" + " " * (depth + 1)
    values = list(value.values()) if isinstance(value, dict) else value
    if not any(isinstance(each, _CONTAINERS) for each in values):
        flat = _encoder(depth).encode(value)
        return f"{flat[0]}{inner}{flat[1:-1]}{outer}{flat[-1]}"
    if isinstance(value, dict):
        items = [f"{_encoder(None).encode(key)}: {_text(value[key], depth + 1)}" for key in sorted(value)]
        return f"{{{inner}{f',{inner}'.join(items)}{outer}}}"
    return f"[{inner}{f',{inner}'.join(_text(each, depth + 1) for each in value)}{outer}]"


@lru_cache
def _encoder(depth: int | None) -> json.JSONEncoder:
    """For text in one line, or for the items of a container with line breaks between them."""
    comma = ", " if depth is None else ",\n" + " " * (depth + 1)
    return json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(comma, ": "))
