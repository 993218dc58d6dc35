"""Reading Parquet through Python files.

Arrow reads ahead in threads of its own (`pre_buffer`), and these hold the Python file. A thread that still does so
while the interpreter ends is stopped inside C++ code. That aborts the process: "terminate called without an active
exception", exit code 134, after a command that did its work. So nothing here reads ahead.
"""

from collections.abc import Sequence
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(file: IO[bytes], *, buffer_size: int = 0) -> pq.ParquetFile:
    """The Parquet file, opened for reading by row groups. buffer_size: bytes read at a time, 0 for whole columns."""
    return pq.ParquetFile(file, buffer_size=buffer_size, pre_buffer=False)


def read_parquet(file: IO[bytes], columns: Sequence[str] | None = None, schema: pa.Schema | None = None) -> pa.Table:
    """All rows of the Parquet file, read in this thread. Raises pyarrow.ArrowInvalid if they do not fit `schema`."""
    table = open_parquet(file).read(columns=None if columns is None else list(columns), use_threads=False)
    return table if schema is None else table.cast(schema)
