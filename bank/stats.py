"""The content of a bank in numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import one_line
from vlmixer.bank.store import PatchBank

QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class ConceptStats:
    """A concept: its patches, the regions to choose from (candidates), and those left out as near-duplicates.

    scores: 0 … 1, and sizes: square root of the box's area in pixels of the original image, both at QUANTILES; None if
    there are no patches. mentions: number of mentions in the tagged text; None if it was not read.
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
    """A bank in numbers. Concepts with the most patches come first.

    scores, sizes: over all patches, at QUANTILES. wanted: concepts that the tagged text mentions but that have no
    patches, with their number of mentions, the most mentioned first; None if no text was read.
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
            "candidates: regions to choose from; duplicates: near-duplicates left out; score and size (√ of the box's "
            "area, in pixels): 10 %, median, 90 %",
            f"{'concept':<22}{'patches':>9}{'candidates':>12}{'duplicates':>12}{'score':>16}{'size':>16}"
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
            lines += ["", f"mentioned in the text but without patches ({len(self.wanted)}): {named}"]
        return "\n".join(map(one_line, lines))


def _line(entry: ConceptStats) -> str:
    scores = " ".join(f"{value:.2f}" for value in entry.scores or ())
    sizes = " ".join(f"{value:.0f}" for value in entry.sizes or ())
    mentions = "" if entry.mentions is None else f"{entry.mentions:>10,}"
    return (
        f"{entry.concept:<22}{entry.patches:>9,}{entry.candidates:>12,}{entry.near_duplicates:>12,}"
        f"{scores:>16}{sizes:>16}{mentions}"
    )


def bank_stats(bank: PatchBank, mentions: Mapping[str, int] | None = None) -> BankStats:
    """Statistics of every concept of the bank. mentions: how often a text mentions each concept."""
    entries = []
    all_scores: list[np.ndarray] = []
    all_sizes: list[np.ndarray] = []
    for name in bank.counts:
        patches = bank.patches(name, keep=False)
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
