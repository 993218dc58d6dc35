"""Putting a bank together from its concepts' chosen patches, one concept at a time, in id order."""

from collections.abc import Iterable
from contextlib import ExitStack

import faiss
import faiss.contrib.ivf_tools
import numpy as np
import pyarrow as pa

from artifacts import files, manifest, schemas
from artifacts.manifest import Output
from bank.concepts import Vocabulary
from bank.selection import normalised

CONCEPTS = "concepts.parquet"
PATCHES = "patches.parquet"
FEATURES = "features.npy"
CROPS = "crops.bin"
INDEX = "index.faiss"


def chosen_schema(feature_dim: int) -> pa.Schema:
    """What is known of a chosen patch before the bank is put together: a patch's columns, its feature and its crop."""
    columns = [field for field in schemas.PATCHES if field.name not in ("crop_start", "crop_bytes")]
    regions = schemas.regions(feature_dim)
    return pa.schema([*columns, regions.field("feature"), regions.field("crop")])


def feature_rows(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """(n, D) float16 from a fixed-size-list column."""
    chunk = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return chunk.flatten().to_numpy(zero_copy_only=False).reshape(len(chunk), chunk.type.list_size)


def write_bank(
    folder: str, vocabulary: Vocabulary, feature_dim: int, total: int, chosen: Iterable[tuple[pa.Table, int]]
) -> list[Output]:
    """Write the bank's files (all but the manifest) into `folder`.

    chosen: for each concept, in id order, its table (`chosen_schema`, in bank order) and how many regions of the
    concept there were to choose from. `total` is the number of patches in all. Returns the files' records.
    """
    concepts: list[dict[str, object]] = []
    first = crop_start = 0
    with ExitStack() as stack:
        patches = stack.enter_context(schemas.writing_parquet(files.join(folder, PATCHES), schemas.PATCHES))
        features = stack.enter_context(files.publishing(files.join(folder, FEATURES)))
        crops = stack.enter_context(files.publishing(files.join(folder, CROPS)))
        header = {"descr": "<f2", "fortran_order": False, "shape": (total, feature_dim)}
        np.lib.format.write_array_header_1_0(features, header)
        index = ConceptIndex(len(vocabulary.concepts), feature_dim)
        for concept, (table, candidates) in zip(vocabulary.concepts, chosen, strict=True):
            rows = feature_rows(table["feature"]) if len(table) else np.zeros((0, feature_dim), np.float16)
            features.write(np.ascontiguousarray(rows).tobytes())
            index.add(concept.id, first, rows)
            sizes = [len(crop) for crop in table["crop"].to_pylist()]
            for crop in table["crop"].to_pylist():
                crops.write(crop)
            starts = crop_start + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            if len(table):
                # A row group a concept, so that a concept's patches are read without the others'.
                patches.write_table(_with_crop_places(table, starts[:-1], sizes), row_group_size=len(table))
            concepts.append(
                {
                    "concept_id": concept.id,
                    "name": concept.name,
                    "synonyms": list(concept.synonyms),
                    "first": first,
                    "count": len(table),
                    "candidates": candidates,
                }
            )
            first += len(table)
            crop_start = int(starts[-1])
        if first != total:
            raise ValueError(f"{total} patches were announced, {first} came")
    with schemas.writing_parquet(files.join(folder, CONCEPTS), schemas.CONCEPTS) as writer:
        writer.write_table(schemas.rows_to_table(concepts, schemas.CONCEPTS))
    files.publish_bytes(files.join(folder, INDEX), index.to_bytes())
    sized = {CONCEPTS: len(concepts), PATCHES: first, FEATURES: first, CROPS: first, INDEX: first}
    return [manifest.describe(folder, name, rows) for name, rows in sized.items()]


def _with_crop_places(table: pa.Table, starts: np.ndarray, sizes: list[int]) -> pa.Table:
    places = table.drop_columns(["feature", "crop"])
    places = places.append_column("crop_start", pa.array(starts, pa.int64()))
    places = places.append_column("crop_bytes", pa.array(sizes, pa.int32()))
    return places.select(schemas.PATCHES.names).cast(schemas.PATCHES)


class ConceptIndex:
    """A FAISS index with one inverted list a concept: list number = concept id, vector id = the patch's row.

    Vectors are the features scaled to length 1, kept as float16; similarity is the inner product. Lists are always
    named by the caller, in adding and in searching, so that the quantizer's centroids stay zero.
    """

    def __init__(self, concepts: int, feature_dim: int) -> None:
        self._dim = feature_dim
        self._quantizer = faiss.IndexFlatIP(feature_dim)
        self._quantizer.add(np.zeros((concepts, feature_dim), np.float32))
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantizer, feature_dim, concepts, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT, False
        )
        self._index.is_trained = True

    def add(self, concept_id: int, first: int, features: np.ndarray) -> None:
        """Put the concept's patches, rows first … of the bank, into its list. features: (n, D) float16."""
        if len(features):
            vectors = normalised(features)
            lists = np.full(len(vectors), concept_id, np.int64)
            ids = np.arange(first, first + len(vectors), dtype=np.int64)
            faiss.contrib.ivf_tools.add_preassigned(self._index, vectors, lists, ids)

    def to_bytes(self) -> bytes:
        """The index as FAISS writes it to a file."""
        data: bytes = faiss.serialize_index(self._index).tobytes()
        return data
