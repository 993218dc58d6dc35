"""Reading a bank: its concepts, their patches, features and crops, and search, within a concept or over all of them.

    bank = PatchBank.open("out/bank")
    bank.search("dog", like="243f3a558547789c-000", context=["frisbee"], k=8)

Opening reads the manifest and the list of concepts; features, crops and index are memory-mapped where they are local,
and a concept's patches are read when they are first asked for.
"""

import difflib
import html
import io
import mmap
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Union, overload

import faiss
import faiss.contrib.ivf_tools
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmixer.artifacts import files, manifest, schemas, stages
from vlmixer.artifacts.details import BankDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Manifest
from vlmixer.bank.building import CONCEPTS, CROPS, FEATURES, INDEX, PATCHES
from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.bank.features import Features
from vlmixer.bank.selection import normalised
from vlmixer.bank.show import figure, figures

if TYPE_CHECKING:
    from PIL import Image

CONCEPTS_HELD = 1024
"""Concepts whose patches are kept in memory after they were read, about 0.3 kB a patch."""

Like = Union[np.ndarray, str, "Image.Image"]
"""What patches may be asked to be like: a feature, (D,) float; the id of a patch; a picture."""

Embed = Callable[["Image.Image", str | None], np.ndarray]
"""The feature, (D,) float, of what a picture shows, made by the bank's own detector; the second argument is the concept
that is looked for, if any. `vlmixer.pipeline.image.embedding.embedder` makes one; a bank itself knows no detector."""


@dataclass(frozen=True)
class PatchRecord:
    """A patch of the bank. `row` is its place in the bank; `box` is xyxy in pixels of the upright original image,
    which is `width` × `height`; `context` are the names of the image's other concepts. `provenance` tells where
    the image is from: the columns schemas.PROVENANCE, of which `source` is its file's name."""

    row: int
    patch_id: str
    image_id: str
    concept: str
    score: float
    box: tuple[float, float, float, float]
    width: int
    height: int
    provenance: Mapping[str, str]
    context: tuple[str, ...]
    crop_start: int
    crop_bytes: int
    _crops: "Crops | None" = field(default=None, repr=False, compare=False)

    @property
    def source(self) -> str:
        """Name of the image's file."""
        return self.provenance["source"]

    @property
    def crop(self) -> bytes:
        """The patch's picture, a JPEG. Raises UserError where the bank's file with the crops is damaged."""
        if self._crops is None:
            raise ValueError(f"the record of patch {self.patch_id} was not read from a bank")
        return self._crops.read(self)

    @property
    def picture(self) -> "Image.Image":
        """The patch's picture, decoded, RGB. Raises UserError where it is no picture."""
        from PIL import Image

        data = self.crop
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as crop:
                return crop.convert("RGB")
        except (OSError, ValueError) as error:
            where = self._crops.path if self._crops else "?"
            raise UserError(
                f"{where}: the crop of patch {self.patch_id} is no picture ({error}). "
                "Run `vlmixer verify` on the bank's folder, then build the bank again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Plain data; the columns of `provenance` beside the others."""
        plain = {name: value for name, value in vars(self).items() if name not in ("provenance", "_crops")}
        return {**plain, **self.provenance}

    def _repr_html_(self) -> str:
        return figure(self.crop, [self.concept, f"{self.score:.2f}"], str(self.to_json()))


class ConceptPatches(Sequence[PatchRecord]):
    """A concept's patches, in bank order: element i is row `first + i` of the bank.

    Held as columns; records are made when they are asked for. scores: (n,) float32.
    """

    def __init__(
        self, concept: str, first: int, table: pa.Table, names: Sequence[str], crops: "Crops | None" = None
    ) -> None:
        """table: schemas.PATCHES; stays at hand as `table`. names: the bank's concepts, by id."""
        self.concept = concept
        self.first = first
        self._names = names
        self._crops = crops
        self.table = table
        self._columns = {name: table[name].combine_chunks() for name in table.column_names}
        self.scores: np.ndarray = self._columns["score"].to_numpy()

    @classmethod
    def none(cls, concept: str, first: int = 0) -> "ConceptPatches":
        """Those of a concept that has no patch."""
        return cls(concept, first, schemas.PATCHES.empty_table(), ())

    def __len__(self) -> int:
        return len(self.scores)

    @overload
    def __getitem__(self, place: int) -> PatchRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[PatchRecord]: ...
    def __getitem__(self, place: int | slice) -> PatchRecord | list[PatchRecord]:
        if isinstance(place, slice):
            return [self[index] for index in range(*place.indices(len(self)))]
        index = range(len(self))[place]
        row = {name: column[index].as_py() for name, column in self._columns.items() if name != "concept_id"}
        return PatchRecord(
            row=self.first + index,
            patch_id=row["patch_id"],
            image_id=row["image_id"],
            concept=self.concept,
            score=row["score"],
            box=tuple(row["box"]),
            width=row["width"],
            height=row["height"],
            provenance={name: row[name] for name in schemas.PROVENANCE},
            context=tuple(self._names[number] for number in row["context"]),
            crop_start=row["crop_start"],
            crop_bytes=row["crop_bytes"],
            _crops=self._crops,
        )

    @property
    def patch_ids(self) -> list[str]:
        """Ids of the patches."""
        ids: list[str] = self._columns["patch_id"].to_pylist()
        return ids

    @property
    def images(self) -> list[tuple[str, str]]:
        """For each patch its image's id and file."""
        return list(zip(self._columns["image_id"].to_pylist(), self._columns["source"].to_pylist(), strict=True))

    @cached_property
    def boxes(self) -> np.ndarray:
        """(n, 4) float32, as in the records."""
        boxes: np.ndarray = self._columns["box"].flatten().to_numpy().reshape(-1, 4)
        return boxes

    @property
    def columns(self) -> dict[str, pa.Array]:
        """The table's columns, each in one piece: quicker than records where few values are wanted."""
        return self._columns

    @cached_property
    def rows_by_image(self) -> dict[str, np.ndarray]:
        """For each image, the places of its patches, ascending."""
        places: dict[str, list[int]] = {}
        for place, image in enumerate(self._columns["image_id"].to_pylist()):
            places.setdefault(image, []).append(place)
        return {image: np.array(found, np.int64) for image, found in places.items()}

    @cached_property
    def rows_by_context(self) -> dict[str, np.ndarray]:
        """For each other concept, the places of the patches whose image holds it too, ascending."""
        context = self._columns["context"]
        places, numbers = pc.list_parent_indices(context).to_numpy(), context.flatten().to_numpy()
        return {self._names[number]: places[numbers == number].astype(np.int64) for number in np.unique(numbers)}

    def matches(self, wanted: Sequence[str]) -> np.ndarray:
        """(n,) int64: how many of the wanted concepts the image of each patch holds."""
        counts = np.zeros(len(self), np.int64)
        for name in self.rows_by_context.keys() & set(wanted):
            counts[self.rows_by_context[name]] += 1
        return counts

    def __repr__(self) -> str:
        return f"<{len(self):,} patches of {self.concept!r}>"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>" + figures(record._repr_html_() for record in self[:32])


@dataclass(frozen=True)
class Hit:
    """A patch that a search found, and its cosine similarity to the query (1.0 where there was none)."""

    patch: PatchRecord
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: the patch's, with `similarity`."""
        return {**self.patch.to_json(), "similarity": self.similarity}

    def _repr_html_(self) -> str:
        return figure(self.patch.crop, [self.patch.concept, f"{self.similarity:.3f}"], str(self.patch.to_json()))


class Hits(list[Hit]):
    """What a search found, the best first."""

    @property
    def rows(self) -> np.ndarray:
        """(n,) int64: rows of the bank."""
        return np.array([hit.patch.row for hit in self], np.int64)

    @property
    def similarities(self) -> np.ndarray:
        """(n,) float32."""
        return np.array([hit.similarity for hit in self], np.float32)

    def _repr_html_(self) -> str:
        return figures(hit._repr_html_() for hit in self) or "<p>no patch</p>"


class Crops:
    """The file with the crops: memory-mapped where it is local, else read piece by piece."""

    def __init__(self, path: str) -> None:
        self.path = path

    @cached_property
    def _mapped(self) -> mmap.mmap | bytes:
        with open(self.path, "rb") as file:
            # A file of no bytes cannot be mapped.
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if files.size(self.path) else b""

    def read(self, patch: PatchRecord) -> bytes:
        """The patch's JPEG. Raises UserError where the file ends before it."""
        start, end = patch.crop_start, patch.crop_start + patch.crop_bytes
        remote = files.is_url(self.path)
        data = files.read_ranges(self.path, [(start, end)])[0] if remote else self._mapped[start:end]
        if len(data) != patch.crop_bytes:
            raise UserError(
                f"{self.path}: ends before the crop of patch {patch.patch_id}. Run `vlmixer verify` on the bank's "
                "folder, then build the bank again."
            )
        return data


class PatchBank:
    """A bank opened for reading."""

    def __init__(self, folder: str, description: Manifest[BankDetails], embed: Embed | None = None) -> None:
        self.folder = folder
        self.manifest = description
        self._embed = embed
        with schemas.damage_named(files.join(folder, CONCEPTS)) as file:
            table = pq.ParquetFile(file).read().to_pylist()  # read_table would first import pyarrow.dataset
        self.concepts = tuple(Concept(row["concept_id"], row["name"], tuple(row["synonyms"])) for row in table)
        self.counts = {row["name"]: int(row["count"]) for row in table}
        self.candidates = {row["name"]: int(row["candidates"]) for row in table}
        self.near_duplicates = {row["name"]: int(row["near_duplicates"]) for row in table}
        self.feature_dim = description.details.feature_dim
        self._names = [concept.name for concept in self.concepts]
        self._firsts = np.array([row["first"] for row in table], np.int64)
        self._lengths = np.array([row["count"] for row in table], np.int64)
        self._row_groups = np.cumsum(self._lengths > 0) - 1
        self._searching = threading.Lock()  # nprobe is a property of the index, not of a search
        self._crops = Crops(files.join(folder, CROPS))
        self._features = Features(files.join(folder, FEATURES))
        self._concept_patches = lru_cache(maxsize=CONCEPTS_HELD)(self._read_concept)

    @classmethod
    def open(cls, folder: str, *, embed: Embed | None = None) -> "PatchBank":
        """Open the bank at a path or URL. `embed` lets searches take pictures.

        Raises CallError for a folder that is no bank, UserError for a bank whose files are missing or of another size
        than its manifest says (`vlmixer verify` looks at every byte).
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

    def __len__(self) -> int:
        return int(self._lengths.sum())

    @property
    def indexed(self) -> int:
        """Number of vectors in the FAISS index. Raises UserError where it cannot be read or is another bank's."""
        return int(self._index.ntotal)

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
        """What each word names: a concept's name goes before another's synonym."""
        words = {word: claims[0] for word, claims in Vocabulary(self.folder, self.concepts).claims.items()}
        words |= {word: concept for concept in reversed(self.concepts) for word in concept.synonyms}
        return words | {concept.name: concept for concept in self.concepts}

    @cached_property
    def _patches_file(self) -> pq.ParquetFile:
        return pq.ParquetFile(files.open_read(files.join(self.folder, PATCHES)))

    @cached_property
    def _patch_ids(self) -> pa.Array:
        return self._patches_file.read(columns=["patch_id"], use_threads=False)["patch_id"].combine_chunks()

    @cached_property
    def _index(self) -> Any:
        path = files.join(self.folder, INDEX)
        index: Any
        try:
            if not files.is_url(path):
                index = faiss.read_index(path, faiss.IO_FLAG_MMAP)
            else:
                index = faiss.deserialize_index(np.frombuffer(files.read_bytes(path), np.uint8))
            agrees = (index.ntotal, index.nlist, index.d) == (len(self), len(self.concepts), self.feature_dim)
        except (RuntimeError, AttributeError) as error:
            raise UserError(f"{path}: FAISS cannot read it ({_short(error)}). Build the bank again.") from None
        if not agrees:
            raise UserError(
                f"{path}: {index.ntotal} vectors of {index.nlist} concepts, {index.d}-d; expected {len(self)} of "
                f"{len(self.concepts)}, {self.feature_dim}-d. It belongs to another bank; build this one again."
            )
        return index

    def _read_concept(self, number: int) -> ConceptPatches:
        concept, first = self._names[number], int(self._firsts[number])
        if not self._lengths[number]:
            return ConceptPatches.none(concept, first)
        try:
            table = self._patches_file.read_row_group(int(self._row_groups[number]), use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise UserError(
                f"{files.join(self.folder, PATCHES)}: damaged ({_short(error)}). Run `vlmixer verify` on the bank's "
                "folder, then build the bank again."
            ) from error
        return ConceptPatches(concept, first, table, self._names, self._crops)

    def patches(self, concept: str) -> ConceptPatches:
        """All patches of a concept, by its name or a synonym. Raises CallError for a word the bank does not know."""
        return self._concept_patches(self.concept_named(concept).id)

    def concept_named(self, word: str) -> Concept:
        """The concept that `word` names, its qualifier given or not. Raises CallError, with near words, for none."""
        wanted = word if word in self._words else " ".join(word.lower().replace("_", " ").split())
        if wanted in self._words:
            return self._words[wanted]
        near = difflib.get_close_matches(wanted, self._words, n=8)
        hint = f"Near: {', '.join(near)}." if near else "See `vlmixer bank stats` for its concepts."
        raise CallError(f"{self.folder}: no concept {word!r} in this bank. {hint}")

    def patch(self, patch_id: str) -> PatchRecord:
        """The patch with this id. Raises CallError if the bank has none."""
        return self.record(int(self.rows([patch_id])[0]))

    def rows(self, patch_ids: Sequence[str]) -> np.ndarray:
        """(n,) int64: the rows of the patches with these ids. Raises CallError for an id that the bank lacks.

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
        # Concepts without patches have the same first row as the next one: the last of them is the one with the row.
        patches = self._concept_patches(int(np.searchsorted(self._firsts, row, "right")) - 1)
        return patches[row - patches.first]

    def features(self, patches: Sequence[int] | Sequence[str] | np.ndarray) -> np.ndarray:
        """(n, D) float16: the features of these patches, given as rows of the bank or as patch ids, in this order."""
        if len(patches) and isinstance(patches[0], str):
            patches = self.rows([str(patch_id) for patch_id in patches])
        # Read in ascending order, each once.
        distinct, places = np.unique(np.asarray(patches, dtype=np.int64), return_inverse=True)
        return self._features.read(distinct)[places]

    def crop(self, patch: PatchRecord) -> bytes:
        """The patch's JPEG."""
        return self._crops.read(patch)

    def sample(self, concept: str, n: int, rng: np.random.Generator) -> list[PatchRecord]:
        """`n` patches of a concept drawn evenly, none twice; all of them in random order if there are no more."""
        patches = self.patches(concept)
        return [patches[int(place)] for place in rng.permutation(len(patches))[:n]]

    def search(
        self,
        concept: str | None = None,
        *,
        like: "Like | None" = None,
        context: Sequence[str] = (),
        k: int = 16,
    ) -> Hits:
        """The k best patches: of a concept, or of all concepts where none is named; fewer if there are fewer.

        like: a feature, (D,) float; a patch id; or a picture, if the bank was opened with `embed`. The patches most
        similar to it come first. Without it, bank order within the concept.
        context: names of concepts; patches whose image holds more of them come first.
        Raises CallError, and UserError for a feature that is not of this bank's detector.
        """
        _check_k(k)
        wanted = [self.concept_named(word).name for word in dict.fromkeys(context)]
        if like is None:
            if concept is None:
                raise CallError("a search wants a concept, something it should be like, or both.")
            patches = self.patches(concept)
            rows = patches.first + np.arange(len(patches) if wanted else min(k, len(patches)))
            similarities = np.ones(len(rows), np.float32)
        else:
            # With a context every patch is a candidate; without one the k most similar are enough.
            vector = self._vector(like, concept)
            found = self.search_rows(vector[None], concept, k=len(self) if wanted else k)
            rows, similarities = found[0][0], found[1][0]
        if wanted:
            best = np.argsort(-self._matches(concept, wanted)[rows - self._first(concept)], kind="stable")[:k]
            rows, similarities = rows[best], similarities[best]
        return self._hits(rows, similarities)

    def search_batch(self, like: np.ndarray, concept: str | Sequence[str] | None = None, *, k: int = 16) -> list[Hits]:
        """`search` for many features at once. like: (n, D) float; concept: one for all, or one for each."""
        return [self._hits(*found) for found in zip(*self.search_rows(like, concept, k=k), strict=True)]

    def search_rows(
        self, like: np.ndarray, concept: str | Sequence[str] | None = None, *, k: int = 16
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k most similar patches to each feature, as arrays.

        like: (n, D) float; concept: one for all, or one for each. Returns rows of the bank, (n, m) int64, and cosine
        similarities, (n, m) float32, the largest first; m is k, or what the largest of the concepts has, if that is
        less. A concept with fewer than m patches is filled up with row -1. Raises CallError and UserError as `search`.
        """
        _check_k(k)
        query = np.asarray(like)
        if query.ndim != 2 or query.shape[1] != self.feature_dim:
            raise UserError(
                f"the query's features have shape {query.shape}, this bank's have ({self.feature_dim},). "
                "Use features of the detector that the bank was built with."
            )
        if not np.isfinite(query).all():
            raise CallError("the query's feature holds numbers that are not finite.")
        if concept is None:
            lists = np.broadcast_to(np.flatnonzero(self._lengths), (len(query), int((self._lengths > 0).sum())))
        else:
            words = [concept] * len(query) if isinstance(concept, str) else concept
            if len(words) != len(query):
                raise CallError(f"{len(words)} concepts for {len(query)} features: expected one, or one for each.")
            lists = np.array([self.concept_named(word).id for word in words], np.int64).reshape(-1, 1)
        most = min(k, int(self._lengths[lists].sum(axis=1).max(initial=0)))
        if not most:
            return np.zeros((len(query), 0), np.int64), np.zeros((len(query), 0), np.float32)
        named = np.ascontiguousarray(lists, dtype=np.int64)
        with self._searching:
            self._index.nprobe = named.shape[1]
            similarities, rows = faiss.contrib.ivf_tools.search_preassigned(self._index, normalised(query), most, named)
        return rows, similarities

    def _vector(self, like: "Like", concept: str | None) -> np.ndarray:
        """(D,) of what a search should be like."""
        if isinstance(like, str):
            return self.features(self.rows([like]))[0]
        if isinstance(like, np.ndarray):
            if like.shape != (self.feature_dim,):
                raise UserError(
                    f"the query's feature has shape {like.shape}, this bank's have ({self.feature_dim},). "
                    "Use a feature of the detector that the bank was built with."
                )
            return like
        if self._embed is None:
            raise CallError(
                "a picture can be searched for only with the bank's own detector: "
                "PatchBank.open(folder, embed=vlmixer.pipeline.image.embedding.embedder(folder))."
            )
        return self._embed(like, None if concept is None else self.concept_named(concept).name)

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


def _check_k(k: int) -> None:
    if k < 1:
        raise CallError(f"k: expected at least 1, found {k}.")


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[-1][:200] if str(error).strip() else type(error).__name__
