"""Which patches of a concept the bank keeps: first a bounded list of candidates, then a choice among them.

Candidates are places in regions/. Only their features are read. All functions are pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlmixer.artifacts.rng import stable_hash

Selection = Literal["diverse", "score", "random"]

CANDIDATES_PER_PATCH = 4
"""`diverse` chooses among `max_patches_per_concept` × this number of regions, those with the best scores (ours)."""

_BLOCK = 256

PLACE = np.dtype([("rank", "<f8"), ("part", "<i4"), ("row", "<i4")])
"""A candidate: its rank (smaller is better) and its place in regions/. Equal ranks keep the order of regions/."""


def ranks(selection: Selection, scores: np.ndarray, patch_ids: Sequence[str], seed: int) -> np.ndarray:
    """(n,) float64: the ranks of a concept's regions, smaller is better. scores: (n,)."""
    if selection == "random":
        hashes = [stable_hash(seed, "bank", patch_id, bits=48) for patch_id in patch_ids]
        return np.array(hashes, np.float64) / 2.0**48
    return -scores.astype(np.float64)


def candidate_limit(selection: Selection, max_patches: int) -> int:
    """Maximum number of candidates per concept."""
    return max_patches * (CANDIDATES_PER_PATCH if selection == "diverse" else 1)


def best(places: np.ndarray, limit: int) -> np.ndarray:
    """The `limit` best places (PLACE), in order. The result does not depend on the order of `places`."""
    return places[np.lexsort((places["row"], places["part"], places["rank"]))[:limit]]


@dataclass(frozen=True)
class Chosen:
    """Rows of the candidates: kept ones in order of choice, near-duplicates, and those beyond the limit."""

    kept: list[int]
    duplicates: list[int]
    over_limit: list[int]


def choose(selection: Selection, features: np.ndarray, max_patches: int, duplicate_similarity: float) -> Chosen:
    """Choose among the candidates of a concept, given best first.

    features: (n, D) float, one row per candidate.

    `score` and `random` take the first `max_patches`. `diverse` works on features minus the concept's mean. It drops
    near-duplicates (cosine similarity to a better candidate above `duplicate_similarity`) and keeps the best candidate.
    Then it repeatedly keeps the candidate with the largest product of distance to its nearest kept patch and a weight
    that falls with the rank, from 1 for the best towards 0 for the last.

    Without the weight, errors of the detector, which are unlike everything else, would come first. Without subtracting
    the mean, similarities would depend more on the detector than on the patches (benchmarks/bank_quality.py).
    """
    count = len(features)
    if selection != "diverse":
        return Chosen(list(range(min(count, max_patches))), [], list(range(max_patches, count)))
    unit = particular(features)
    fresh = _without_duplicates(unit, duplicate_similarity)
    duplicates = np.setdiff1d(np.arange(count), fresh)
    unit = unit[fresh]
    weight = 1.0 - fresh / max(count, 1)
    kept: list[int] = []
    # Distance to the nearest kept candidate; 2, the maximum, while none is kept.
    distance = np.full(len(fresh), 2.0, np.float32)
    for _ in range(min(max_patches, len(fresh))):
        pick = int(np.argmax(distance * weight))
        kept.append(pick)
        distance = np.minimum(distance, 1.0 - unit @ unit[pick])
        distance[kept[-1]] = -np.inf
    left = np.setdiff1d(np.arange(len(fresh)), kept)
    return Chosen(fresh[kept].tolist(), duplicates.tolist(), fresh[left].tolist())


def _without_duplicates(unit: np.ndarray, duplicate_similarity: float) -> np.ndarray:
    """Ascending rows that are not too similar to an earlier one of the result."""
    fresh = np.zeros(0, np.int64)
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        # Compared with earlier blocks at once; within the block, row by row.
        new = np.ones(len(block), dtype=bool)
        if len(fresh):
            new = (block @ unit[fresh].T).max(axis=1) <= duplicate_similarity
        similar = block @ block.T > duplicate_similarity
        for row in range(len(block)):
            new[row] = new[row] and not (similar[row, :row] & new[:row]).any()
        fresh = np.concatenate([fresh, start + np.flatnonzero(new)])
    return fresh


def particular(features: np.ndarray) -> np.ndarray:
    """(n, D) float32: features minus their mean, scaled to length 1: what distinguishes patches of one concept."""
    rows = features.astype(np.float32)
    return normalised(rows - rows.mean(axis=0)) if len(rows) else rows


def normalised(features: np.ndarray) -> np.ndarray:
    """(n, D) float32: rows scaled to length 1. A row of zeros stays zero."""
    rows = features.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
