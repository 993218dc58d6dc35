"""The names of images in the rows of Parquet files. regions/ has their row numbers, which no annotation file knows."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.artifacts.parquet import open_parquet
from vlmixer.model.tasks.files import identifier

COLUMNS = ("file_name", "filename", "image_name", "image.path", "path", "image_id", "imageid", "img_id", "cocoid", "id")
"""Columns with names or ids, the best first, in lower case. `image.path` is where Hugging Face's data sets have it."""


def row_names(path: str) -> list[str]:
    """What the image of each row is called; [] if the file is gone, or no column says."""
    try:
        with files.open_read(path) as file:
            parquet = open_parquet(file)
            columns = {name.lower(): name for name in _leaves(parquet.schema_arrow)}
            for name in COLUMNS:
                if name not in columns:
                    continue
                found = parquet.read(columns=[columns[name]], use_threads=False).to_pylist()
                names = [identifier(_inner(row, columns[name].split("."))) for row in found]
                if all(names):
                    return names
    except (OSError, pa.ArrowException):
        pass
    return []


def _leaves(schema: pa.Schema) -> list[str]:
    """The names of the columns, and of the fields of structs as `column.field`."""
    found = []
    for column in schema:
        inner = [column.type.field(at).name for at in range(column.type.num_fields)] if _is_struct(column) else []
        found += [f"{column.name}.{name}" for name in inner] or [column.name]
    return found


def _is_struct(column: pa.Field) -> bool:
    return bool(pa.types.is_struct(column.type))


def _inner(row: Any, path: Sequence[str]) -> Any:
    for name in path:
        row = row.get(name) if isinstance(row, dict) else None
    return row
