"""Putting a bank together from its concepts' chosen patches, one concept at a time, in id order.

All files are written as the concepts come; what is held in memory is one concept's patches.
"""

import struct
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import faiss
import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.manifest import Output
from vlmixer.bank.concepts import Concept
from vlmixer.bank.selection import normalised

CONCEPTS = "concepts.parquet"
PATCHES = "patches.parquet"
FEATURES = "features.npy"
CROPS = "crops.bin"
INDEX = "index.faiss"
LEFT_OUT = "left-out.parquet"
"""In a bank that was made of banks: what it lacks of them, as in rejects/."""


@dataclass(frozen=True)
class ConceptCounts:
    """How many patches of a concept are in the bank, how many regions there were to choose from, and how many of
    these were left out as near-duplicates."""

    patches: int = 0
    candidates: int = 0
    near_duplicates: int = 0


def chosen_schema(feature_dim: int) -> pa.Schema:
    """What is known of a chosen patch before the bank is put together: a patch's columns, its feature and its crop."""
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
    """Write the bank's files (all but the manifest) into `folder`; they appear together when all are whole.

    counts: for each concept, in id order. chosen: for each concept its table (`chosen_schema`, in bank order), read
    one at a time. Returns the files' records. Raises ValueError where a table is not as long as its concept's count.
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
                raise ValueError(f"{concept.name}: {count.patches} patches were announced, {len(table)} came")
            vectors = feature_rows(table["feature"]) if len(table) else np.zeros((0, feature_dim), np.float16)
            features.write(np.ascontiguousarray(vectors).data)
            index.write_list(vectors)
            sizes = [crops.write(crop) for crop in _buffers(table["crop"])]
            if len(table):
                starts = crop_start + np.cumsum([0, *sizes[:-1]], dtype=np.int64)
                # A row group a concept, so that a concept's patches are read without the others'.
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
    return [manifest.describe(folder, name, count) for name, count in sized.items()]


def _buffers(column: pa.ChunkedArray) -> Iterable[pa.Buffer]:
    return (value.as_buffer() for value in column)


def _with_crop_places(table: pa.Table, starts: np.ndarray, sizes: list[int]) -> pa.Table:
    places = table.drop_columns(["feature", "crop"])
    places = places.append_column("crop_start", pa.array(starts, pa.int64()))
    places = places.append_column("crop_bytes", pa.array(sizes, pa.int32()))
    return places.select(schemas.PATCHES.names).cast(schemas.PATCHES)


class IndexWriter:
    """Writes a FAISS index with one inverted list a concept: list number = concept id, vector id = the patch's row.

    Vectors are the features scaled to length 1, kept as float16; similarity is the inner product. Lists are always
    named by the caller, in adding and in searching, so that the quantizer's centroids stay zero.

    FAISS can write an index only from memory. Its file is that of an empty index, with the number of vectors and
    the lists put in, and these can be written one after the other: list sizes, then for each list codes and ids.
    """

    _NTOTAL = 8  # where the file's header keeps the number of vectors
    _EMPTY_LISTS = b"ilar"  # what the lists' part begins with

    def __init__(self, file: IO[bytes], feature_dim: int, sizes: Sequence[int]) -> None:
        self._file = file
        self._row = 0
        quantizer = faiss.IndexFlatIP(feature_dim)
        quantizer.add(np.zeros((len(sizes), feature_dim), np.float32))
        empty = faiss.IndexIVFScalarQuantizer(
            quantizer, feature_dim, len(sizes), faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        empty.is_trained = True
        header = bytearray(faiss.serialize_index(empty).tobytes())
        header = header[: header.rindex(self._EMPTY_LISTS)]
        struct.pack_into("<q", header, self._NTOTAL, sum(sizes))
        file.write(header)
        file.write(self._EMPTY_LISTS + struct.pack("<QQ", len(sizes), empty.code_size))
        file.write(b"full" + struct.pack("<Q", len(sizes)) + np.asarray(sizes, "<u8").tobytes())

    def write_list(self, features: np.ndarray) -> None:
        """Write the next concept's list. features: (n, D) float16, the bank's next n rows."""
        count = len(features)
        if count:
            # FAISS's own encoder makes zeros of the smallest numbers where a library has told the processor to flush
            # them, as a detector may, so that the bytes would depend on what ran before in the process.
            self._file.write(np.ascontiguousarray(normalised(features), "<f2").data)
            self._file.write(np.arange(self._row, self._row + count, dtype="<i8").data)
            self._row += count
