"""Tables of delimited text: the column that `text.field` names in the first line, or, without header, `column 2`.

A cell may hold a JSON list of texts.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable
from vlmixer.pipeline.text.readers.fields import column_number, suggested_column
from vlmixer.pipeline.text.readers.packing import head_of, unpack
from vlmixer.pipeline.text.readers.sniffing import HEAD_BYTES, delimiter_of
from vlmixer.pipeline.text.readers.table_lines import TableLines


class TextTable:
    """A record per row; the position is the row's number, the first below the header being 0."""

    splits = False
    is_text = True
    errors: tuple[type[Exception], ...] = (csv.Error,)

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        head = head_of(text_slice.name, file, HEAD_BYTES)
        delimiter = delimiter_of(head, options.field) or self._delimiter
        # Invalid UTF-8 becomes lone surrogates, which spoil only the row that holds them.
        lines = TableLines(unpack(text_slice.name, file), "surrogateescape", options.max_line_bytes)
        yield from self._records(lines, delimiter, head, options)

    def _records(self, lines: TableLines, delimiter: str, head: bytes, options: ReadOptions) -> Iterator[Record]:
        column = column_number(options.field)
        if column is not None:
            for line in lines:
                if row := _cells(line.rstrip("\r\n"), delimiter):
                    yield Record(lines.number - 1, _cell(row, column, column + 1))
                else:
                    lines.pass_blank()
            return
        rows = csv.reader(lines, delimiter=delimiter, strict=False)
        header = [cell.strip() for cell in next(rows, [])]
        count = header.count(options.field)
        if count != 1:
            found = "no column" if count == 0 else f"{count} columns"
            detail = (
                f"{found} {options.field!r} in the first line: {', '.join(header)[:100]}; {_advice(head, delimiter)}"
            )
            yield Record(-1, Unusable("missing_field", detail))
            return
        number = -1
        for row in rows:
            number += 1
            if is_blank(row):
                number += lines.pass_blank(delimiter)
            else:
                yield Record(number, _cell(row, header.index(options.field), len(header)))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("tables are not split")


def is_blank(row: Sequence[str]) -> bool:
    """Whether the row of a table is a line of nothing but white space."""
    return not row or (len(row) == 1 and not row[0].strip())


def refusal(head: bytes, delimiter: str) -> str:
    """What to write for a table whose columns are not known. head: its first bytes."""
    return f"a table: {_advice(head, delimiter)}"


def _advice(head: bytes, delimiter: str) -> str:
    lines = head.decode("utf-8-sig", "replace").splitlines()[:20]
    delimiter = next((one for one in (delimiter, *"\t,;|") if lines and one in lines[0]), delimiter)
    rows = [row for line in lines if (row := _cells(line, delimiter))]
    names = [cell.strip() for cell in rows[0]] if rows else []
    if advice := suggested_column(names):
        return advice
    most = max((len(row) for row in rows), default=0)
    likeness = [sum(_words(row[column]) for row in rows if column < len(row)) for column in range(most)]
    if likeness and max(likeness) >= 2 * len(rows):
        return f"if it has no header, write text.field: column {likeness.index(max(likeness)) + 1}"
    return "expected the names of the columns there, and text.field to be one of them; or text.field: column N"


def _words(cell: str) -> int:
    return 0 if "://" in cell else len(cell.split())


def _cells(line: str, delimiter: str) -> list[str]:
    """The cells of a line. Between tabs, quotation marks are part of the text."""
    if not line.strip():
        return []
    return line.split(delimiter) if delimiter == "\t" else next(csv.reader([line], delimiter=delimiter), [])


def _cell(row: Sequence[str], column: int, width: int) -> str | list[Any] | Unusable:
    if column >= len(row):
        return Unusable("missing_field", f"{len(row)} columns, expected {width}")
    cell = row[column].strip() if row[column][:1] == " " else row[column]
    if cell.startswith('["') and cell.endswith('"]'):
        try:
            found = json.loads(cell)
        except (ValueError, RecursionError):
            return cell
        return found if isinstance(found, list) and found else cell
    return cell
