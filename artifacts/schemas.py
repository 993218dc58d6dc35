"""Arrow schemas of the Parquet files, and the only way to write them, so that equal rows give equal bytes."""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files

MENTION = pa.struct(
    [
        pa.field("start", pa.int32(), nullable=False),
        pa.field("end", pa.int32(), nullable=False),
        pa.field("concept", pa.string(), nullable=False),
        pa.field("surface", pa.string(), nullable=False),
        pa.field("lemma", pa.string(), nullable=False),
    ]
)

TAGGED = pa.schema(
    [
        pa.field("sentence_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("mentions", pa.list_(MENTION), nullable=False),
    ]
)

BOX = pa.list_(pa.float32(), 4)

PROVENANCE = ("source", "key", "url", "license")
"""Text columns of regions/ that say where an image is from. They are copied into the bank and into exports from it."""


REGIONS_IMAGES = "record/images.parquet"
"""In regions/: what became of every image. Its columns are those of pipeline/image/record.py."""

NOT_MEANT_FILE = "record/not-meant.parquet"
"""In tagged/, in a folder of its own, so that tagged/*.parquet are the parts."""

NOT_MEANT = pa.schema(
    [
        pa.field("sentence_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("not_meant", pa.list_(MENTION), nullable=False),
    ]
)
"""Sentences with words that are not meant as things."""


def regions(feature_dim: int) -> pa.Schema:
    """Schema of regions/: one row per region; the rows of an image are adjacent, best score first."""
    return pa.schema(
        [
            pa.field("image_id", pa.string(), nullable=False),
            pa.field("patch_id", pa.string(), nullable=False),
            pa.field("box", BOX, nullable=False),
            pa.field("concept", pa.string(), nullable=False),
            pa.field("score", pa.float32(), nullable=False),
            pa.field("feature", pa.list_(pa.float16(), feature_dim), nullable=False),
            pa.field("crop", pa.binary(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            *(pa.field(name, pa.string(), nullable=False) for name in PROVENANCE),
        ]
    )


def regions_as_wide_as(found: pa.Schema) -> pa.Schema:
    """Schema of regions/ for features of the width that a file has."""
    width = found.field("feature").type if "feature" in found.names else None
    return regions(width.list_size if width is not None and pa.types.is_fixed_size_list(width) else 1)


CONCEPTS = pa.schema(
    [
        pa.field("concept_id", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("synonyms", pa.list_(pa.string()), nullable=False),
        pa.field("first", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("candidates", pa.int64(), nullable=False),
        pa.field("near_duplicates", pa.int64(), nullable=False),
    ]
)

PATCHES = pa.schema(
    [
        pa.field("patch_id", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("concept_id", pa.int32(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("box", BOX, nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        *(pa.field(name, pa.string(), nullable=False) for name in PROVENANCE),
        pa.field("context", pa.list_(pa.int32()), nullable=False),
        pa.field("crop_start", pa.int64(), nullable=False),
        pa.field("crop_bytes", pa.int32(), nullable=False),
    ]
)

REJECTS = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
    ]
)


SORTED = ("concept_id", "sentence_id")
"""Columns in whose order rows are. By their statistics, a search reads only the row groups that may have a value."""

REGION_FILTERS = {"concept": 32, "image_id": 8}
"""Columns of regions/ with a Bloom filter in each row group, and the usual number of values there: statistics would not
tell row groups apart, because the images of each are a random choice."""

REPEATING = ("image_id", "concept", "width", "height", *PROVENANCE)
"""Columns of regions/ with dictionaries. In the others hardly a value repeats: theirs would take time and bytes."""

CAN_FILTER = "bloom_filter_options" in inspect.signature(pq.write_table).parameters
"""Whether this PyArrow writes Bloom filters."""


@contextmanager
def writing_parquet(
    path: str, schema: pa.Schema, filters: Mapping[str, int] = MappingProxyType({})
) -> Iterator[pq.ParquetWriter]:
    """A writer whose file appears at `path` when the block ends. Each call of `write_table` is a row group.

    filters: columns that get Bloom filters, if PyArrow can write these, and how many values a row group usually has.
    """
    statistics = [name for name in SORTED if name in schema.names]
    options: dict[str, Any] = {"compression": "zstd", "write_statistics": statistics}
    if "crop" in schema.names:
        options["use_dictionary"] = [name for name in REPEATING if name in schema.names]
    if filters and CAN_FILTER:
        options["bloom_filter_options"] = {name: {"ndv": values, "fpp": 0.01} for name, values in filters.items()}
    with files.publishing(path) as file, pq.ParquetWriter(file, schema, **options) as writer:
        yield writer


def rows_to_table(rows: list[dict[str, object]], schema: pa.Schema) -> pa.Table:
    """The rows as a table of exactly this schema. Raises pyarrow.ArrowInvalid if they do not fit."""
    return pa.Table.from_pylist(rows, schema=schema)
