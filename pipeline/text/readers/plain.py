"""Plain text: one sentence per line, or paragraphs of running text.

Files with any other ending are read here, too, so the first bytes are looked at: JSON lines are read as such, a table
with the right column as a table, and a table without names of its columns is refused.
"""

from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import BlankLines, ReadOptions, Record, TextSlice, Unusable, decode_text
from vlmixer.pipeline.text.readers.fields import column_number
from vlmixer.pipeline.text.readers.json_lines import JsonLines
from vlmixer.pipeline.text.readers.lines import lines, paragraphs
from vlmixer.pipeline.text.readers.packing import head_of
from vlmixer.pipeline.text.readers.sniffing import HEAD_BYTES, delimiter_of, is_json_lines, is_table
from vlmixer.pipeline.text.readers.table import TextTable, refusal


class PlainText:
    """A text per line or paragraph; the position is the byte at which it begins."""

    splits = True
    is_text = True
    errors: tuple[type[Exception], ...] = TextTable.errors

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        head = head_of(text_slice.name, file, HEAD_BYTES)
        first = text_slice.start == 0
        delimiter = delimiter_of(head, options.field)
        if column_number(options.field) is not None and is_table(head):
            delimiter = "\t"
        if is_json_lines(head):
            yield from JsonLines().read(text_slice, file, options)
        elif delimiter is not None:
            # A table cannot be split: who reads the beginning reads all of it.
            yield from TextTable(delimiter).read(text_slice, file, options) if first else ()
        elif is_table(head):
            yield from (Record(-1, Unusable("missing_field", refusal(head, "\t"))),) if first else ()
        else:
            find = paragraphs if options.running_text else lines
            for position, data in find(text_slice, file, options.max_line_bytes):
                yield Record(position, data if isinstance(data, BlankLines) else decode_text(data, options))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        return position - text_slice.start
