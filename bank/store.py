"""Reading a bank: its concepts, their patches, features and crops, and search within a concept.

Opening reads the manifest and the list of concepts; features and crops are memory-mapped, a concept's patches are read
when they are first asked for, the index when it is first searched.
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import faiss
import faiss.contrib.ivf_tools
import numpy as np
import pyarrow.parquet as pq

from artifacts import files, manifest
from artifacts.errors import CallError, UserError
from artifacts.manifest import Manifest
from bank.building import CONCEPTS, CROPS, FEATURES, INDEX, PATCHES
from bank.concepts import Concept, Vocabulary
from bank.selection import normalised


@dataclass(frozen=True)
class PatchRecord:
    """A patch of the bank. `row` is its place in the bank; `box` is xyxy in pixels of the upright original image,
    which is `width` × `height`; `context` are the names of the image's other concepts."""

    row: int
    patch_id: str
    image_id: str
    concept: str
    score: float
    box: tuple[float, float, float, float]
    width: int
    height: int
    source: str
    context: tuple[str, ...]
    crop_start: int
    crop_bytes: int


@dataclass(frozen=True)
class ConceptPatches:
    """A concept's patches, in bank order: `records[i]` is row `first + i` of the bank. scores: (n,) float32."""

    concept: str
    first: int
    records: tuple[PatchRecord, ...]
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def rows_by_context(self) -> dict[str, np.ndarray]:
        """For each other concept, the indices of the records whose image holds it too."""
        rows: dict[str, list[int]] = {}
        for index, record in enumerate(self.records):
            for name in record.context:
                rows.setdefault(name, []).append(index)
        return {name: np.array(indices, dtype=np.int64) for name, indices in rows.items()}


@dataclass(frozen=True)
class Hit:
    """A patch that a search found, and its cosine similarity to the query (1.0 where there was none)."""

    patch: PatchRecord
    similarity: float


class PatchBank:
    """A bank opened for reading."""

    def __init__(self, folder: str, description: Manifest) -> None:
        self.folder = folder
        self.manifest = description
        table = pq.read_table(files.open_read(files.join(folder, CONCEPTS))).to_pylist()
        self.concepts = tuple(Concept(row["concept_id"], row["name"], tuple(row["synonyms"])) for row in table)
        self.counts = {row["name"]: int(row["count"]) for row in table}
        self._first = {row["name"]: int(row["first"]) for row in table}
        filled = [row["name"] for row in table if row["count"]]
        self._row_group = {name: group for group, name in enumerate(filled)}
        self.feature_dim: int = description.details["feature_dim"]
        self._concept_patches = lru_cache(maxsize=4096)(self._read_concept)

    @classmethod
    def open(cls, folder: str) -> "PatchBank":
        """Open the bank at a path or URL. Raises UserError if it is none, or was damaged."""
        description = manifest.read(folder)
        if description.stage != "index":
            raise CallError(f"{folder}: holds what stage {description.stage!r} wrote, expected a bank (OUT/bank).")
        return cls(folder, description)

    def __len__(self) -> int:
        return sum(self.counts.values())

    @property
    def indexed(self) -> int:
        """Number of vectors in the FAISS index: the number of patches, in a sound bank."""
        return int(self._index.ntotal)

    def __repr__(self) -> str:
        filled = sum(count > 0 for count in self.counts.values())
        return f"<PatchBank {self.folder}: {len(self):,} patches of {filled} concepts, {self.feature_dim}-d features>"

    @cached_property
    def _features(self) -> np.ndarray:
        path = files.join(self.folder, FEATURES)
        if not files.is_url(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with files.open_read(path) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    @cached_property
    def _patches_file(self) -> pq.ParquetFile:
        return pq.ParquetFile(files.open_read(files.join(self.folder, PATCHES)))

    @cached_property
    def _index(self) -> Any:
        path = files.join(self.folder, INDEX)
        if not files.is_url(path):
            return faiss.read_index(path, faiss.IO_FLAG_MMAP)
        return faiss.deserialize_index(np.frombuffer(files.read_bytes(path), np.uint8))

    def _read_concept(self, concept: str) -> ConceptPatches:
        first = self._first[concept]
        if concept not in self._row_group:
            return ConceptPatches(concept, first, (), np.zeros(0, np.float32))
        names = [entry.name for entry in self.concepts]
        rows = self._patches_file.read_row_group(self._row_group[concept]).to_pylist()
        records = tuple(
            PatchRecord(
                row=first + index,
                patch_id=row["patch_id"],
                image_id=row["image_id"],
                concept=concept,
                score=row["score"],
                box=tuple(row["box"]),
                width=row["width"],
                height=row["height"],
                source=row["source"],
                context=tuple(names[number] for number in row["context"]),
                crop_start=row["crop_start"],
                crop_bytes=row["crop_bytes"],
            )
            for index, row in enumerate(rows)
        )
        return ConceptPatches(concept, first, records, np.array([record.score for record in records], np.float32))

    def patches(self, concept: str) -> ConceptPatches:
        """All patches of a concept, by its name or a synonym. Raises CallError for a word the bank does not know."""
        return self._concept_patches(self.concept_named(concept).name)

    def concept_named(self, word: str) -> Concept:
        """The concept that `word` names, its qualifier given or not. Raises CallError, with near words, for none."""
        wanted = " ".join(word.lower().replace("_", " ").split())
        for concept in self.concepts:
            if wanted == concept.name:
                return concept
        for concept in self.concepts:
            if wanted in concept.synonyms:
                return concept
        claims = Vocabulary(self.folder, self.concepts).claims
        if wanted in claims:
            return claims[wanted][0]
        known = list(dict.fromkeys([*self.counts, *claims]))
        near = difflib.get_close_matches(wanted, known, n=8)
        hint = f"Near: {', '.join(near)}." if near else "See `vlmixer bank stats` for its concepts."
        raise CallError(f"{self.folder}: no concept {word!r} in this bank. {hint}")

    def patch(self, patch_id: str) -> PatchRecord:
        """The patch with this id. Raises CallError if the bank has none."""
        for concept in self.concepts:
            for record in self.patches(concept.name).records:
                if record.patch_id == patch_id:
                    return record
        raise CallError(f"{self.folder}: no patch {patch_id!r} in this bank.")

    def features(self, rows: Sequence[int] | np.ndarray) -> np.ndarray:
        """(n, D) float16: the features of these rows of the bank, in this order; read in ascending order."""
        wanted = np.asarray(rows, dtype=np.int64)
        distinct, places = np.unique(wanted, return_inverse=True)
        return np.asarray(self._features[distinct])[places]

    def crop(self, patch: PatchRecord) -> bytes:
        """The patch's JPEG."""
        with files.open_read(files.join(self.folder, CROPS)) as file:
            file.seek(patch.crop_start)
            return file.read(patch.crop_bytes)

    def search(
        self,
        concept: str | None = None,
        *,
        like: np.ndarray | None = None,
        context: Sequence[str] = (),
        k: int = 16,
    ) -> list[Hit]:
        """The k best patches: of a concept, or of all concepts where none is named.

        like: (D,) a feature; the patches most similar to it come first. Without it, bank order within the concept.
        context: names of concepts; patches whose image holds more of them come first. Raises CallError.
        """
        if k < 1:
            raise CallError(f"k: expected at least 1, found {k}.")
        if concept is None and like is None:
            raise CallError("a search wants a concept, something it should be like, or both.")
        wanted = {self.concept_named(word).name for word in context}
        # With a context every patch of the concept is a candidate; without one the k most similar are enough.
        reach = len(self) if wanted else k
        if like is None:
            assert concept is not None
            hits = [Hit(record, 1.0) for record in self.patches(concept).records]
        else:
            hits = self._similar(concept, like, reach)
        hits.sort(key=lambda hit: -len(wanted.intersection(hit.patch.context)))
        return hits[:k]

    def _similar(self, concept: str | None, like: np.ndarray, k: int) -> list[Hit]:
        if like.shape != (self.feature_dim,):
            raise UserError(
                f"the query's feature has shape {like.shape}, this bank's have ({self.feature_dim},). "
                "Use a feature of the detector that the bank was built with."
            )
        names = [entry.name for entry in self.concepts]
        ids = range(len(names)) if concept is None else [self.concept_named(concept).id]
        lists = np.array([[number for number in ids if self.counts[names[number]]]], dtype=np.int64)
        if not lists.size:
            return []
        k = min(k, sum(self.counts[names[number]] for number in lists[0]))
        self._index.nprobe = lists.shape[1]
        query = normalised(like[None])
        similarities, rows = faiss.contrib.ivf_tools.search_preassigned(self._index, query, k, lists)
        found = []
        for similarity, row in zip(similarities[0], rows[0], strict=True):
            patches = self._patches_with_row(int(row))
            found.append(Hit(patches.records[int(row) - patches.first], float(similarity)))
        return found

    def _patches_with_row(self, row: int) -> ConceptPatches:
        for name, first in self._first.items():
            if first <= row < first + self.counts[name]:
                return self.patches(name)
        raise IndexError(f"row {row} of a bank of {len(self)} patches")
