"""Arrow files of the work folder that pass rows on from one pass to the next, in record batches."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files


def read_batch(folder: str, unit: str, number: int) -> pa.RecordBatch:
    """A record batch of a unit's file."""
    with files.open_read(files.join(folder, f"{unit}.arrow")) as file, pa.ipc.open_file(file) as reader:
        return reader.get_batch(number)


def write_batches(
    folder: str, unit: str, schema: pa.Schema, tables: Iterable[pa.Table], *, packed: bool = False
) -> None:
    """Write a unit's file: one record batch for each table, even if it has no rows. packed: for tables of text."""
    options = pa.ipc.IpcWriteOptions(compression="zstd" if packed else None)
    path = files.join(folder, f"{unit}.arrow")
    with files.publishing(path) as file, pa.ipc.new_file(file, schema, options=options) as writer:
        for table in tables:
            columns = [column.combine_chunks() for column in table.combine_chunks().columns]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def write_by_number(
    folder: str, unit: str, table: pa.Table, numbers: np.ndarray, batches: int, *, packed: bool = False
) -> None:
    """Write a unit's file: for each number below `batches` a record batch of the rows with it, in their order.

    numbers: (rows,) int. packed: see `write_batches`.
    """
    order = np.argsort(numbers, kind="stable")
    bounds = np.searchsorted(numbers[order], np.arange(batches + 1)).tolist()
    pieces = (table.take(pa.array(order[begin:end])) for begin, end in pairwise(bounds))
    write_batches(folder, unit, table.schema, pieces, packed=packed)
