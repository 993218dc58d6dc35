"""What is in a bank, in numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmixer.bank.store import PatchBank

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class ConceptStats:
    """A concept's patches, the regions there were to choose from, and how many of these were near-duplicates.

    Scores are 0 … 1, sizes pixels of the original images (square root of the box's area), both at QUANTILES, None where
    there is no patch. `mentions` are those of the tagged text, None where it was not looked at.
    """

    concept: str
    patches: int
    candidates: int
    near_duplicates: int
    scores: tuple[float, ...] | None
    sizes: tuple[float, ...] | None
    mentions: int | None = None


@dataclass(frozen=True)
class BankStats:
    """A bank in numbers; concepts with the most patches first.

    `scores` and `sizes` are over all patches, at QUANTILES. `wanted` are concepts, and their mentions, that the tagged
    text names and the bank has no patch of, the most mentioned first; None where no text was looked at.
    """

    patches: int
    feature_dim: int
    vocabulary: str
    detector: str
    scores: tuple[float, ...] | None
    sizes: tuple[float, ...] | None
    concepts: tuple[ConceptStats, ...]
    wanted: dict[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "quantiles": QUANTILES}

    def to_table(self) -> str:
        """Lines for people."""
        filled = [entry for entry in self.concepts if entry.patches]
        empty = [entry.concept for entry in self.concepts if not entry.patches]
        lines = [
            f"{self.patches:,} patches of {len(filled)} concepts, {self.feature_dim}-d features; "
            f"vocabulary {self.vocabulary}, detector {self.detector}",
            "",
            "score and size (√ of the box's area, in pixels) of the patches: 10 % below, median, 10 % above",
            f"{'concept':<22}{'patches':>9}{'of':>11}{'too like':>9}{'score':>16}{'size':>16}"
            + ("" if self.wanted is None else f"{'mentions':>10}"),
        ]
        lines += [_line(entry) for entry in filled]
        if self.scores and self.sizes:
            candidates = sum(entry.candidates for entry in self.concepts)
            duplicates = sum(entry.near_duplicates for entry in self.concepts)
            lines.append(_line(ConceptStats("all", self.patches, candidates, duplicates, self.scores, self.sizes)))
        if empty:
            lines += ["", f"without patches ({len(empty)}): {', '.join(empty)}"]
        if self.wanted is not None:
            named = ", ".join(f"{name} ({count:,})" for name, count in self.wanted.items()) or "none"
            lines += ["", f"mentioned in the text, but without patches ({len(self.wanted)}): {named}"]
        return "\n".join(lines)


def _line(entry: ConceptStats) -> str:
    scores = " ".join(f"{value:.2f}" for value in entry.scores or ())
    sizes = " ".join(f"{value:.0f}" for value in entry.sizes or ())
    mentions = "" if entry.mentions is None else f"{entry.mentions:>10,}"
    return (
        f"{entry.concept:<22}{entry.patches:>9,}{entry.candidates:>11,}{entry.near_duplicates:>9,}"
        f"{scores:>16}{sizes:>16}{mentions}"
    )


def bank_stats(bank: PatchBank, mentions: Mapping[str, int] | None = None) -> BankStats:
    """Numbers on every concept of the bank. mentions: how often a text names each concept."""
    entries = []
    all_scores: list[np.ndarray] = []
    all_sizes: list[np.ndarray] = []
    for name in bank.counts:
        patches = bank.patches(name)
        boxes = patches.boxes.astype(np.float64)
        sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        all_scores.append(patches.scores)
        all_sizes.append(sizes)
        entries.append(
            ConceptStats(
                name,
                len(patches),
                bank.candidates[name],
                bank.near_duplicates[name],
                _quantiles(patches.scores),
                _quantiles(sizes),
                None if mentions is None else mentions.get(name, 0),
            )
        )
    entries.sort(key=lambda entry: (-entry.patches, entry.concept))
    details = bank.manifest.details
    wanted = None
    if mentions is not None:
        lacking = [(name, count) for name, count in mentions.items() if count and not bank.counts.get(name)]
        wanted = dict(sorted(lacking, key=lambda entry: (-entry[1], entry[0])))
    return BankStats(
        len(bank),
        bank.feature_dim,
        details.vocabulary,
        details.detector.name,
        _quantiles(np.concatenate(all_scores)),
        _quantiles(np.concatenate(all_sizes)),
        tuple(entries),
        wanted,
    )


def _quantiles(values: np.ndarray) -> tuple[float, ...] | None:
    return tuple(float(value) for value in np.quantile(values, QUANTILES)) if len(values) else None
