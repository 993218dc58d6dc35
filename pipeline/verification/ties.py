"""What the records of later stages must have in common with those of earlier ones.

Hashes of files show that nothing was changed since the manifests were written. Somebody who writes the manifests anew
can change anything, but must keep this: a sample has the text and mentions of its sentence in tagged/, the patches of a
sample are in bank/ with this feature, score and box, an image sample is its image in regions/, and so are a bank's
patches.

Kept are 64-bit digests: eight bytes per sentence and per image, sixteen per patch.
"""

import hashlib
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.samples import ImageSample, Mention, MixedSample, Patch
from vlmixer.artifacts.schemas import PROVENANCE
from vlmixer.bank.records import PatchRecord

PHOTO = ("image_id", "width", "height", *PROVENANCE)
AT_ONCE = 65_536
"""Digests that are looked up together."""


class Digests:
    """A set of 64-bit digests."""

    def __init__(self) -> None:
        self._added = array("Q")
        self._sorted: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self._added)

    def add(self, digest: int) -> None:
        """Add one, before the first question."""
        self._added.append(digest)

    def count_not_in(self, others: "Digests") -> int:
        """How many of these are not in `others`."""
        starts = range(0, len(self._added), AT_ONCE)
        return sum(int(others.lacks(self._added[at : at + AT_ONCE]).sum()) for at in starts)

    def lacks(self, digests: Sequence[int]) -> np.ndarray:
        """(n,) bool: which of these are not in the set."""
        if self._sorted is None:
            self._sorted = np.frombuffer(self._added, np.uint64)
            self._sorted.sort()
        asked = np.array(digests, np.uint64)
        if not len(self._sorted):
            return np.ones(len(asked), bool)
        places = np.minimum(np.searchsorted(self._sorted, asked), len(self._sorted) - 1)
        lacking: np.ndarray = self._sorted[places] != asked
        return lacking


@dataclass
class Ties:
    """What the checkers of earlier stages found, for those of later ones; None where nothing can be compared.

    sentences: of tagged/. patches and patch_ids: of bank/, as samples hold them. regions: patches of bank/ that must be
    in regions/, with what only these two hold. images: of regions/, as image samples hold them. narrowed: whether
    mentions of samples may be narrowed to the last word of a phrase.
    """

    sentences: Digests | None = None
    patches: Digests | None = None
    patch_ids: Digests | None = None
    regions: Digests | None = None
    images: Digests | None = None
    narrowed: bool = False


def of_sentence(sentence_id: str, text: str, mentions: Iterable[Mention], *, narrowed: bool) -> int:
    """Digest of a sentence. narrowed: leave out what changes if a mention is narrowed to its last word."""
    places = tuple(
        (0 if narrowed else mention.start, mention.end, mention.concept, mention.lemma) for mention in mentions
    )
    return stable_hash("sentence", sentence_id, text, places)


def of_sample(sample: MixedSample, *, narrowed: bool) -> int:
    """Digest of a sample's sentence."""
    return of_sentence(sample.sentence_id, sample.text, sample.mentions, narrowed=narrowed)


def of_patch(patch: Patch, feature: np.ndarray) -> int:
    """Digest of a patch of a sample. feature: (D,) float16."""
    return _patch(vars(patch), feature)


def of_record(record: PatchRecord, feature: np.ndarray) -> int:
    """Digest of a patch of the bank, as samples hold it."""
    return _patch(vars(record), feature)


def of_record_and_origin(record: PatchRecord, feature: np.ndarray, crop: bytes) -> int:
    """Digest of a patch of the bank, as regions/ holds it."""
    return _with_origin(of_record(record, feature), record.provenance, crop)


def of_region(row: Mapping[str, Any], feature: np.ndarray) -> tuple[int, int]:
    """Digests of a row of regions/: as samples hold it, and as the bank holds it."""
    digest = _patch(row, feature)
    return digest, _with_origin(digest, row, row["crop"])


def of_photo(fields: Mapping[str, Any]) -> int:
    """Digest of what regions/ and its record say of an image itself."""
    return stable_hash("photo", *(fields[name] for name in PHOTO))


def of_image(image_id: str, source: str, width: int, height: int, patches: Iterable[int]) -> int:
    """Digest of an image. patches: the digests of all its regions, in order."""
    return stable_hash("image", image_id, source, width, height, tuple(patches))


def of_image_sample(sample: ImageSample) -> int:
    """Digest of the image that a sample says it is."""
    patches = (of_patch(patch, feature) for patch, feature in zip(sample.patches, sample.features, strict=True))
    return of_image(sample.image_id, sample.source, sample.width, sample.height, patches)


def of_id(patch_id: str) -> int:
    """Digest of a patch's id."""
    return stable_hash("patch id", patch_id)


def _patch(fields: Mapping[str, Any], feature: np.ndarray) -> int:
    names = ("patch_id", "image_id", "concept", "width", "height")
    # Scores and boxes are float32 in Parquet; in JSON they are the same numbers in full.
    numbers = np.array([fields["score"], *fields["box"]], np.float32).tobytes()
    content = hashlib.blake2b(numbers + np.ascontiguousarray(feature).tobytes(), digest_size=8).hexdigest()
    return stable_hash("patch", *(fields[name] for name in names), content)


def _with_origin(digest: int, fields: Mapping[str, Any], crop: bytes) -> int:
    picture = hashlib.blake2b(crop, digest_size=8).hexdigest()
    return stable_hash("region", digest, *(fields[name] for name in PROVENANCE), picture)
