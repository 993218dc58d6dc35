"""Detections of one image → the regions that are kept: mapped to concepts, thresholded, best first, at most N."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.image.detectors.base import Detections


@dataclass(frozen=True)
class Region:
    """A region of a known concept.

    box: (4,) float32 xyxy in pixels of the upright image, inside it; feature: (D,) float16.
    """

    box: np.ndarray
    concept: str
    score: float
    feature: np.ndarray


class BadFeature(ValueError):
    """A detection holds numbers that are not finite."""


def choose_regions(
    detections: Detections,
    concepts: Sequence[str | None],
    *,
    width: int,
    height: int,
    score_threshold: float,
    max_regions: int,
) -> list[Region]:
    """Regions with a concept and a score of at least `score_threshold`, best first, at most `max_regions`.

    `concepts[label]` is the concept's name, None for labels that the vocabulary lacks. Boxes are clipped to the image;
    what is then narrower than a pixel is left out. Equal scores keep the detector's order. Raises BadFeature.
    """
    boxes = np.clip(detections.boxes, 0, np.array([width, height, width, height], np.float32)).astype(np.float32)
    wide_enough = (boxes[:, 2] - boxes[:, 0] >= 1) & (boxes[:, 3] - boxes[:, 1] >= 1)
    known = np.array([concepts[label] is not None for label in detections.labels], dtype=bool)
    order = np.argsort(-detections.scores, kind="stable")
    keep = [row for row in order if wide_enough[row] and known[row] and detections.scores[row] >= score_threshold]
    keep = keep[:max_regions]
    features = detections.features[keep].astype(np.float16)
    if not (np.isfinite(features).all() and np.isfinite(detections.scores[keep]).all()):
        raise BadFeature("features or scores that are not finite as float16")
    return [
        Region(boxes[row], str(concepts[detections.labels[row]]), float(detections.scores[row]), feature)
        for row, feature in zip(keep, features, strict=True)
    ]
