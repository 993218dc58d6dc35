"""What became of every image: regions/record/images.parquet, one row per image that was read, in the order of units.

With it an image need not be looked at again. `vlmixer run --extend` takes over what an earlier run found in unchanged
images, and `vlmixer drop` makes the results without some images from it alone. regions/record/inputs.parquet has
the files that the stage was planned with.
"""

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files, manifest, memory, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.parquet import OwnTable, damage_named, damaged, read_parquet, reading
from vlmixer.pipeline.image.photos import MetImage
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA, refs_table

IMAGES, INPUTS = schemas.REGIONS_IMAGES, "record/inputs.parquet"
"""In a folder of their own, so that regions/*.parquet are the parts."""
NO_REGION = "no_region"
UNIT = "unit"
UNITS_PER_ROW_GROUP, ROWS_PER_ROW_GROUP = 64, 1 << 17
"""A row group ends after this many units, or with the unit that fills it. Parquet holds 45 kB for each row group of an
open file, read or written, so there must not be one for each unit."""

SCHEMA = pa.schema(
    [
        *(field for field in SURVEY_SCHEMA if field.name not in ("reason", "detail")),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reader", pa.string(), nullable=False),
        pa.field("one_unit", pa.bool_(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("sha256", pa.binary(32), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field(UNIT, pa.int32(), nullable=False),
    ]
)
"""docs/on-disk.md explains the columns."""
_OF_UNIT = pa.schema([field for field in SCHEMA if field.name != UNIT])
"""Of a unit's own file."""
INPUTS_AT_ONCE = 4096
INPUTS_SCHEMA = pa.schema([pa.field("name", pa.string()), pa.field("size", pa.int64())])


def record_table(met: Sequence[MetImage]) -> pa.Table:
    """The images of a unit as a table of schema SCHEMA without UNIT."""
    # Times are in no result: photos that were only touched or copied give the same bytes.
    table = refs_table([replace(image.ref, stamp="") for image in met]).drop_columns(["reason", "detail"])
    columns: Mapping[str, list[Any]] = {
        "image_id": [image.ref.image_id for image in met],
        "part": [image.rows.part for image in met],
        "row": [image.row for image in met],
        "reader": [image.rows.reader for image in met],
        "one_unit": [image.rows.one_unit for image in met],
        "bytes": [image.content.size for image in met],
        "sha256": [image.content.sha256 for image in met],
        "width": [image.width for image in met],
        "height": [image.height for image in met],
        "reason": [image.reason for image in met],
        "detail": [image.detail for image in met],
    }
    for name, values in columns.items():
        table = table.append_column(SCHEMA.field(name), pa.array(values, SCHEMA.field(name).type))
    return table.cast(_OF_UNIT)


def write_unit(path: str, met: Sequence[MetImage]) -> None:
    """Write the record of a unit, for `join_units`."""
    with schemas.writing_parquet(path, _OF_UNIT) as writer:
        writer.write_table(record_table(met))


def join_units(
    folder: str,
    paths: Sequence[str],
    units_per_group: int = UNITS_PER_ROW_GROUP,
    rows_per_group: int = ROWS_PER_ROW_GROUP,
) -> Output:
    """Write images.parquet to `folder`, of the records of all units, in order."""
    rows = 0
    with schemas.writing_parquet(files.join(folder, IMAGES), SCHEMA) as writer:
        held: list[pa.Table] = []
        for number, table in enumerate(_units(paths)):
            held.append(table.append_column(SCHEMA.field(UNIT), pa.array(np.full(len(table), number, np.int32))))
            if len(held) == units_per_group or sum(map(len, held)) >= rows_per_group:
                rows += _write(writer, held)
        if held:
            rows += _write(writer, held)
    return manifest.output_of(folder, IMAGES, rows)


def _units(paths: Sequence[str]) -> Iterator[pa.Table]:
    """The records of units, read some at a time: those of an object store in parallel."""
    for start in range(0, len(paths), UNITS_PER_ROW_GROUP):
        some = paths[start : start + UNITS_PER_ROW_GROUP]
        for path, data in zip(some, files.read_all(some), strict=True):
            try:
                yield OwnTable(io.BytesIO(data), _OF_UNIT).read()
            except pa.ArrowException as error:
                raise damaged(path, str(error)) from error


def _write(writer: pq.ParquetWriter, held: list[pa.Table]) -> int:
    """Write the tables as one row group, and forget them; the number of rows."""
    table = pa.concat_tables(held).unify_dictionaries().combine_chunks()
    writer.write_table(table, row_group_size=max(len(table), 1))
    held.clear()
    return len(table)


def write_inputs(folder: str, inputs: Collection[Mapping[str, Any]]) -> Output:
    """Write inputs.parquet to `folder`: the files of a plan (`Plan.inputs`)."""
    entries = iter(inputs)
    parts = iter(lambda: list(islice(entries, INPUTS_AT_ONCE)), [])
    table = pa.Table.from_batches((pa.RecordBatch.from_pylist(part, INPUTS_SCHEMA) for part in parts), INPUTS_SCHEMA)
    with files.publishing(files.join(folder, INPUTS)) as file:
        pq.write_table(table, file, compression="zstd", write_statistics=False)
    rows = len(table)
    del table
    memory.give_back()
    return manifest.output_of(folder, INPUTS, rows)


def read_inputs(folder: str) -> list[dict[str, Any]]:
    """What `write_inputs` wrote."""
    with damage_named(files.join(folder, INPUTS)) as file:
        table = read_parquet(file)
        if not table.schema.equals(INPUTS_SCHEMA):
            raise pa.ArrowInvalid(f"columns or types are not {', '.join(INPUTS_SCHEMA.names)} as documented")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def each_group(folder: str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of images.parquet in `folder`, in the order of units. Of all images they would fill the memory."""
    with reading(files.join(folder, IMAGES), as_recorded) as table:
        for number in range(len(table.row_groups)):
            yield table.read_row_group(number, columns)


def row_groups(folder: str) -> list[int]:
    """The number of rows of each row group."""
    with reading(files.join(folder, IMAGES), as_recorded) as table:
        return table.row_groups


def read_group(folder: str, number: int) -> pa.Table:
    """A row group, with schema SCHEMA."""
    with reading(files.join(folder, IMAGES), as_recorded) as table:
        return _with_unit(table, number)


def as_recorded(found: pa.Schema) -> pa.Schema:
    """The schema to expect: SCHEMA, or that of older versions, which wrote one row group per unit."""
    return SCHEMA if UNIT in found.names else _OF_UNIT


def _with_unit(table: OwnTable, number: int) -> pa.Table:
    found = table.read_row_group(number)
    if UNIT in found.column_names:
        return found
    return found.append_column(SCHEMA.field(UNIT), pa.array(np.full(len(found), number, np.int32)))
