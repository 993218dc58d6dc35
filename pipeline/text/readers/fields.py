"""`text.field`: the way to the texts in a record, and what to write where a record has none there.

A field is a key, or a path of keys with `*` for each item of a list and each value of an object:
`conversations.*.value`, `images.*.sentences.*.raw`. In a table it is a column's name, or `column 2` without a header.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from vlmixer.pipeline.text.readers.base import Unusable

EACH = "*"
USUAL = (
    "caption", "captions", "text", "raw", "sentence", "phrase", "question", "caption_str", "description", "comment",
    "title", "value", "content", "alt", "alt_text",
)  # fmt: skip
"""Names that texts usually have, the likeliest first."""
MAX_LOOKED_AT = 400
_COLUMN = re.compile(r"column (\d+)")
_ID = re.compile(r".*\d.*|.*\.\w{2,5}", re.DOTALL)
"""Keys of a map from ids or file names, not of a record."""


@lru_cache(maxsize=64)
def field_path(field: str) -> tuple[str, ...]:
    """The keys of a field."""
    return tuple(field.split("."))


def column_number(field: str) -> int | None:
    """The column, from 0, that a field such as `column 2` means; None for other fields."""
    found = _COLUMN.fullmatch(field)
    return int(found[1]) - 1 if found and int(found[1]) else None


def text_of(record: object, field: str) -> str | list[Any] | Unusable:
    """The text or texts that a record holds in its field."""
    if isinstance(record, dict) and field in record:
        return _usable(record[field], record, field)
    path = field_path(field)
    return text_at(record, path, field) if len(path) > 1 or path == (EACH,) else _lacks(record, field)


def text_at(value: object, path: Sequence[str], field: str) -> str | list[Any] | Unusable:
    """The text or texts at a path below a value. field: the whole field, for messages."""
    if EACH not in path:
        for key in path:
            if not isinstance(value, Mapping) or key not in value:
                return _lacks(value, field)
            value = value[key]
        return _usable(value, value, field)
    found = list(_leaves(value, path))
    # One text that is missing costs that one, and a record without any is one reject.
    return found if any(isinstance(text, str) for text in found) else _lacks(value, field)


def text_of_json(text: str, field: str) -> str | list[Any] | Unusable:
    """The text or texts that a JSON object holds in its field."""
    try:
        record = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Unusable("not_json", str(error))
    return text_of(record, field)


def wrong_type(field: str, found: object) -> Unusable:
    """The reject of a field that holds something other than text."""
    return Unusable("missing_field", f"{field!r} is {type(found).__name__}, expected text")


def suggested(value: object, prefix: Sequence[str] = ()) -> str:
    """What to write to read the texts of a value such as this one; "" if it has none. prefix: the way to it."""
    found = [".".join(path) for path in _ways(value, tuple(prefix), [MAX_LOOKED_AT])]
    names = {name: rank for rank, name in enumerate(USUAL)}

    def rank(path: str) -> tuple[int, int]:
        keys = [key.lower() for key in path.split(".") if key != EACH]
        return (min([names.get(keys[-1], 99), 1 + names.get(keys[-2], 98) if len(keys) > 1 else 99]), len(path))

    best = min(found, key=lambda path: rank(path) if path.strip("*.") else (50, len(path)), default="")
    known = not best.strip("*.") or rank(best)[0] < 98
    return f"write text.field: {_quoted(best)}" if best and known else ""


def suggested_column(names: Sequence[str]) -> str:
    """What to write to read the column of texts; "" if no name is usual for one."""
    lower = {name.lower(): name for name in reversed(names)}
    best = next((lower[name] for name in USUAL if name in lower), "")
    return f"write text.field: {_quoted(best)}" if best else ""


def _quoted(field: str) -> str:
    return f'"{field}"' if field.startswith(EACH) else field


def _usable(found: object, record: object, field: str) -> str | list[Any] | Unusable:
    if isinstance(found, str) or (isinstance(found, list) and found):
        return found
    return wrong_type(field, found)


def _lacks(record: object, field: str) -> Unusable:
    if not isinstance(record, Mapping):
        return wrong_type(field, None if not isinstance(record, list) else record)
    advice = suggested(record)
    keys = ", ".join(map(repr, record))[:100]
    return Unusable("missing_field", f"{field!r} is missing among {keys}{'; ' + advice if advice else ''}")


def _leaves(value: object, path: Sequence[str]) -> Iterator[object]:
    """What is at the path; None where a record lacks it."""
    if not path:
        yield from value if isinstance(value, list) else [value]
    elif path[0] == EACH:
        items: Any = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
        for item in items:
            yield from _leaves(item, path[1:])
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _leaves(value[path[0]], path[1:])
    else:
        yield None


def _ways(value: object, path: tuple[str, ...], left: list[int]) -> Iterator[tuple[str, ...]]:
    """The ways to texts that may be sentences. left: how many values may still be looked at."""
    left[0] -= 1
    if left[0] < 0:
        return
    if isinstance(value, str):
        if " " in value.strip() and "://" not in value:
            yield path
    elif isinstance(value, list):
        for item in value[:3]:
            # A list of texts is read without a *.
            yield from _ways(item, path if isinstance(item, str) and path else (*path, EACH), left)
    elif isinstance(value, Mapping) and len(value) > 1 and all(map(_ID.fullmatch, value)):
        for inner in list(value.values())[:3]:
            yield from _ways(inner, (*path, EACH), left)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, str) and "." not in key:
                yield from _ways(inner, (*path, key), left)
