"""Tables of delimited text, .csv and .tsv: the column that `text.field` names in the first line."""

import codecs
import csv
from collections.abc import Iterator
from typing import IO

from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable
from vlmixer.pipeline.text.readers.packing import unpack


class TextTable:
    """A record per row; the position is the row's number, the first below the header being 0."""

    splits = False
    is_text = True
    errors: tuple[type[Exception], ...] = (csv.Error,)

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        # Invalid UTF-8 becomes lone surrogates, which spoil only the row that holds them.
        text = codecs.getreader("utf-8-sig")(unpack(text_slice.name, file), "surrogateescape")
        rows = csv.reader(text, delimiter=self._delimiter, strict=False)
        header = [cell.strip() for cell in next(rows, [])]
        count = header.count(options.field)
        if count != 1:
            found = "no column" if count == 0 else f"{count} columns"
            detail = (
                f"{found} {options.field!r} in the first line: {', '.join(header)[:200]}; expected the names of the "
                "columns there, and text.field to be one of them"
            )
            yield Record(-1, Unusable("missing_field", detail))
            return
        column = header.index(options.field)
        for number, row in enumerate(rows):
            if column < len(row):
                yield Record(number, row[column])
            elif row:
                yield Record(number, Unusable("missing_field", f"{len(row)} columns, expected {len(header)}"))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("tables are not split")
