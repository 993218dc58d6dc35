"""JSON lines: one object per line, with the text in a field."""

from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import BlankLines, ReadOptions, Record, TextSlice, Unusable, decode_text
from vlmixer.pipeline.text.readers.fields import text_of_json
from vlmixer.pipeline.text.readers.lines import lines


class JsonLines:
    """A record per line; the position is the byte at which the line begins."""

    splits = True
    is_text = True
    errors: tuple[type[Exception], ...] = ()

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        for position, data in lines(text_slice, file, options.max_line_bytes):
            text = data if isinstance(data, BlankLines) else decode_text(data, options)
            if isinstance(text, BlankLines | Unusable):
                yield Record(position, text)
            elif not text.strip():
                yield Record(position, Unusable("empty_line"))
            else:
                yield Record(position, text_of_json(text, options.field))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        return position - text_slice.start
