"""JSON files: COCO captions, {"annotations": [{"caption": …}, …]}, or a list of texts or objects at the top.

Many files with this ending hold JSON lines, or one object with a caption; these are read, too.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable, text_of
from vlmixer.pipeline.text.readers.json_lines import JsonLines
from vlmixer.pipeline.text.readers.json_stream import BLOCK_CHARACTERS, BrokenJson, json_records
from vlmixer.pipeline.text.readers.packing import head_of, unpack

_EXPECTED = (
    'expected a list that is not empty, at the top or as "annotations"; convert other layouts to JSON lines (.jsonl) '
    "with the text in the field that text.field names"
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
        for row, item in enumerate(json_records(unpack(text_slice.name, file), "annotations", self._block, limit)):
            yield Record(row, item if isinstance(item, str) else text_of(item, options.field))
        if row < 0:
            keys = "" if single is None else f"found an object with the keys {', '.join(map(repr, single))[:200]}; "
            yield Record(-1, Unusable("unreadable_file", keys + _EXPECTED))

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
