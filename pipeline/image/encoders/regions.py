"""The feature of a region by encoders: its crop through the network, or the part of the picture's map that it
covers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import shorten
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.base import Detections, Detector
from vlmixer.pipeline.image.encoders.networks import (
    KEY,
    TIMM,
    TRANSFORMERS,
    Identity,
    Network,
    TimmNetwork,
    TransformersNetwork,
)

CROPS_AT_A_TIME = 16
Pooling = Literal["crop", "map"]


class RegionEncoder:
    """Gives regions features. pooling: `crop` encodes the square around each region, cut at the image's edges; `map`
    encodes the whole image as a square once and takes the mean of the last map over each region (RoIAlign)."""

    def __init__(self, network: Network, pooling: Pooling = "crop") -> None:
        if pooling not in ("crop", "map"):
            raise CallError(f"images.feature_options: pooling: expected crop or map, found {pooling!r}.")
        self.network = network
        self._pooling = pooling
        blank = np.zeros((8, 8, 3), np.uint8)
        try:
            self.width = int(self.encode(blank, np.array([[0, 0, 8, 8]], np.float32)).shape[1])
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{KEY}: {network.identity['name']} cannot encode a picture of {network.size} pixels with "
                f"{pooling}: {type(error).__name__}: {shorten(str(error), 200)}. Choose another size or "
                "pooling in feature_options."
            ) from error
        self.identity: Identity = network.identity | {"pooling": pooling, "width": self.width}
        if self.reads_texts:
            self.identity["texts"] = True

    @torch.inference_mode()
    def encode(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """(n, width) float32, for boxes (n, 4) xyxy in pixels of an image (height, width, 3) uint8 RGB."""
        if not len(boxes):
            return np.zeros((0, self.width), np.float32)
        if self._pooling == "map":
            return self._from_map(image, boxes)
        picture, size = Image.fromarray(np.ascontiguousarray(image)), self.network.size
        crops = [warped(picture, around(box), size) for box in boxes]
        parts = [
            self.network.pool(self.network.prepare(crops[start : start + CROPS_AT_A_TIME])).float().cpu()
            for start in range(0, len(crops), CROPS_AT_A_TIME)
        ]
        found: np.ndarray = torch.cat(parts).numpy()
        return found

    @property
    def reads_texts(self) -> bool:
        """Whether `texts` works: CLIP and SigLIP read texts, and crops are in the space that they share."""
        return isinstance(self.network, TransformersNetwork) and self.network.reads_texts and self._pooling == "crop"

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """(n, width) float32, comparable with the features of regions. Raises CallError if it does not read texts."""
        if not isinstance(self.network, TransformersNetwork) or not self.reads_texts:
            raise CallError(f"{KEY}: {self.identity['name']} with {self._pooling} cannot be compared with texts.")
        found: np.ndarray = self.network.texts(texts).float().cpu().numpy()
        return found

    def _from_map(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        from torchvision.ops import roi_align

        height, width = image.shape[:2]
        size = self.network.size
        whole = warped(Image.fromarray(np.ascontiguousarray(image)), np.array([0, 0, width, height]), size)
        level = self.network.map(self.network.prepare([whole])).float()
        rows, columns = level.shape[2:]
        scaled = boxes * np.array([columns / width, rows / height] * 2, np.float32)
        regions = torch.from_numpy(scaled.astype(np.float32)).to(level.device)
        found: np.ndarray = roi_align(level, [regions], 1, 1.0, sampling_ratio=2, aligned=True).flatten(1).cpu().numpy()
        return found


def around(box: np.ndarray) -> np.ndarray:
    """The square around a box (4,) xyxy whose side is the box's longer side. (Measured: docs/detectors.md.)"""
    centre, side = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    return np.concatenate([centre - side / 2, centre + side / 2])


def warped(picture: Image.Image, box: np.ndarray, size: int) -> np.ndarray:
    """The part of a picture in a box, xyxy in its pixels, as uint8 (size, size, 3): clipped, and at least a pixel."""
    (left, right), (top, bottom) = (_span(box[axis], box[axis + 2], picture.size[axis]) for axis in (0, 1))
    return np.array(picture.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, right, bottom)))


def _span(first: float, last: float, length: int) -> tuple[float, float]:
    """The part of 0 … length between first and last, at least 1 long."""
    start = min(max(float(first), 0.0), length - 1.0)
    return start, min(max(float(last), start + 1.0), float(length))


class WithFeatures:
    """A detector whose regions have the features of `parts`, in order; None stands for its own. Several are
    concatenated, each of unit length, so that each counts the same in a similarity."""

    def __init__(self, detector: Detector, parts: Sequence[RegionEncoder | None]) -> None:
        self._detector, self._parts = detector, list(parts)
        self.labels = detector.labels
        self.feature_dim = sum(detector.feature_dim if part is None else part.width for part in parts)

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image; see Detector.detect."""
        found = list(self._detector.detect(images))
        if len(found) != len(images):
            return found  # The pipeline says what is wrong.
        return [
            replace(own, features=features_of(image, own.boxes, self._parts, own.features))
            for image, own in zip(images, found, strict=True)
        ]


def features_of(
    image: np.ndarray, boxes: np.ndarray, parts: Sequence[RegionEncoder | None], own: np.ndarray | None = None
) -> np.ndarray:
    """(n, D) float32, the features of boxes (n, 4) by `parts`; None stands for `own`, (n, d). Several are concatenated,
    each of unit length."""
    found = [own if part is None else part.encode(image, boxes) for part in parts]
    given = [part for part in found if part is not None]
    if len(given) == 1:
        return given[0]
    return np.concatenate([unit(part) for part in given], axis=1).astype(np.float32)


def unit(features: np.ndarray) -> np.ndarray:
    """Rows of unit length; rows of zeros stay."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    divided: np.ndarray = features / np.where(lengths > 0, lengths, 1)
    return divided


def load_encoder(part: str, options: Mapping[str, Any], device: str) -> RegionEncoder:
    """The encoder that a part of images.features names. Raises CallError, UserError."""
    kinds: dict[str, Any] = {TIMM: TimmNetwork, TRANSFORMERS: TransformersNetwork}
    for prefix, kind in kinds.items():
        if part.startswith(prefix):
            own = {key: value for key, value in options.items() if key != "pooling"}
            try:
                network = kind(part.removeprefix(prefix), device, **own)
            except TypeError as error:
                if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise
                raise CallError(f"images.feature_options: {part}: {error}. See docs/detectors.md.") from None
            return RegionEncoder(network, options.get("pooling", "crop"))
    raise CallError(
        f"{KEY}: {part!r} is unknown. Expected detector, {TIMM}NAME, {TRANSFORMERS}NAME, or a list of these."
    )
