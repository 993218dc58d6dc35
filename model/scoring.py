"""Scores of a retrieval: recall and rank from a matrix of captions × images, with bootstrap intervals.

Everything here is a pure function of such a matrix. Where the matrices come from is left to model.evaluate.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import one_line
from vlmixer.artifacts.rng import generator

CUTOFFS = (1, 5, 10)
CONFIDENCE = 0.95
FOLDS = (1000, 5000)
"""Sizes of the galleries in COCO's protocol, which long lists are cut into."""
CONCEPTS_SHOWN = 40
"""Number of concepts in the table for people, the most frequent ones."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalScore:
    """How well `method` finds a right answer in `direction` ("text to image" or "image to text").

    `recall`: percentage of queries with a right answer among the first 1, 5 and 10. `median_rank` counts from 1.
    `log2_rank`: the mean of log2 of the rank, which chance moves less than R@10. Ties count as the mean over all orders
    of the tied answers. `ahead`: R@10 minus that of tag overlap. Both are taken on
    the same images in each bootstrap sample, so the interval is narrower than those of the two.
    """

    method: str
    direction: str
    recall: dict[int, Estimate]
    median_rank: Estimate
    log2_rank: Estimate
    ahead: Estimate


@dataclass(frozen=True)
class FoldScore:
    """The mean recall of `method` over `folds` galleries of `size` images each, as COCO's 1k and 5k results have it.

    The list is cut into folds in its own order; images after the last whole fold are left out.
    """

    size: int
    folds: int
    method: str
    direction: str
    recall: dict[int, float]


@dataclass(frozen=True)
class GroupScore:
    """Text to image: the captions that mention `concept`, or, if it is null, no concept at all.

    `regions`, `tag_overlap`: R@10 of these methods in percent, among all images.
    """

    concept: str | None
    captions: int
    regions: float
    tag_overlap: float


@dataclass(frozen=True)
class RetrievalReport:
    """All scores of a run on one set of images and captions."""

    images: int
    captions: int
    scores: tuple[RetrievalScore, ...]
    folds: tuple[FoldScore, ...] = ()
    groups: tuple[GroupScore, ...] = ()

    def score(self, method: str, direction: str = "text to image") -> RetrievalScore:
        """The score of `method` in `direction`. Raises KeyError if there is none."""
        for score in self.scores:
            if (score.method, score.direction) == (method, direction):
                return score
        raise KeyError((method, direction))

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_table(self) -> str:
        """A table for people."""
        head = ["", *(f"R@{k}" for k in CUTOFFS), "median rank", "ahead"]
        lines = [
            f"{self.images} images, {self.captions} captions; ±: half of the 95 % bootstrap interval; "
            f"ahead: R@{CUTOFFS[-1]} minus that of tag overlap"
        ]
        for direction in dict.fromkeys(score.direction for score in self.scores):
            rows = [
                [
                    score.method,
                    *(_short(score.recall[k]) for k in CUTOFFS),
                    _short(score.median_rank),
                    _short(score.ahead),
                ]
                for score in self.scores
                if score.direction == direction
            ]
            lines.append("")
            for row in [[direction, *head[1:]], *rows]:
                lines.append("  ".join([f"{row[0]:<24}", *(f"{cell:>14}" for cell in row[1:])]))
        if self.folds:
            lines += ["", "mean over folds of the list"]
        for fold in self.folds:
            recall = "  ".join(f"R@{cutoff} {value:.1f}" for cutoff, value in fold.recall.items())
            lines.append(f"{fold.folds} × {fold.size:,} images, {fold.direction}, {fold.method}: {recall}")
        return "\n".join(map(one_line, [*lines, *self._groups()]))

    def _groups(self) -> list[str]:
        named = [group for group in self.groups if group.concept is not None]
        if not self.groups:
            return []
        lines = ["", f"text to image by concept, R@{CUTOFFS[-1]}: regions, tag overlap"]
        for group in [*(group for group in self.groups if group.concept is None), *named[:CONCEPTS_SHOWN]]:
            name = "captions without a concept" if group.concept is None else group.concept
            lines.append(f"{name:<28}{group.captions:>6} captions{group.regions:>8.1f}{group.tag_overlap:>8.1f}")
        never = [group.concept for group in named if group.concept is not None and not group.regions]
        lines.append(f"never found: {', '.join(never) or 'none'}")
        return lines


def tag_overlap(captions: Sequence[set[str]], images: Sequence[set[str]]) -> np.ndarray:
    """(captions, images) float64: the sum over the shared concepts of log(N / number of images with the tag)."""
    frequency = Counter(tag for tags in images for tag in tags)
    column = {tag: number for number, tag in enumerate(sorted(frequency))}
    weight = np.log(len(images) / np.array([frequency[tag] for tag in column], np.float64))
    caption_rows, image_rows = np.zeros((len(captions), len(column))), np.zeros((len(images), len(column)))
    for rows, sets in ((caption_rows, captions), (image_rows, images)):
        for row, tags in zip(rows, sets, strict=True):
            row[[column[tag] for tag in tags if tag in column]] = 1.0
    return (caption_rows * weight) @ image_rows.T


def score_matrix(
    method: str,
    scores: np.ndarray,
    overlap: np.ndarray,
    owner: np.ndarray,
    text_first: bool,
    resamples: int,
    seed: int,
) -> RetrievalScore:
    """The score of one matrix in one direction.

    `scores`: (captions, images), higher is better. `overlap`: the same for tag overlap, the baseline. `owner`:
    (captions,) int64, the image of each caption. With `text_first` the captions are the queries, else the images that
    have captions. All images are in the gallery.

    The bootstrap draws images, each with all its captions, because captions of one image do not fail independently.
    The gallery stays whole.
    """
    right = owner[:, None] == np.arange(scores.shape[1])[None, :]
    if not text_first:
        asked = right.any(axis=0)
        scores, overlap, right = scores.T[asked], overlap.T[asked], right.T[asked]
    hits, ranks = expected_hits(scores, right, CUTOFFS), expected_ranks(scores, right)
    group = owner if text_first else np.arange(len(scores))
    draws = _draws(group, resamples, seed)
    recall = {cutoff: _estimate(100 * hits[:, column], draws, np.mean) for column, cutoff in enumerate(CUTOFFS)}
    direction = "text to image" if text_first else "image to text"
    lead = 100 * (hits[:, -1] - expected_hits(overlap, right, CUTOFFS[-1:])[:, 0])
    ahead = _estimate(lead, draws, np.mean)
    median, log2 = _estimate(ranks, draws, np.median), _estimate(np.log2(ranks), draws, np.mean)
    return RetrievalScore(method, direction, recall, median, log2, ahead)


def fold_scores(methods: Mapping[str, np.ndarray], owner: np.ndarray) -> tuple[FoldScore, ...]:
    """Scores of the folds of all sizes in FOLDS that the list is long enough for.

    `methods`: (captions, images) scores of each method. `owner`: (captions,) int64, the image of each caption.
    """
    found = []
    images = next(iter(methods.values())).shape[1]
    for size in FOLDS:
        starts = [at for at in range(0, images - size + 1, size) if ((owner >= at) & (owner < at + size)).any()]
        for text_first in (True, False) if starts else ():
            for method, scores in methods.items():
                recall = np.mean([_fold_recall(scores, owner, start, size, text_first) for start in starts], axis=0)
                direction = "text to image" if text_first else "image to text"
                values = {cutoff: float(value) for cutoff, value in zip(CUTOFFS, recall, strict=True)}
                found.append(FoldScore(size, len(starts), method, direction, values))
    return tuple(found)


def _fold_recall(scores: np.ndarray, owner: np.ndarray, start: int, size: int, text_first: bool) -> np.ndarray:
    rows = (owner >= start) & (owner < start + size)
    part = scores[rows, start : start + size]
    right = owner[rows][:, None] == np.arange(start, start + size)[None, :]
    if not text_first:
        asked = right.any(axis=0)
        part, right = part.T[asked], right.T[asked]
    recall: np.ndarray = 100 * expected_hits(part, right, CUTOFFS).mean(axis=0)
    return recall


def group_scores(
    regions: np.ndarray, overlap: np.ndarray, owner: np.ndarray, concepts: Sequence[set[str]]
) -> tuple[GroupScore, ...]:
    """R@10 by concept, the most frequent first, and of the captions without one.

    `regions`, `overlap`: (captions, images) scores of these methods. `concepts`: those of each caption.
    """
    right = owner[:, None] == np.arange(regions.shape[1])[None, :]
    hits = [100 * expected_hits(scores, right, CUTOFFS[-1:])[:, 0] for scores in (regions, overlap)]
    counts = Counter(concept for found in concepts for concept in found)
    names: list[str | None] = [*sorted(counts, key=lambda name: (-counts[name], name)), None]
    groups = []
    for name in names:
        rows = [row for row, found in enumerate(concepts) if (name in found if name is not None else not found)]
        if rows:
            groups.append(GroupScore(name, len(rows), *(float(each[rows].mean()) for each in hits)))
    return tuple(groups)


def expected_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(queries,) float64: the rank, from 1, of the best right answer. Ties count as the mean over all their orders.

    `scores`: (queries, gallery). `right`: (queries, gallery) bool, at least one true in each row.
    """
    better, tied, tied_right = _tied(scores, right)
    return better + (tied + 1) / (tied_right + 1)


def expected_hits(scores: np.ndarray, right: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """(queries, cutoffs) float64: the chance that a right answer is among the first k, over all orders of ties.

    `scores`, `right`: as in `expected_ranks`.
    """
    better, tied, tied_right = _tied(scores, right)
    hits = np.zeros((len(scores), len(cutoffs)))
    for column, cutoff in enumerate(cutoffs):
        seats = np.clip(cutoff - better, 0, tied)
        # The chance that no tied right answer gets one of the seats, which are drawn without replacement.
        miss = np.ones(len(scores))
        for drawn in range(int(seats.max(initial=0))):
            left = np.maximum(tied - drawn, 1)
            miss *= np.where(drawn < seats, np.maximum(tied - tied_right - drawn, 0) / left, 1.0)
        hits[:, column] = 1.0 - miss
    return hits


def _tied(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per query: answers above the best right one, answers with its score, and right answers among the latter."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    level = scores == best
    return (scores > best).sum(axis=1), level.sum(axis=1), (level & right).sum(axis=1)


def _draws(group: np.ndarray, resamples: int, seed: int) -> list[np.ndarray]:
    """Rows of each bootstrap sample: whole groups, drawn with replacement."""
    members = [np.flatnonzero(group == number) for number in np.unique(group)]
    random = generator(seed, "bootstrap")
    return [
        np.concatenate([members[number] for number in random.integers(len(members), size=len(members))])
        for _ in range(resamples)
    ]


def _estimate(values: np.ndarray, draws: Sequence[np.ndarray], statistic: Callable[[np.ndarray], Any]) -> Estimate:
    drawn = [statistic(values[rows]) for rows in draws]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(statistic(values)), float(low), float(high))


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ± {(estimate.high - estimate.low) / 2:.1f}"
