"""Parquet: one text, or a list of texts, per row of a column."""

from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts.parquet import open_parquet, refuse_bomb, rows_at_once
from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable
from vlmixer.pipeline.text.readers.fields import field_path, suggested_column, text_of

ROWS_PER_BATCH = 4096
READ_BUFFER = 1 << 20
"""Bytes that are read at a time; without a limit, a row group's whole column."""


class ParquetColumn:
    """A record per row; the position is the row's number in the file. A row group belongs to the slice in which it
    begins."""

    splits = True
    is_text = False
    errors: tuple[type[Exception], ...] = (pa.ArrowException,)

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        table = open_parquet(file, buffer_size=READ_BUFFER)
        columns = table.schema_arrow.names
        column = options.field if options.field in columns else field_path(options.field)[0]
        if column not in columns:
            if text_slice.start == 0:
                advice = suggested_column(columns) or "write text.field: COLUMN"
                rows = table.metadata.num_rows
                detail = f"no column {options.field!r} in: {', '.join(columns)}; {rows} rows; {advice}"
                yield Record(-1, Unusable("missing_field", detail))
            return
        if (count := columns.count(column)) > 1:
            if text_slice.start == 0:
                yield Record(-1, Unusable("missing_field", f"{count} columns {column!r}; expected one"))
            return
        row = 0
        for group in range(table.num_row_groups):
            begin = begin_of(table.metadata.row_group(group))
            if begin >= text_slice.start and (text_slice.end < 0 or begin < text_slice.end):
                refuse_bomb(table, group, [column])
                rows = rows_at_once(table, file, group, column, ROWS_PER_BATCH)
                if rows < ROWS_PER_BATCH:  # long texts, each perhaps of many rows: it is unpacked once
                    shared = open_parquet(file, buffer_size=READ_BUFFER, dictionaries=[column])
                    yield from _row_group(shared, group, row, rows, column, options.field)
                else:
                    yield from _row_group(table, group, row, rows, column, options.field)
            row += table.metadata.row_group(group).num_rows

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        return text_slice.size * records // int(open_parquet(file).metadata.num_rows)


def _row_group(table: pq.ParquetFile, group: int, row: int, rows: int, column: str, field: str) -> Iterator[Record]:
    for batch in table.iter_batches(rows, row_groups=[group], columns=[column], use_threads=False):
        values = batch.column(0)
        if pa.types.is_dictionary(values.type):
            values, places = values.dictionary, values.indices.to_pylist()
            found = {place: _text(values[place], column, field) for place in set(places) if place is not None}
            none = text_of({column: None}, field)
            contents = [none if place is None else found[place] for place in places]
        else:
            contents = [_text(value, column, field) for value in values]
        for content in contents:
            yield Record(row, content)
            row += 1


def _text(value: pa.Scalar, column: str, field: str) -> Any:
    try:
        return text_of({column: value.as_py()}, field)
    except UnicodeDecodeError as error:
        return Unusable("not_utf8", str(error))


def begin_of(group: Any) -> int:
    """The byte of the file at which a row group begins."""
    columns = [group.column(index) for index in range(group.num_columns)]
    offsets = [column.data_page_offset for column in columns]
    return int(min(offsets + [column.dictionary_page_offset for column in columns if column.dictionary_page_offset]))
