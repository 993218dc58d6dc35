"""Plain text: one sentence per line, or paragraphs of running text."""

from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, decode
from vlmixer.pipeline.text.readers.lines import lines, paragraphs


class PlainText:
    """A text per line or paragraph; the position is the byte at which it begins."""

    splits = True
    errors: tuple[type[Exception], ...] = ()

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        find = paragraphs if options.running_text else lines
        for position, data in find(text_slice, file, options.max_line_bytes):
            yield Record(position, decode(position, data, options))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        return position - text_slice.start
