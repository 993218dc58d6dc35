"""The scores of retrieval as pages show them, and what they say in a sentence."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

METHODS = {
    "regions + tags": "regions and tags, trained",
    "regions": "regions alone, trained",
    "tags": "tags alone, trained",
    "tag overlap": "tag overlap, no training",
    "chance": "chance",
}
"""Rows of the table: those of the trained network first, then what they are compared with."""


@dataclass(frozen=True)
class Recall:
    """A number in percent with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalRow:
    """A method's recall at 1, 5 and 10, and the median rank of the right answer."""

    method: str
    trained: bool
    recall: tuple[Recall, ...]
    median_rank: float


@dataclass(frozen=True)
class Retrieval:
    """Scores on true pairs, by direction ("text to image" first)."""

    images: int
    captions: int
    directions: dict[str, tuple[RetrievalRow, ...]]


def read_scores(scores: Mapping[str, Any]) -> Retrieval:
    """The rows of what RetrievalReport.to_json gives."""
    directions: dict[str, tuple[RetrievalRow, ...]] = {}
    for direction in ("text to image", "image to text"):
        of_method = {entry["method"]: entry for entry in scores["scores"] if entry["direction"] == direction}
        directions[direction] = tuple(
            RetrievalRow(
                method=label,
                trained=method not in ("tag overlap", "chance"),
                recall=tuple(
                    Recall(estimate["value"], estimate["low"], estimate["high"])
                    for estimate in of_method[method]["recall"].values()
                ),
                median_rank=of_method[method]["median_rank"]["value"],
            )
            for method, label in METHODS.items()
            if method in of_method
        )
    return Retrieval(scores["images"], scores["captions"], directions)


def conclusion(retrieval: Retrieval) -> str:
    """One or two sentences that compare the network that sees regions and tags with tag overlap."""
    rows = {row.method: row for row in retrieval.directions["text to image"]}
    trained, overlap, chance = (rows[METHODS[name]] for name in ("regions + tags", "tag overlap", "chance"))
    ours, theirs = trained.recall[0], overlap.recall[0]
    numbers = (
        f"For {ours.value:.1f} % of the sentences the trained network ranks the right picture first among "
        f"{retrieval.images:,}. Tag overlap, without training, does so for {theirs.value:.1f} %, chance for "
        f"{chance.recall[0].value:.1f} %."
    )
    if ours.low > theirs.high:
        return f"{numbers} The intervals do not overlap: training without a single pair adds to what the tags say."
    if ours.high < theirs.low:
        return f"{numbers} The intervals do not overlap: this short training has not caught up with the tags."
    return f"{numbers} The intervals overlap, so this run does not settle which of the two is better."
