"""A small bank for tests: concepts, patches with features, pictures as crops."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.bank.building import ConceptCounts, chosen_schema, write_bank
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.bank.store import PatchBank

DIM = 8
DETECTOR = DetectorIdentity("drawn", weights="sha256:1", device="cpu", options={})
SELECTION = BankSelection(max_patches_per_concept=50, selection="score", duplicate_similarity=0.95, seed=0)


ORIGIN = dict.fromkeys(schemas.PROVENANCE, "")


@dataclass(frozen=True)
class Given:
    """A patch as a test gives it: of which image, with which score and feature."""

    patch_id: str
    score: float
    feature: Sequence[float]

    @property
    def image_id(self) -> str:
        """The patch's id without its number."""
        return self.patch_id.rpartition("-")[0]


def jpeg(number: int) -> bytes:
    """A picture of 12 × 8 pixels, another for each number."""
    buffer = io.BytesIO()
    Image.new("RGB", (12, 8), (number * 37 % 256, number * 91 % 256, 60)).save(buffer, "JPEG")
    return buffer.getvalue()


def small_bank(
    folder: str,
    patches: Mapping[str, Sequence[Given]],
    *,
    detector: Mapping[str, Any] | None = None,
    selection: Mapping[str, Any] | None = None,
) -> PatchBank:
    """A bank of these concepts, in this order, at `folder`; images are photos/IMAGE_ID.jpg of 100 × 80 pixels."""
    vocabulary = make_vocabulary("small", [[name] for name in patches])
    held: dict[str, set[int]] = {}
    for number, given in enumerate(patches.values()):
        for patch in given:
            held.setdefault(patch.image_id, set()).add(number)
    tables = [
        pa.Table.from_pylist(
            [
                {
                    "patch_id": patch.patch_id, "image_id": patch.image_id, "concept_id": number, "score": patch.score,
                    "box": [10.0, 20.0, 50.0, 40.0], "width": 100, "height": 80,
                    "context": sorted(held[patch.image_id] - {number}),
                    **ORIGIN, "source": f"photos/{patch.image_id}.jpg",
                    "feature": np.array(patch.feature, np.float16), "crop": jpeg(row),
                }
                for row, patch in enumerate(given)
            ],
            schema=chosen_schema(DIM),
        )
        for number, given in enumerate(patches.values())
    ]  # fmt: skip
    counts = [ConceptCounts(len(table), 3 * len(table), len(table) // 2) for table in tables]
    outputs = write_bank(folder, vocabulary.concepts, DIM, counts, tables)
    total = sum(len(table) for table in tables)
    details = BankDetails(
        feature_dim=DIM,
        vocabulary="small",
        vocabulary_hash=vocabulary.hash,
        detector=replace(DETECTOR, **(detector or {})),
        selection=replace(SELECTION, **(selection or {})),
    )
    manifest.publish(folder, Manifest("index", "", "", {}, [], outputs, [], {"regions": Counts(total, total)}, details))
    return PatchBank.open(folder)
