"""References on disk: the Parquet schema of a survey, one row per image, in the order of the survey."""

from collections.abc import Sequence

import pyarrow as pa

from vlmixer.pipeline.image.readers.base import ImageRef

SURVEY_SCHEMA = pa.schema(
    [
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("format", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("input", pa.int64(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("stamp", pa.string(), nullable=False),
        pa.field("predictions", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("prediction", pa.list_(pa.int64(), 2), nullable=False),
        pa.field("photo", pa.string(), nullable=False),
    ]
)


def refs_table(refs: Sequence[ImageRef]) -> pa.Table:
    """The references as a table of schema SURVEY_SCHEMA."""
    places = {"input": [ref.order[0] for ref in refs], "place": [ref.order[1] for ref in refs]}
    columns = {
        name: places[name] if name in places else [getattr(ref, name) for ref in refs] for name in SURVEY_SCHEMA.names
    }
    return pa.table(columns, schema=SURVEY_SCHEMA)


def refs_of(table: pa.Table) -> list[ImageRef]:
    """The references in a table of schema SURVEY_SCHEMA."""
    return [
        ImageRef(order=(row.pop("input"), row.pop("place")), prediction=tuple(row.pop("prediction")), **row)
        for row in table.to_pylist()
    ]
