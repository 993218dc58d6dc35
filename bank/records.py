"""Patches as a bank returns them: one by one, all those of a concept, and those that a search found."""

import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.bank.crops import CropFile
from vlmixer.bank.show import figure, figures

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class PatchRecord:
    """A patch of a bank.

    row: its row in the bank. box: xyxy in pixels of the upright original image, which is `width` × `height`. context:
    names of the other concepts in the image. provenance: where the image is from, the columns schemas.PROVENANCE;
    `source` is the name of its file.
    """

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
    _crops: CropFile | None = field(default=None, repr=False, compare=False)

    @property
    def source(self) -> str:
        """The name of the image's file."""
        return self.provenance["source"]

    @property
    def crop(self) -> bytes:
        """The patch's picture, a JPEG. Raises UserError if the bank's file with the crops is damaged."""
        if self._crops is None:
            raise ValueError(f"the record of patch {self.patch_id} was not read from a bank")
        return self._crops.read(self.patch_id, self.crop_start, self.crop_bytes)

    @property
    def picture(self) -> "Image.Image":
        """The patch's picture, decoded, RGB. Raises UserError if it cannot be decoded."""
        from PIL import Image

        data = self.crop
        try:
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as crop:
                return crop.convert("RGB")
        except (OSError, ValueError) as error:
            where = self._crops.path if self._crops else "?"
            raise UserError(
                f"{where}: the crop of patch {self.patch_id} cannot be decoded ({error}). "
                "Run `vlmixer verify` on the bank's folder, then build the bank again."
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the columns of `provenance` among the others."""
        plain = {name: value for name, value in vars(self).items() if name not in ("provenance", "_crops")}
        return {**plain, **self.provenance}

    def _repr_html_(self) -> str:
        return figure(self.crop, [self.concept, f"{self.score:.2f}"], str(self.to_json()))


class ConceptPatches(Sequence[PatchRecord]):
    """The patches of a concept, in bank order: element i is row `first + i` of the bank.

    They are held as columns; records are made on access. scores: (n,) float32.
    """

    def __init__(
        self, concept: str, first: int, table: pa.Table, names: Sequence[str], crops: CropFile | None = None
    ) -> None:
        """table: the patches, schemas.PATCHES; kept as `table`. names: the bank's concepts, by id."""
        self.concept = concept
        self.first = first
        self._names = names
        self._crops = crops
        self.table = table
        self._columns = {name: table[name].combine_chunks() for name in table.column_names}
        self.scores: np.ndarray = self._columns["score"].to_numpy()

    @classmethod
    def none(cls, concept: str, first: int = 0) -> "ConceptPatches":
        """The patches of a concept that has none."""
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
        """The ids of the patches."""
        ids: list[str] = self._columns["patch_id"].to_pylist()
        return ids

    @property
    def images(self) -> list[tuple[str, str]]:
        """For each patch the id and the file of its image."""
        return list(zip(self._columns["image_id"].to_pylist(), self._columns["source"].to_pylist(), strict=True))

    @cached_property
    def boxes(self) -> np.ndarray:
        """(n, 4) float32, the boxes as in the records."""
        boxes: np.ndarray = self._columns["box"].flatten().to_numpy().reshape(-1, 4)
        return boxes

    def crops(self, places: np.ndarray) -> pa.Array:
        """The JPEGs of the patches at these places here. Faster than from records."""
        if self._crops is None:  # there is no patch
            return pa.array([], pa.binary())
        rows = pa.table({name: self._columns[name] for name in ("patch_id", "crop_start", "crop_bytes")}).take(places)
        found = map(self._crops.read, *(column.to_pylist() for column in rows.columns))
        return pa.array(list(found), pa.binary())

    @property
    def columns(self) -> dict[str, pa.Array]:
        """The columns of the table, each in one chunk: faster than records when few values are needed."""
        return self._columns

    @cached_property
    def rows_by_image(self) -> dict[str, np.ndarray]:
        """For each image the positions of its patches here, ascending, (m,) int64."""
        places: dict[str, list[int]] = {}
        for place, image in enumerate(self._columns["image_id"].to_pylist()):
            places.setdefault(image, []).append(place)
        return {image: np.array(found, np.int64) for image, found in places.items()}

    @cached_property
    def rows_by_context(self) -> dict[str, np.ndarray]:
        """For each other concept the positions of the patches whose image also has it, ascending, (m,) int64."""
        context = self._columns["context"]
        places, numbers = pc.list_parent_indices(context).to_numpy(), context.flatten().to_numpy()
        return {self._names[number]: places[numbers == number].astype(np.int64) for number in np.unique(numbers)}

    def matches(self, wanted: Sequence[str]) -> np.ndarray:
        """(n,) int64: for each patch, how many of the wanted concepts are in its image."""
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
    """A patch that a search found, and its cosine similarity to the query, 1.0 if there was no query."""

    patch: PatchRecord
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """Plain data: those of the patch, and `similarity`."""
        return {**self.patch.to_json(), "similarity": self.similarity}

    def _repr_html_(self) -> str:
        return figure(self.patch.crop, [self.patch.concept, f"{self.similarity:.3f}"], str(self.patch.to_json()))


class Hits(list[Hit]):
    """The results of a search, the best first."""

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
