"""Writing a bank from the chosen patches of its concepts, one concept at a time, in id order.

All files grow as the concepts come. Only one concept's patches are in memory. The choice is left to bank.selection, the
format of the index to bank.index.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.bank.concepts import Concept
from vlmixer.bank.index import IndexWriter

CONCEPTS = "concepts.parquet"
PATCHES = "patches.parquet"
FEATURES = "features.npy"
CROPS = "crops.bin"
INDEX = "index.faiss"
LEFT_OUT = "left-out.parquet"
"""In a bank made from other banks: their patches that it lacks, in the format of rejects/."""


@dataclass(frozen=True)
class ConceptCounts:
    """Of a concept: patches in the bank, regions to choose from, and regions left out as near-duplicates."""

    patches: int = 0
    candidates: int = 0
    near_duplicates: int = 0


def chosen_schema(feature_dim: int) -> pa.Schema:
    """The columns of a chosen patch before the bank is written: those of PATCHES, its feature and its crop."""
    columns = [field for field in schemas.PATCHES if field.name not in ("crop_start", "crop_bytes")]
    regions = schemas.regions(feature_dim)
    return pa.schema([*columns, regions.field("feature"), regions.field("crop")])


def feature_rows(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(n, D) float16 from a fixed-size-list column."""
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), chunk.type.list_size)


def feature_column(rows: np.ndarray) -> pa.Array:
    """A fixed-size-list column from (n, D) float16."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows.shape[1])


def write_bank(
    folder: str,
    concepts: Sequence[Concept],
    feature_dim: int,
    counts: Sequence[ConceptCounts],
    chosen: Iterable[pa.Table],
) -> list[Output]:
    """Write the files of a bank, all but the manifest, into `folder`. They appear when all are complete.

    counts: for each concept, in id order. chosen: for each concept its table (`chosen_schema`), in bank order, read
    one at a time. Returns the records of the files. Raises ValueError if a table is not as long as its count says.
    """
    total = sum(count.patches for count in counts)
    rows: list[dict[str, object]] = []
    first = crop_start = 0
    with ExitStack() as stack:
        listing = stack.enter_context(schemas.writing_parquet(files.join(folder, CONCEPTS), schemas.CONCEPTS))
        patches = stack.enter_context(schemas.writing_parquet(files.join(folder, PATCHES), schemas.PATCHES))
        features = stack.enter_context(files.publishing(files.join(folder, FEATURES)))
        crops = stack.enter_context(files.publishing(files.join(folder, CROPS)))
        index = IndexWriter(
            stack.enter_context(files.publishing(files.join(folder, INDEX))),
            feature_dim,
            [count.patches for count in counts],
        )
        header = {"descr": "<f2", "fortran_order": False, "shape": (total, feature_dim)}
        np.lib.format.write_array_header_1_0(features, header)
        for concept, count, table in zip(concepts, counts, chosen, strict=True):
            if len(table) != count.patches:
                raise ValueError(f"{concept.name}: expected {count.patches} patches, got {len(table)}")
            vectors = feature_rows(table["feature"]) if len(table) else np.zeros((0, feature_dim), np.float16)
            features.write(np.ascontiguousarray(vectors).data)
            index.write_list(vectors)
            sizes = [crops.write(crop) for crop in _buffers(table["crop"])]
            if len(table):
                starts = crop_start + np.cumsum([0, *sizes[:-1]], dtype=np.int64)
                # One row group per concept, so that a concept is read without the others.
                patches.write_table(_with_crop_places(table, starts, sizes), row_group_size=len(table))
            rows.append(
                {
                    "concept_id": concept.id,
                    "name": concept.name,
                    "synonyms": list(concept.synonyms),
                    "first": first,
                    "count": count.patches,
                    "candidates": count.candidates,
                    "near_duplicates": count.near_duplicates,
                }
            )
            first += len(table)
            crop_start += sum(sizes)
        listing.write_table(schemas.rows_to_table(rows, schemas.CONCEPTS))
    sized = {CONCEPTS: len(rows), PATCHES: total, FEATURES: total, CROPS: total, INDEX: total}
    return [manifest.output_of(folder, name, count) for name, count in sized.items()]


def _buffers(column: pa.ChunkedArray) -> Iterable[pa.Buffer]:
    return (value.as_buffer() for value in column)


def _with_crop_places(table: pa.Table, starts: np.ndarray, sizes: list[int]) -> pa.Table:
    places = table.drop_columns(["feature", "crop"])
    places = places.append_column("crop_start", pa.array(starts, pa.int64()))
    places = places.append_column("crop_bytes", pa.array(sizes, pa.int32()))
    return places.select(schemas.PATCHES.names).cast(schemas.PATCHES)
