"""A bank opened for reading: its concepts, their patches with features and crops, and search.

    bank = PatchBank.open("out/bank")
    bank.search("dog", like="243f3a558547789c-000", context=["frisbee"], k=8)

Opening reads the manifest and the list of concepts. Features, crops and index are memory-mapped if they are local, and
the patches of a concept are read when they are first used. How the files are read is left to bank.features, bank.crops
and bank.index; what a search returns is in bank.records.
"""

import difflib
import html
import os
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmixer.artifacts import files, manifest, schemas, stages
from vlmixer.artifacts.details import BankDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.parquet import open_parquet, refuse_large
from vlmixer.artifacts.snapshot import Snapshot
from vlmixer.bank.building import CONCEPTS, CROPS, FEATURES, INDEX, PATCHES
from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.bank.crops import CropFile
from vlmixer.bank.features import FeatureFile
from vlmixer.bank.index import IndexFile, short
from vlmixer.bank.query import Embed, Like, as_array, as_picture, checked_k
from vlmixer.bank.records import ConceptPatches, Hit, Hits, PatchRecord
from vlmixer.bank.show import figures
from vlmixer.bank.tables import check_found, check_patches, check_schema, damaged, read_concepts

CONCEPTS_HELD = 1024
"""Number of concepts whose patches stay in memory once they were read, about 0.3 kB per patch."""


class PatchBank:
    """A bank opened for reading."""

    def __init__(self, folder: str, description: Manifest[BankDetails], embed: Embed | None = None) -> None:
        """Use `open`. description: the manifest of the bank at `folder`."""
        self.folder = folder
        self.manifest = description
        self._embed = embed
        self._snapshot = Snapshot(folder, description)
        table = read_concepts(files.join(folder, CONCEPTS))
        self.concepts = tuple(Concept(row["concept_id"], row["name"], tuple(row["synonyms"])) for row in table)
        self.counts = {row["name"]: int(row["count"]) for row in table}
        self.candidates = {row["name"]: int(row["candidates"]) for row in table}
        self.near_duplicates = {row["name"]: int(row["near_duplicates"]) for row in table}
        self.feature_dim = description.details.feature_dim
        self._names = [concept.name for concept in self.concepts]
        self._firsts = np.array([row["first"] for row in table], np.int64)
        self._lengths = np.array([row["count"] for row in table], np.int64)
        self._row_groups = np.cumsum(self._lengths > 0) - 1
        check = self._snapshot.check
        check()  # the list of concepts was read
        self._crops = CropFile(files.join(folder, CROPS), check)
        self._features = FeatureFile(files.join(folder, FEATURES), check, shape=(len(self), self.feature_dim))
        self._index = IndexFile(files.join(folder, INDEX), len(self), len(table), self.feature_dim, check)
        self._concept_patches = lru_cache(maxsize=CONCEPTS_HELD)(self._read_concept)

    @classmethod
    def open(cls, folder: str, *, embed: Embed | None = None) -> "PatchBank":
        """Open the bank at a path or URL. With `embed`, pictures can be searched for.

        Raises CallError if the folder holds another stage's result, UserError if files are missing or do not have the
        size that the manifest says (`vlmixer verify` checks every byte). A bank that is replaced while it is open is a
        UserError in whatever would read from it next.
        """
        description = manifest.read(folder, stages.INDEX)
        for output in description.outputs:
            path = files.join(folder, output.name)
            try:
                size = files.size(path)
            except FileNotFoundError:
                raise UserError(f"{path}: missing. Copy the bank again, or build it again.") from None
            if size != output.bytes:
                raise UserError(
                    f"{path}: {size} bytes, expected {output.bytes}: truncated or changed. Copy the bank again, or "
                    "build it again."
                )
        return cls(folder, description, embed)

    def __reduce__(self) -> tuple[Any, ...]:
        """A bank is pickled by its folder, and opened again where it is unpickled."""
        return _reopen, (self.folder, self._embed, self.manifest.content_hash)

    def __len__(self) -> int:
        return int(self._lengths.sum())

    @property
    def indexed(self) -> int:
        """Number of vectors in the FAISS index. Raises UserError if it cannot be read or is another bank's."""
        return self._index.vectors

    def __repr__(self) -> str:
        filled = int((self._lengths > 0).sum())
        return f"<PatchBank {self.folder}: {len(self):,} patches of {filled} concepts, {self.feature_dim}-d features>"

    def _repr_html_(self) -> str:
        largest = sorted(self._names, key=lambda name: -self.counts[name])[:8]
        rows = [(name, self.counts[name], self.patches(name)[:8]) for name in largest if self.counts[name]]
        return f"<p>{html.escape(repr(self))}</p>" + "".join(
            f"<p>{html.escape(name)} ({count:,})</p>" + figures(record._repr_html_() for record in records)
            for name, count, records in rows
        )

    @cached_property
    def _words(self) -> dict[str, Concept]:
        """The concept of each word. The name of a concept wins over a synonym of another."""
        words = {word: claims[0] for word, claims in Vocabulary(self.folder, self.concepts).claims.items()}
        words |= {word: concept for concept in reversed(self.concepts) for word in concept.synonyms}
        return words | {concept.name: concept for concept in self.concepts}

    @cached_property
    def _patches_file(self) -> pq.ParquetFile:
        path = files.join(self.folder, PATCHES)
        try:
            opened = files.open_read(path)
            file = open_parquet(opened)
            for group in range(file.num_row_groups):
                refuse_large(file, opened, group)
        except (OSError, pa.ArrowException) as error:
            self._snapshot.check()
            raise damaged(path, short(error)) from error
        self._snapshot.check()
        check_schema(path, file, schemas.PATCHES)
        groups = int((self._lengths > 0).sum())
        if file.num_row_groups != groups or file.metadata.num_rows != len(self):
            found = f"{file.metadata.num_rows} patches in {file.num_row_groups} row groups"
            raise damaged(path, f"{found}, expected {len(self)} in {groups}")
        return file

    @cached_property
    def _patch_ids(self) -> pa.Array:
        ids = self._patches_file.read(columns=["patch_id"], use_threads=False)["patch_id"].combine_chunks()
        if files.is_url(self.folder):
            self._snapshot.check()
        return ids

    def _read_concept(self, number: int) -> ConceptPatches:
        concept, first = self._names[number], int(self._firsts[number])
        if not self._lengths[number]:
            return ConceptPatches.none(concept, first)
        path = files.join(self.folder, PATCHES)
        try:
            table = self._patches_file.read_row_group(int(self._row_groups[number]), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            self._snapshot.check()
            raise damaged(path, short(error)) from error
        if files.is_url(self.folder):
            self._snapshot.check()
        check_patches(path, table, int(self._lengths[number]), number, len(self._names))
        return ConceptPatches(concept, first, table, self._names, self._crops)

    def patches(self, concept: str, *, keep: bool = True) -> ConceptPatches:
        """All patches of a concept, by its name or a synonym. Raises CallError if the bank does not know the word.

        keep: whether they stay in memory, for the next call. Not worth it for who goes through all concepts once.
        """
        number = self.concept_named(concept).id
        return self._concept_patches(number) if keep else self._read_concept(number)

    def concept_named(self, word: str) -> Concept:
        """The concept that `word` names, with or without its qualifier. Raises CallError, with near words, if none."""
        if not isinstance(word, str):
            raise CallError(f"concept: expected its name, found {word!r}.")
        wanted = word if word in self._words else " ".join(word.lower().replace("_", " ").split())
        if wanted in self._words:
            return self._words[wanted]
        near = difflib.get_close_matches(wanted, self._words, n=8)
        hint = f"Near: {', '.join(near)}." if near else "See `vlmixer bank stats` for its concepts."
        raise CallError(f"{self.folder}: no concept {word!r} in this bank. {hint}")

    def patch(self, patch_id: str) -> PatchRecord:
        """The patch with this id. Raises CallError if there is none."""
        return self.record(int(self.rows([patch_id])[0]))

    def rows(self, patch_ids: Sequence[str]) -> np.ndarray:
        """(n,) int64: the rows of the patches with these ids. Raises CallError if the bank lacks one.

        The first call reads the ids of all patches.
        """
        found = pc.index_in(pa.array(patch_ids, pa.string()), self._patch_ids)
        for patch_id, row in zip(patch_ids, found.to_pylist(), strict=True):
            if row is None:
                raise CallError(f"{self.folder}: no patch {patch_id!r} in this bank.")
        rows: np.ndarray = found.to_numpy(zero_copy_only=False).astype(np.int64)
        return rows

    def record(self, row: int) -> PatchRecord:
        """The patch at this row of the bank. Raises IndexError."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a bank of {len(self)} patches")
        # A concept without patches has the same first row as the next concept, so the last of equals has the patch.
        patches = self._concept_patches(int(np.searchsorted(self._firsts, row, "right")) - 1)
        return patches[row - patches.first]

    def features(self, patches: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
        """(n, D) float16: the features of these patches, by rows of the bank or by patch ids, in this order.

        Raises IndexError for a row, CallError for an id that the bank lacks.
        """
        if len(patches) and isinstance(patches[0], str):
            patches = self.rows([str(patch_id) for patch_id in patches])
        # Each is read once, in ascending order.
        distinct, places = np.unique(np.asarray(patches, dtype=np.int64), return_inverse=True)
        return self._features.read(distinct)[places]

    def crop(self, patch: PatchRecord) -> bytes:
        """The JPEG of a patch."""
        return self._crops.read(patch.patch_id, patch.crop_start, patch.crop_bytes)

    def sample(self, concept: str, n: int, rng: np.random.Generator) -> list[PatchRecord]:
        """`n` patches of a concept, drawn uniformly without repetition; all patches if there are at most `n`."""
        patches = self.patches(concept)
        return [patches[int(place)] for place in rng.permutation(len(patches))[:n]]

    def search(
        self,
        concept: str | None = None,
        *,
        like: Like | None = None,
        context: str | Sequence[str] = (),
        k: int = 16,
    ) -> Hits:
        """The k best patches of a concept, or of all concepts if none is named; fewer if there are fewer.

        like: a feature, (D,) float; a patch, or its id; or, if the bank was opened with `embed`, a picture: an image,
        the path of one, or its pixels, (height, width, 3) uint8. The most similar patches come first. Without `like`
        the patches are in bank order.
        context: a concept, or several; patches whose image has more of them come first.

        Raises CallError if there is nothing to search for or a name is unknown, UserError if a feature is not as wide
        as the bank's.
        """
        k = checked_k(k)
        words = [context] if isinstance(context, str) else context
        wanted = list(dict.fromkeys(self.concept_named(word).name for word in words))
        if like is None:
            if concept is None:
                raise CallError("a search needs a concept, something to compare with (like), or both.")
            patches = self.patches(concept)
            rows = patches.first + np.arange(len(patches) if wanted else min(k, len(patches)))
            similarities = np.ones(len(rows), np.float32)
        else:
            # With a context every patch is a candidate; otherwise the k most similar are enough.
            vector = self._vector(like, concept)
            found = self.search_rows(vector[None], concept, k=len(self) if wanted else k)
            rows, similarities = found[0][0], found[1][0]
        if wanted:
            best = np.argsort(-self._matches(concept, wanted)[rows - self._first(concept)], kind="stable")[:k]
            rows, similarities = rows[best], similarities[best]
        return self._hits(rows, similarities)

    def search_batch(self, like: np.ndarray, concept: str | Sequence[str] | None = None, *, k: int = 16) -> list[Hits]:
        """`search` for many features at once. like: (n, D) float. concept: one for all, or one for each."""
        return [self._hits(*found) for found in zip(*self.search_rows(like, concept, k=k), strict=True)]

    def search_rows(
        self, like: np.ndarray, concept: str | Sequence[str] | None = None, *, k: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k patches that are most similar to each feature, as arrays.

        like: (n, D) float. concept: one for all, or one for each. Returns rows of the bank, (n, m) int64, and cosine
        similarities, (n, m) float32, the largest first. m is k, or the number of patches of the largest concept if that
        is less; after the patches of a smaller concept the rows are -1. Raises CallError and UserError as `search`.
        """
        k = checked_k(k)
        query = as_array(like)
        if query.ndim != 2 or query.shape[1] != self.feature_dim:
            raise UserError(
                f"the query has features of shape {query.shape}, expected (n, {self.feature_dim}). "
                "Use features of the detector that the bank was built with."
            )
        if not np.isfinite(query).all():
            raise CallError("the query has values that are not finite.")
        if concept is None:
            lists = np.broadcast_to(np.flatnonzero(self._lengths), (len(query), int((self._lengths > 0).sum())))
        else:
            words = [concept] * len(query) if isinstance(concept, str) else concept
            if len(words) != len(query):
                raise CallError(f"{len(words)} concepts for {len(query)} features, expected one, or one for each.")
            lists = np.array([self.concept_named(word).id for word in words], np.int64).reshape(-1, 1)
        there = self._lengths[lists].sum(axis=1)
        most = min(k, int(there.max(initial=0)))
        if not most:
            return np.zeros((len(query), 0), np.int64), np.zeros((len(query), 0), np.float32)
        similarities, rows = self._index.search(query, lists, most)
        bounds = None if concept is None else (self._firsts[lists], self._firsts[lists] + self._lengths[lists])
        check_found(files.join(self.folder, INDEX), rows, similarities, np.minimum(there, most), len(self), bounds)
        return rows, similarities

    def _vector(self, like: Like, concept: str | None) -> np.ndarray:
        """(D,): the feature to compare with."""
        if isinstance(like, Hit):
            like = like.patch
        if isinstance(like, PatchRecord):
            like = like.patch_id
        if isinstance(like, str):
            row = pc.index(self._patch_ids, like).as_py()
            if row >= 0:
                return self.features([row])[0]
            if not os.path.isfile(like):
                raise CallError(f"{self.folder}: no patch, and no file, {like!r}.")
        picture = as_picture(like)
        if picture is None:
            vector = as_array(like)
            if vector.shape != (self.feature_dim,):
                raise UserError(
                    f"the query has a feature of shape {vector.shape}, expected ({self.feature_dim},). "
                    "Use a feature of the detector that the bank was built with."
                )
            return vector
        if self._embed is None:
            raise CallError(
                "a search for a picture needs the bank's own detector: open the bank with "
                "PatchBank.open(folder, embed=vlmixer.pipeline.image.embedding.embedder(folder))."
            )
        return self._embed(picture, None if concept is None else self.concept_named(concept).name)

    def _first(self, concept: str | None) -> int:
        return 0 if concept is None else int(self._firsts[self.concept_named(concept).id])

    def _matches(self, concept: str | None, wanted: Sequence[str]) -> np.ndarray:
        """How many of the wanted concepts each patch's image holds: of the concept's patches, or of all."""
        names = self._names if concept is None else [concept]
        return np.concatenate([self.patches(name).matches(wanted) for name in names])

    def _hits(self, rows: np.ndarray, similarities: np.ndarray) -> Hits:
        return Hits(
            Hit(self.record(int(row)), float(similarity))
            for row, similarity in zip(rows, similarities, strict=True)
            if row >= 0
        )


def _reopen(folder: str, embed: Embed | None, content_hash: str) -> PatchBank:
    bank = PatchBank.open(folder, embed=embed)
    if bank.manifest.content_hash != content_hash:
        raise UserError(f"{folder}: was replaced after the bank was pickled. Open it again.")
    return bank
