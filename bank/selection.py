"""Which patches of a concept the bank keeps: a bounded list of candidates first, then a choice among them.

Candidates are places in regions/; features are read for them alone. All of it is a function of its arguments.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlmixer.artifacts.rng import stable_hash

Selection = Literal["diverse", "score", "random"]

CANDIDATES_PER_PATCH = 4
"""`diverse` chooses among so many times `max_patches_per_concept` of the best-scored regions (ours)."""

_BLOCK = 256

PLACE = np.dtype([("rank", "<f8"), ("part", "<i4"), ("row", "<i4")])
"""A region that may come into the bank: what it is ordered by, and where in regions/ it lies. Smaller is better, so
that regions of equal rank keep the order of regions/."""


def ranks(selection: Selection, scores: np.ndarray, patch_ids: Sequence[str], seed: int) -> np.ndarray:
    """(n,) float64: what regions of a concept are ordered by, smallest first. scores: (n,)."""
    if selection == "random":
        hashes = [stable_hash(seed, "bank", patch_id, bits=48) for patch_id in patch_ids]
        return np.array(hashes, np.float64) / 2.0**48
    return -scores.astype(np.float64)


def candidate_limit(selection: Selection, max_patches: int) -> int:
    """How many candidates of a concept are looked at."""
    return max_patches * (CANDIDATES_PER_PATCH if selection == "diverse" else 1)


def best(places: np.ndarray, limit: int) -> np.ndarray:
    """The `limit` best places (PLACE), in order: the same however they came together."""
    return places[np.lexsort((places["row"], places["part"], places["rank"]))[:limit]]


@dataclass(frozen=True)
class Chosen:
    """Rows of the candidates: kept ones in the order of choice, near-duplicates, and those that came too late."""

    kept: list[int]
    duplicates: list[int]
    over_limit: list[int]


def choose(selection: Selection, features: np.ndarray, max_patches: int, duplicate_similarity: float) -> Chosen:
    """Choose among a concept's candidates, given best first.

    features: (n, D) float, one row a candidate. `score` and `random` take the first `max_patches`. `diverse` compares
    what is particular to each candidate, its feature less the concept's mean: it drops near-duplicates (cosine
    similarity above `duplicate_similarity` to a better candidate), keeps the best, and then again and again the
    candidate whose nearest kept one is furthest, weighted by its rank from 1 for the best down to 0 behind the last.

    Without the weight a detector's errors, which are like nothing else, would come first; without the mean taken off
    how alike patches seem would depend on the detector more than on the patches (benchmarks/bank_quality.py).
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
    # Distance to the nearest kept one; 2, the largest there is, while there is none.
    distance = np.full(len(fresh), 2.0, np.float32)
    for _ in range(min(max_patches, len(fresh))):
        pick = int(np.argmax(distance * weight))
        kept.append(pick)
        distance = np.minimum(distance, 1.0 - unit @ unit[pick])
        distance[kept[-1]] = -np.inf
    left = np.setdiff1d(np.arange(len(fresh)), kept)
    return Chosen(fresh[kept].tolist(), duplicates.tolist(), fresh[left].tolist())


def _without_duplicates(unit: np.ndarray, duplicate_similarity: float) -> np.ndarray:
    """Rows, ascending, that are not more alike than this to an earlier one of these rows."""
    fresh = np.zeros(0, np.int64)
    for start in range(0, len(unit), _BLOCK):
        block = unit[start : start + _BLOCK]
        # Against what was kept before, a block at a time; within the block, one after the other.
        new = np.ones(len(block), dtype=bool)
        if len(fresh):
            new = (block @ unit[fresh].T).max(axis=1) <= duplicate_similarity
        alike = block @ block.T > duplicate_similarity
        for row in range(len(block)):
            new[row] = new[row] and not (alike[row, :row] & new[:row]).any()
        fresh = np.concatenate([fresh, start + np.flatnonzero(new)])
    return fresh


def particular(features: np.ndarray) -> np.ndarray:
    """What tells a concept's patches apart: features less their mean, scaled to length 1; (n, D) float32."""
    rows = features.astype(np.float32)
    return normalised(rows - rows.mean(axis=0)) if len(rows) else rows


def normalised(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; a row of zeros stays one."""
    rows = features.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
