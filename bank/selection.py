"""Which patches of a concept the bank keeps: a bounded list of candidates first, then a choice among them.

Candidates are references; features are read for them alone. All of it is a function of its arguments.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artifacts.rng import stable_hash

Selection = Literal["diverse", "score", "random"]

CANDIDATES_PER_PATCH = 4
"""`diverse` chooses among so many times `max_patches_per_concept` of the best-scored regions (ours)."""


@dataclass(frozen=True, order=True)
class Candidate:
    """A region that may come into the bank. Smaller is better: `rank` first, then the patch id.

    `part` and `row` say where in regions/ it lies; `context` are the ids of its image's other concepts.
    """

    rank: float
    patch_id: str
    part: str
    row: int
    context: tuple[int, ...]


def rank(selection: Selection, score: float, patch_id: str, seed: int) -> float:
    """What candidates of a concept are ordered by, smallest first."""
    if selection == "random":
        return stable_hash(seed, "bank", patch_id, bits=48) / 2.0**48
    return -score


def candidate_limit(selection: Selection, max_patches: int) -> int:
    """How many candidates of a concept are looked at."""
    return max_patches * (CANDIDATES_PER_PATCH if selection == "diverse" else 1)


def best(candidates: Iterable[Candidate], limit: int) -> list[Candidate]:
    """The `limit` best, in order: the same however the candidates came together."""
    return heapq.nsmallest(limit, candidates)


@dataclass(frozen=True)
class Chosen:
    """Rows of the candidates: kept ones in the order of choice, near-duplicates, and those that came too late."""

    kept: list[int]
    duplicates: list[int]
    over_limit: list[int]


def choose(selection: Selection, features: np.ndarray, max_patches: int, duplicate_similarity: float) -> Chosen:
    """Choose among a concept's candidates, given best first.

    features: (n, D) float, one row a candidate. `score` and `random` take the first `max_patches`. `diverse` drops
    near-duplicates (cosine similarity above `duplicate_similarity` to a better candidate), keeps the best, and then
    again and again the candidate whose nearest kept one is furthest, weighted by how well it ranks.
    """
    count = len(features)
    if selection != "diverse":
        return Chosen(list(range(min(count, max_patches))), [], list(range(max_patches, count)))
    unit = normalised(features)
    fresh: list[int] = []
    duplicates: list[int] = []
    seen = np.empty_like(unit)
    for row in range(count):
        if fresh and float((seen[: len(fresh)] @ unit[row]).max()) > duplicate_similarity:
            duplicates.append(row)
        else:
            seen[len(fresh)] = unit[row]
            fresh.append(row)
    left = np.array(fresh, dtype=np.int64)
    # Rank weighs from 1 for the best down to a half for the last: variety without taking the detector's errors first.
    weight = 1.0 - 0.5 * left / max(count, 1)
    kept: list[int] = []
    unit, nearest = seen[: len(fresh)], np.full(len(fresh), -1.0, np.float32)
    open_rows = np.ones(len(left), dtype=bool)
    while len(kept) < min(max_patches, len(left)):
        gain = np.where(open_rows, (1.0 - nearest) * weight, -np.inf)
        pick = int(np.argmax(gain))
        open_rows[pick] = False
        kept.append(int(left[pick]))
        nearest = np.maximum(nearest, unit @ unit[pick])
    return Chosen(kept, duplicates, [int(row) for row in left[open_rows]])


def normalised(features: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1, float32; a row of zeros stays one."""
    rows = features.astype(np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
