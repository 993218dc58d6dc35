"""How good the concepts of a bank are: how pure, how varied, and how many near-duplicates were left out."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import one_line
from vlmixer.artifacts.rng import generator
from vlmixer.bank.selection import normalised
from vlmixer.bank.store import PatchBank

NEIGHBOURS = 10
QUERIES_PER_CONCEPT = 50
GALLERY_PER_CONCEPT = 500


@dataclass(frozen=True)
class ConceptQuality:
    """The quality of a concept's patches, judged by their features.

    impurity: share, 0 … 1, of other concepts among the nearest neighbours of its patches; None for a single patch.
    mistaken_for: the concept that most of these neighbours belong to. variety: mean cosine distance, 0 … 2, of two of
    its patches. candidates: regions to choose from. near_duplicates: regions left out as too similar to a better one.
    """

    concept: str
    patches: int
    impurity: float | None
    mistaken_for: str | None
    variety: float
    candidates: int
    near_duplicates: int


@dataclass(frozen=True)
class BankQuality:
    """The concepts with patches, the least pure first. `impurity` is the mean over concepts."""

    impurity: float
    concepts: tuple[ConceptQuality, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def to_table(self) -> str:
        """Lines for people."""
        lines = [
            f"impurity: share of other concepts among the {NEIGHBOURS} nearest neighbours (mean {self.impurity:.2f}, 0 "
            "is pure); variety: mean distance of two patches",
            f"{'concept':<22}{'patches':>9}{'impurity':>10}  {'mistaken for':<19}{'variety':>8}{'duplicates':>12}",
        ]
        lines += [
            f"{entry.concept:<22}{entry.patches:>9,}{_share(entry.impurity):>10}  {entry.mistaken_for or '':<19}"
            f"{entry.variety:>8.2f}{entry.near_duplicates:>12,}"
            for entry in self.concepts
        ]
        return "\n".join(map(one_line, lines))


def bank_quality(bank: PatchBank, seed: int = 0) -> BankQuality:
    """Judge the concepts of a bank. Large concepts are sampled, so time grows with the number of concepts only."""
    filled = [concept for concept in bank.concepts if bank.counts[concept.name]]
    gallery = []
    owners = []
    for concept in filled:
        patches = bank.patches(concept.name)
        rng = generator(seed, "quality", concept.name)
        places = np.sort(rng.permutation(len(patches))[:GALLERY_PER_CONCEPT])
        gallery.append(bank.features(patches.first + places).astype(np.float32))
        owners.append(np.full(len(places), concept.id, np.int64))
    if not filled:
        return BankQuality(0.0, ())
    vectors, owner = normalised(np.concatenate(gallery)), np.concatenate(owners)
    entries = []
    start = 0
    for concept, features in zip(filled, gallery, strict=True):
        end = start + len(features)
        own = np.arange(start, min(end, start + QUERIES_PER_CONCEPT))
        similar = vectors[own] @ vectors.T
        similar[np.arange(len(own)), own] = -np.inf
        # At most as many neighbours as the concept has other patches, or small concepts could not be pure.
        count = min(NEIGHBOURS, len(features) - 1)
        near = owner[np.argpartition(-similar, count, axis=1)[:, :count]] if count else np.zeros((0, 0), np.int64)
        foreign = near[near != concept.id]
        numbers, times = np.unique(foreign, return_counts=True)
        entries.append(
            ConceptQuality(
                concept.name,
                bank.counts[concept.name],
                len(foreign) / near.size if near.size else None,
                bank.concepts[int(numbers[times.argmax()])].name if len(numbers) else None,
                _variety(vectors[start:end]),
                bank.candidates[concept.name],
                bank.near_duplicates[concept.name],
            )
        )
        start = end
    entries.sort(key=lambda entry: (-(entry.impurity or 0.0), entry.concept))
    known = [entry.impurity for entry in entries if entry.impurity is not None]
    return BankQuality(float(np.mean(known)) if known else 0.0, tuple(entries))


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _variety(unit: np.ndarray) -> float:
    """Mean cosine distance of two different rows of unit length."""
    count = len(unit)
    if count < 2:
        return 0.0
    total = float(np.square(unit.sum(axis=0)).sum() - np.square(unit).sum())
    return 1.0 - total / (count * (count - 1))
