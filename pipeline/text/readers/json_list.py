"""JSON files: COCO captions, {"annotations": [{"caption": …}, …]}, or a list of texts or objects at the top."""

from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable, text_of
from vlmixer.pipeline.text.readers.json_stream import BLOCK_CHARACTERS, BrokenJson, json_records
from vlmixer.pipeline.text.readers.packing import unpack


class JsonList:
    """A record per item of the list, which is read as a stream; the position is the item's number."""

    splits = False
    errors: tuple[type[Exception], ...] = (BrokenJson,)

    def __init__(self, block_characters: int = BLOCK_CHARACTERS) -> None:
        self._block = block_characters

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        stream = unpack(text_slice.name, file)
        row = -1
        for row, item in enumerate(json_records(stream, "annotations", self._block, options.max_line_bytes)):
            yield Record(row, item if isinstance(item, str) else text_of(item, options.field))
        if row < 0:
            yield Record(
                -1, Unusable("unreadable_file", 'expected a list that is not empty, at the top or as "annotations"')
            )

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("JSON files are not split")
