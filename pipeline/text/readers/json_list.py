"""JSON files: COCO captions, {"annotations": [{"caption": …}, …]}, a list of texts or objects at the top, or whatever
else a path in `text.field` leads to: `images.*.sentences.*.raw`.

Many files with this ending hold JSON lines, or one object with a caption; these are read, too.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from vlmixer.artifacts.json_stream import BLOCK_CHARACTERS, BrokenJson, json_at, json_records, json_sample
from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable
from vlmixer.pipeline.text.readers.fields import EACH, field_path, suggested, text_at, text_of
from vlmixer.pipeline.text.readers.json_lines import JsonLines
from vlmixer.pipeline.text.readers.packing import head_of, unpack

_EXPECTED = (
    'expected a list that is not empty, at the top or as "annotations"; give the way to the texts as text.field, with '
    "* for each item of a list or value of an object, or convert the file to JSON lines (.jsonl)"
)


class JsonList:
    """A record per item of the list, which is read as a stream; the position is the item's number."""

    splits = False
    is_text = True
    errors: tuple[type[Exception], ...] = (BrokenJson,)

    def __init__(self, block_characters: int = BLOCK_CHARACTERS) -> None:
        self._block = block_characters

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        limit = options.max_line_bytes
        head = head_of(text_slice.name, file, limit + 1)
        if is_json_lines(head, limit):
            yield from JsonLines().read(text_slice, file, options)
            return
        single = _object(head) if len(head) <= limit else None
        if single is not None and options.field in single:
            yield Record(0, text_of(single, options.field))
            return
        row = -1
        path = field_path(options.field)
        if len(path) > 1 or path == (EACH,):
            stream = json_at(unpack(text_slice.name, file), path, self._block, limit)
            for row, (item, rest) in enumerate(stream):
                yield Record(row, text_at(item, rest, options.field))
            if row < 0:
                yield Record(-1, Unusable("missing_field", self._refusal(text_slice.name, file, options)))
            return
        for row, item in enumerate(json_records(unpack(text_slice.name, file), "annotations", self._block, limit)):
            yield Record(row, item if isinstance(item, str) else text_of(item, options.field))
        if row < 0:
            yield Record(-1, Unusable("unreadable_file", self._refusal(text_slice.name, file, options)))

    def _refusal(self, name: str, file: IO[bytes], options: ReadOptions) -> str:
        """What the file holds instead of the field, and what to write."""
        file.seek(0)
        keys, sample = json_sample(unpack(name, file), self._block, options.max_line_bytes)
        found = f"found an object with the keys {', '.join(map(repr, keys))[:150]}; " if keys else ""
        return f"nothing at {options.field!r}; {found}{suggested(sample) or _EXPECTED}"

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("JSON files are not split")


def is_json_lines(head: bytes, limit: int) -> bool:
    """Whether the first two lines that are not blank are objects, each whole or cut off by the head's end."""
    whole = head if len(head) <= limit else head.rpartition(b"\n")[0]
    lines = [line for line in whole.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    return len(lines) > 1 and _object(lines[0]) is not None and lines[1].lstrip().startswith(b"{")


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        # As floats, integers of any length are fast to read.
        value = json.loads(data.removeprefix(b"\xef\xbb\xbf"), parse_int=float)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
