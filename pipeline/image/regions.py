"""Chooses which detections of an image are kept: those of a concept, large enough, without overlaps, best first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmixer.pipeline.image.detectors.base import Detections


@dataclass(frozen=True)
class Region:
    """A region of a known concept.

    box: (4,) float32 xyxy in pixels of the upright image, inside it; feature: (D,) float16.
    """

    box: np.ndarray
    concept: str
    score: float
    feature: np.ndarray


@dataclass(frozen=True)
class RegionChoice:
    """Which regions of an image are kept.

    score_threshold: minimum score; lower scores are kept only until there are `min_regions`. nms_threshold: of two
    regions of one concept whose intersection over union is higher, only the better one is kept; 1 keeps both. min_side:
    minimum of the shorter side, in pixels. max_regions: maximum number; the best are kept.
    """

    score_threshold: float = 0.3
    nms_threshold: float = 1.0
    min_side: float = 1.0
    min_regions: int = 0
    max_regions: int = 36


class BadFeature(ValueError):
    """A kept detection has numbers that are not finite."""


def choose_regions(
    detections: Detections, concepts: Sequence[str | None], *, width: int, height: int, choice: RegionChoice
) -> list[Region]:
    """The regions that `choice` keeps, best first. Equal scores keep the detector's order.

    concepts: by label, the name of its concept; None for labels outside the vocabulary, whose regions are dropped.
    Boxes are clipped to the image first, and a region narrower than one pixel is dropped. Raises BadFeature.
    """
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    sides = np.minimum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    usable = (sides >= max(choice.min_side, 1)) & ~np.isnan(detections.scores)
    usable &= np.array([concepts[label] is not None for label in detections.labels], dtype=bool)
    order = [row for row in np.argsort(-detections.scores, kind="stable") if usable[row]]
    keep: list[int] = []
    for row in order:
        wanted = detections.scores[row] >= choice.score_threshold or len(keep) < choice.min_regions
        if not wanted or len(keep) == choice.max_regions:
            break
        rivals = [other for other in keep if concepts[detections.labels[other]] == concepts[detections.labels[row]]]
        if not rivals or _overlap(boxes[row], boxes[rivals]).max() <= choice.nms_threshold:
            keep.append(row)
    features = detections.features[keep].astype(np.float16)
    if not (np.isfinite(features).all() and np.isfinite(detections.scores[keep]).all()):
        raise BadFeature("features or scores that are not finite as float16")
    return [
        Region(boxes[row], str(concepts[detections.labels[row]]), float(detections.scores[row]), feature)
        for row, feature in zip(keep, features, strict=True)
    ]


def _overlap(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of (4,) with each of (n, 4): (n,)."""
    inner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inner = inner.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return inner / (areas - inner)
