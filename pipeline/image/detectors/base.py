"""What a detector is. The pipeline knows detectors through this protocol only; yours needs no base class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The regions found in one image; row i of each array is one region."""

    boxes: np.ndarray
    """(n, 4) float32, xyxy, pixels of the image passed in."""
    scores: np.ndarray
    """(n,) float32, 0..1."""
    labels: np.ndarray
    """(n,) int64, indices into `Detector.labels`."""
    features: np.ndarray
    """(n, feature_dim) float32."""


class Detector(Protocol):
    """Finds regions in images and gives each a feature.

    The class is made once in every worker process, as
    `Class(weights=<path or None>, device="cpu" or "cuda", score_threshold=<float>, **images.detector_options)`.
    """

    labels: Sequence[str]
    """Names of the classes, by label index."""

    feature_dim: int
    """Width D of a region's feature."""

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image. `images`: upright RGB uint8 (height, width, 3); sizes may differ.

        An image's result must not depend on the other images of the list. An exception makes the pipeline ask again
        for one image at a time, and reject the image that raises alone.
        """
        ...


def no_detections(feature_dim: int) -> Detections:
    """The result for an image without regions."""
    return Detections(
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.zeros((0, feature_dim), np.float32),
    )
