"""Reading Parquet through Python files.

Arrow reads ahead in threads of its own (`pre_buffer`), and these hold the Python file. A thread that still does so
while the interpreter ends is stopped inside C++ code. That aborts the process: "terminate called without an active
exception", exit code 134, after a command that did its work. So nothing here reads ahead.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmixer.artifacts import files
from vlmixer.artifacts.boxes import MAX_SCORE
from vlmixer.artifacts.errors import UserError

MAX_TIMES, MAX_UNPACKED = 200, 1 << 26
"""A column of a row group may unpack to this many times its size, or to this many bytes if that is more."""
_NUMBER = 8
"""Bytes of a number in memory, at most."""


def open_parquet(file: IO[bytes], *, buffer_size: int = 0, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """The Parquet file, opened for reading by row groups.

    buffer_size: bytes read at a time, 0 for whole columns. dictionaries: columns whose repeated values are kept once.
    """
    return pq.ParquetFile(file, read_dictionary=list(dictionaries), buffer_size=buffer_size, pre_buffer=False)


def refuse_bomb(table: pq.ParquetFile, group: int, columns: Sequence[str] | None = None) -> None:
    """Raises pyarrow.ArrowInvalid if a column of a row group (default: any) unpacks to far more than its size."""
    metadata = table.metadata.row_group(group)
    for column in map(metadata.column, range(metadata.num_columns)):
        packed, unpacked = column.total_compressed_size, column.total_uncompressed_size
        used = columns is None or column.path_in_schema.partition(".")[0] in columns
        if used and unpacked > max(MAX_TIMES * packed, MAX_UNPACKED):
            raise pa.ArrowInvalid(
                f"column {column.path_in_schema[:100]} of row group {group} unpacks to {unpacked:,} bytes, more than "
                f"{MAX_TIMES} times its size"
            )


def rows_at_once(table: pq.ParquetFile, file: IO[bytes], group: int, column: str, most: int) -> int:
    """The number of rows, at most `most`, whose values in `column` take no more than MAX_UNPACKED bytes.

    A value that many rows share is in the file once, and once for each row in memory.
    """
    names = [
        table.metadata.row_group(group).column(place).path_in_schema for place in range(table.metadata.num_columns)
    ]
    if column not in names:  # of lists or structs
        return most
    metadata = table.metadata.row_group(group).column(names.index(column))
    if not metadata.has_dictionary_page or metadata.total_uncompressed_size * most <= MAX_UNPACKED:
        return most
    shared = open_parquet(file, dictionaries=[column])
    batch = next(shared.iter_batches(1, row_groups=[group], columns=[column], use_threads=False), None)
    if batch is None or not pa.types.is_dictionary(batch.schema.field(0).type):
        return most
    values = batch.column(0).dictionary
    longest = max(pc.max(pc.binary_length(values)).as_py() or 0, 1)
    return min(most, max(MAX_UNPACKED // longest, 1))


def refuse_large(table: pq.ParquetFile, file: IO[bytes], group: int, columns: Sequence[str] | None = None) -> None:
    """Raises pyarrow.ArrowInvalid if a row group of a file that a stage wrote would fill the memory.

    Rows that share a value, or have the same one in a row, take next to nothing in the file. table: the opened `file`.
    columns: those that will be read, default: all.
    """
    refuse_bomb(table, group, columns)
    metadata = table.metadata.row_group(group)
    for column in map(metadata.column, range(metadata.num_columns)):
        name = column.path_in_schema
        if columns is not None and name.partition(".")[0] not in columns:
            continue
        most = max(MAX_TIMES * column.total_compressed_size, MAX_UNPACKED)
        texts = column.physical_type == "BYTE_ARRAY"
        if column.num_values * (column.total_uncompressed_size if texts else _NUMBER) <= most:
            continue
        delta = any(code.startswith("DELTA") for code in column.encodings)
        if texts and not delta and (not column.has_dictionary_page or _unshared(file, group, column, most) <= most):
            continue
        raise pa.ArrowInvalid(f"column {name[:100]} of row group {group} has values that fill the memory")


def _unshared(file: IO[bytes], group: int, column: pq.ColumnChunkMetaData, most: int) -> int:
    """The bytes of a column of texts, which may be in lists and structs, if each has its own; or a bound below `most`,
    which takes less time."""
    name = column.path_in_schema
    shared = open_parquet(file, dictionaries=[name])
    first = next(shared.iter_batches(1, row_groups=[group], columns=[name], use_threads=False), None)
    values = None if first is None else _texts(first.column(0))
    if values is not None and pa.types.is_dictionary(values.type):
        longest = pc.max(pc.binary_length(values.dictionary)).as_py() or 0
        if (bound := longest * column.num_values + column.total_uncompressed_size) <= most:
            return int(bound)
    found = 0
    for part in map(_texts, shared.read_row_group(group, columns=[name], use_threads=False).column(0).chunks):
        if pa.types.is_dictionary(part.type):
            found += pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() or 0
        else:
            found += part.nbytes
    return found


def _texts(values: pa.Array) -> pa.Array:
    """The texts themselves, of lists or structs of them."""
    while pa.types.is_nested(values.type):
        values = values.field(0) if pa.types.is_struct(values.type) else values.flatten()
    return values


def read_parquet(file: IO[bytes], columns: Sequence[str] | None = None) -> pa.Table:
    """All rows of the Parquet file, read in this thread."""
    return open_parquet(file).read(columns=None if columns is None else list(columns), use_threads=False)


@contextmanager
def damage_named(path: str) -> Iterator[IO[bytes]]:
    """Open a file for reading. Damage found in the block becomes a UserError that names the file."""
    try:
        with files.open_read(path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise damaged(path, str(error)) from error


def damaged(path: str, what: str) -> UserError:
    """The error for a file that a stage wrote, and that is not what it wrote."""
    return UserError(
        f"{path}: cannot be read ({what}). Run `vlmixer verify` on the output folder, then the stage that "
        "wrote it with --overwrite."
    )


WidthOf = Callable[[pa.Schema], pa.Schema]
"""Gives the schema to expect by the schema of the file, where a width may vary."""


class OwnTable:
    """A Parquet file of a finished stage, open for reading, whose columns are those that we write.

    Whoever changed it meanwhile, by accident or in malice, makes no row of it a surprise to what reads it: what is read
    has no nulls, its numbers are finite, its boxes are inside their images, its scores are from 0 to 1, and its texts
    are valid UTF-8.
    """

    def __init__(self, file: IO[bytes], schema: pa.Schema | WidthOf, finite: bool = True) -> None:
        """finite: whether a number that is not finite, a box outside of its image, or a score above 1 is a flaw.

        Raises pyarrow.ArrowInvalid if the file has other columns."""
        self._python_file, self._file, self._finite = file, open_parquet(file), finite
        found = self._file.schema_arrow
        expected: pa.Schema = schema if isinstance(schema, pa.Schema) else schema(found)
        if not found.equals(expected):
            raise pa.ArrowInvalid(f"columns or types are not {', '.join(expected.names)} as documented")

    @property
    def row_groups(self) -> list[int]:
        """The number of rows of each row group."""
        metadata = self._file.metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows. Raises pyarrow.ArrowInvalid for a `flaw` or a text that is none."""
        for number in range(self._file.metadata.num_row_groups):
            refuse_large(self._file, self._python_file, number, columns)
        names = None if columns is None else list(columns)
        return _sound(self._file.read(columns=names, use_threads=False), self._finite)

    def read_row_group(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one row group. Raises pyarrow.ArrowInvalid for a `flaw` or a text that is none, or if there is no
        such group."""
        if not 0 <= number < self._file.metadata.num_row_groups:
            raise pa.ArrowInvalid(f"no row group {number}")
        refuse_large(self._file, self._python_file, number, columns)
        names = None if columns is None else list(columns)
        return _sound(self._file.read_row_group(number, columns=names, use_threads=False), self._finite)


@contextmanager
def reading(path: str, schema: pa.Schema | WidthOf, finite: bool = True) -> Iterator[OwnTable]:
    """Open a file of a finished stage. Damage found in the block becomes a UserError that names the file.

    finite: whether a number that is not finite, a box outside of its image, or a score above 1 is damage; if not,
    whoever reads must look for it.
    """
    with damage_named(path) as file:
        yield OwnTable(file, schema, finite)


def _sound(table: pa.Table, finite: bool) -> pa.Table:
    table.validate(full=True)
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks:
            if found := flaw(chunk, finite):
                raise pa.ArrowInvalid(f"{found} in column {name}")
    if finite and (found := region_flaw(table)):
        raise pa.ArrowInvalid(found)
    return table


def boxes_inside(table: pa.Table) -> np.ndarray:
    """(n,) bool: whether the box of each row, of columns box, width and height, lies in its image and is not empty."""
    if not len(table):
        return np.ones(0, bool)
    boxes = table["box"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    sides = np.stack([table["width"].to_numpy(), table["height"].to_numpy()], axis=1)
    inside: np.ndarray = ((boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= sides)).all(axis=1)
    return inside


def region_flaw(table: pa.Table) -> str:
    """ "a box that is not inside its image" or "a score that is not from 0 to 1" if the table has such columns, and in
    them one that is that; "" if not."""
    names = set(table.column_names)
    if {"box", "width", "height"} <= names and not boxes_inside(table).all():
        return "a box that is not inside its image"
    if "score" in names and not scores_possible(table):
        return "a score that is not from 0 to 1"
    return ""


def scores_possible(table: pa.Table) -> bool:
    """Whether all scores of regions or patches are from 0 to 1."""
    scores = table["score"].to_numpy()
    return not len(scores) or bool(scores.min() >= 0 and scores.max() <= MAX_SCORE)


def flaw(values: pa.Array, finite: bool = True) -> str:
    """ "a null" or, with `finite`, "a number that is not finite" if there is one at any depth, "" if there is none."""
    if values.null_count:
        return "a null"
    if pa.types.is_struct(values.type):
        return next(filter(None, (flaw(part, finite) for part in values.flatten())), "")
    if pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type):
        return flaw(values.flatten(), finite)
    if finite and pa.types.is_floating(values.type) and not np.isfinite(values.to_numpy(zero_copy_only=False)).all():
        return "a number that is not finite"
    return ""
