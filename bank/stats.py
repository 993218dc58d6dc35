"""What is in a bank, in numbers."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from artifacts import files
from bank.building import CONCEPTS
from bank.store import PatchBank


@dataclass(frozen=True)
class ConceptStats:
    """A concept's patches, and the regions there were to choose from. Scores are 0 … 1, sizes pixels of the
    original images (square root of the box's area); both are None where there is no patch."""

    concept: str
    patches: int
    candidates: int
    score_median: float | None
    size_median: float | None


@dataclass(frozen=True)
class BankStats:
    """A bank in numbers; concepts with the most patches first."""

    patches: int
    feature_dim: int
    vocabulary: str
    detector: str
    concepts: tuple[ConceptStats, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    def to_table(self) -> str:
        """Lines for people."""
        filled = [entry for entry in self.concepts if entry.patches]
        empty = [entry.concept for entry in self.concepts if not entry.patches]
        lines = [
            f"{self.patches:,} patches of {len(filled)} concepts, {self.feature_dim}-d features; "
            f"vocabulary {self.vocabulary}, detector {self.detector}",
            "",
            f"{'concept':<24}{'patches':>9}{'of':>10}{'score':>8}{'size':>8}",
        ]
        lines += [
            f"{entry.concept:<24}{entry.patches:>9,}{entry.candidates:>10,}{entry.score_median:>8.2f}{entry.size_median:>8.0f}"
            for entry in filled
        ]
        if empty:
            lines += ["", f"without patches ({len(empty)}): {', '.join(empty)}"]
        return "\n".join(lines)


def bank_stats(bank: PatchBank) -> BankStats:
    """Numbers on every concept of the bank."""
    with files.open_read(files.join(bank.folder, CONCEPTS)) as file:
        candidates = {row["name"]: row["candidates"] for row in pq.read_table(file).to_pylist()}
    entries = []
    for concept in bank.concepts:
        patches = bank.patches(concept.name)
        boxes = np.array([record.box for record in patches.records]).reshape(-1, 4)
        sizes = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        entries.append(
            ConceptStats(
                concept.name,
                len(patches),
                candidates[concept.name],
                float(np.median(patches.scores)) if len(patches) else None,
                float(np.median(sizes)) if len(patches) else None,
            )
        )
    entries.sort(key=lambda entry: (-entry.patches, entry.concept))
    details = bank.manifest.details
    return BankStats(len(bank), bank.feature_dim, details["vocabulary"], details["detector"]["name"], tuple(entries))
