"""The protocol of detectors. The pipeline uses nothing else of a detector, and yours needs no base class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Detections:
    """The regions found in one image. Row i of each array is region i."""

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

    Every worker process constructs the class once, as
    `Class(weights=<path or None>, device="cpu" or "cuda", score_threshold=<float>, **images.detector_options)`.
    """

    # Properties, so that an attribute of a narrower type, such as list[str], fits, too.
    @property
    def labels(self) -> Sequence[str]:
        """Names of the classes, by label index."""
        ...

    @property
    def feature_dim(self) -> int:
        """Width D of a region's feature."""
        ...

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The regions of each image. images: upright RGB, uint8 (height, width, 3), sizes may differ.

        The result of an image must not depend on the other images. If this raises, the pipeline calls it again for one
        image at a time, and rejects the images for which it raises again. Mistakes in the code, such as a NameError,
        stop the work.
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
