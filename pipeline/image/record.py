"""What became of every image: regions/record/images.parquet, one row per image that was read, one row group per unit.

With it an image need not be looked at again. `vlmixer run --extend` takes over what an earlier run found in unchanged
images, and `vlmixer drop` makes the results without some images from it alone. regions/record/inputs.parquet has
the files that the stage was planned with.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files, manifest, memory, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.parquet import damage_named, read_parquet, reading
from vlmixer.pipeline.image.photos import MetImage
from vlmixer.pipeline.image.readers.references import SURVEY_SCHEMA, refs_table

IMAGES, INPUTS = schemas.REGIONS_IMAGES, "record/inputs.parquet"
"""In a folder of their own, so that regions/*.parquet are the parts."""
NO_REGION = "no_region"

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
    ]
)
"""docs/on-disk.md explains the columns."""
INPUTS_SCHEMA = pa.schema([pa.field("name", pa.string()), pa.field("size", pa.int64())])


def record_table(met: Sequence[MetImage]) -> pa.Table:
    """The images of a unit as a table of schema SCHEMA."""
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
    return table.cast(SCHEMA)


def write_unit(path: str, met: Sequence[MetImage]) -> None:
    """Write the record of a unit, for `join_units`."""
    with schemas.writing_parquet(path, SCHEMA) as writer:
        writer.write_table(record_table(met))


def join_units(folder: str, paths: Iterable[str]) -> Output:
    """Write images.parquet to `folder`, of the records of all units, in order."""
    rows = 0
    with schemas.writing_parquet(files.join(folder, IMAGES), SCHEMA) as writer:
        for path in paths:
            with reading(path, SCHEMA) as part:
                table = part.read()
            writer.write_table(table)
            rows += len(table)
    return manifest.output_of(folder, IMAGES, rows)


def write_inputs(folder: str, inputs: Collection[Mapping[str, Any]]) -> Output:
    """Write inputs.parquet to `folder`: the files of a plan (`Plan.inputs`)."""
    names, sizes = ([entry[key] for entry in inputs] for key in ("name", "size"))
    table = pa.table([names, sizes], schema=INPUTS_SCHEMA)
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


def read_record(folder: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of images.parquet in `folder`, in the order of units."""
    with reading(files.join(folder, IMAGES), SCHEMA) as table:
        return table.read(columns)


def read_unit(folder: str, number: int) -> pa.Table:
    """The record of one unit."""
    with reading(files.join(folder, IMAGES), SCHEMA) as table:
        return table.read_row_group(number)
