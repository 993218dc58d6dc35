"""A custom detector: ONNX exports with non-maximum suppression inside, as Ultralytics and others write them.

    yolo export model=yolo11n.pt format=onnx nms=True

    images:
      detector: examples.yolo_onnx:YoloOnnx
      weights: yolo11n.onnx
      features: timm:efficientnet_lite0                     # such exports have no feature maps to take features from

Exports of other tools often differ in how they prepare images. Options say how; the defaults are Ultralytics'.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.onnx_session import OnnxSession

PADDING = 114  # the grey that Ultralytics puts around an image
USUAL_SIZE = 640  # of exports whose size is not fixed
MAX_METADATA = 1_000_000

Fit = Literal["centre", "corner", "stretch"]


class YoloOnnx:
    """An export that gives final boxes, by one of two kinds of outputs:

    - one output (1, N, 6): x1, y1, x2, y2, score, class. Rows with score 0 are padding.
    - three outputs: boxes (N, 4), scores (N,) and classes (N,), with or without a first axis of 1. Classes are known by
      their type, integers, or by "class" or "label" in their name.

    Boxes are xyxy in pixels of the input. A box's own feature is its centre, size and score, 5 numbers: name an encoder
    in `images.features` for a useful one.

    Args:
        weights: the file. Its input is (1, 3, H, W), RGB; H and W may be free, then `size` counts.
        device: "cpu" or "cuda".
        score_threshold: lower scores are dropped. An export has a threshold of its own.
        classes: names by class, a list or a text file; None for those in the file's metadata (`names`).
        fit: how an image gets the input's size: `centre` (in the middle of grey), `corner` (top left) or `stretch`.
        size: of the input's sides, if the file does not fix them.
        scale: the value of white, 1 or 255.
        bgr: whether colours are in the order blue, green, red.

    Raises:
        UserError, CallError: the file is missing or not such an export, or it names no classes.
    """

    feature_dim = 5

    def __init__(
        self,
        weights: str | Path | None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        classes: Sequence[str] | str | None = None,
        fit: Fit = "centre",
        size: int = USUAL_SIZE,
        scale: float = 1.0,
        bgr: bool = False,
    ) -> None:
        if fit not in ("centre", "corner", "stretch"):
            raise CallError(f"images.detector_options.fit: expected centre, corner or stretch, found {fit!r}.")
        self._threshold, self._fit, self._scale, self._bgr = score_threshold, fit, scale, bgr
        self._weights = weights
        self._session = OnnxSession(weights, device)
        shape = self._session.shape
        if len(shape) != 4 or shape[1] not in (3, "3"):
            raise UserError(f"{weights}: its input is {shape}, expected (1, 3, H, W).")
        self._height, self._width = (side if isinstance(side, int) else size for side in shape[2:])
        self.labels: Sequence[str] = (
            read_class_names(classes) if classes else _names_in(self._session.metadata, weights)
        )
        self._rows(self._session_run(np.zeros((self._height, self._width, 3), np.uint8)))  # whether outputs are known

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The regions of each image; see Detector.detect. One by one, so that no image can change another's result."""
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        canvas, ratio, offset = self._fitted(image)
        boxes, scores, labels = self._rows(self._session_run(canvas))
        kept = scores >= max(self._threshold, 1e-6)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        if len(labels) and not 0 <= labels.min() <= labels.max() < len(self.labels):
            raise UserError(
                f"{self._weights} found class {labels.max()}, but there are {len(self.labels)} names. Set "
                "images.detector_options.classes to the names that it was trained with."
            )
        edges = np.array([width, height] * 2, np.float32)
        boxes = ((boxes - np.tile(offset, 2)) / np.tile(ratio, 2)).astype(np.float32).clip(0, edges)
        boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
        sizes = (boxes[:, 2:] - boxes[:, :2]) / edges[:2]
        centres = (boxes[:, 2:] + boxes[:, :2]) / 2 / edges[:2]
        features = np.concatenate([centres, sizes, scores[:, None]], axis=1).astype(np.float32)
        return Detections(boxes, scores.astype(np.float32), labels.astype(np.int64), features)

    def _fitted(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The input's pixels; its pixels per pixel of the image and the image's place in it, as x and y."""
        height, width = image.shape[:2]
        if self._fit == "stretch":
            inner = (self._width, self._height)
        else:
            ratio = min(self._height / height, self._width / width)
            inner = max(1, round(width * ratio)), max(1, round(height * ratio))
        spare = np.array([self._width - inner[0], self._height - inner[1]])
        left, top = np.round(spare / 2 - 0.1).astype(int) if self._fit == "centre" else (0, 0)
        canvas = np.full((self._height, self._width, 3), PADDING, np.uint8)
        resized = Image.fromarray(np.ascontiguousarray(image)).resize(inner, Image.Resampling.BILINEAR)
        canvas[top : top + inner[1], left : left + inner[0]] = np.asarray(resized)
        return canvas, np.array(inner) / [width, height], np.array([left, top])

    def _session_run(self, canvas: np.ndarray) -> list[np.ndarray]:
        pixels = canvas[None, :, :, ::-1] if self._bgr else canvas[None]
        values = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) * np.float32(self._scale / 255)
        return self._session.run(values)

    def _rows(self, outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (n, 4), scores (n,) and classes (n,) int64. Raises UserError if the outputs are of no known kind."""
        if len(outputs) == 1 and outputs[0].ndim == 3 and outputs[0].shape[2] == 6:
            rows = outputs[0][0]
            return rows[:, :4], rows[:, 4], np.rint(rows[:, 5]).astype(np.int64)
        named = list(zip(self._session.outputs, outputs, strict=True))
        by_role = {_role(name, output): output for name, output in named}
        if len(outputs) == 3 and set(by_role) == {"boxes", "scores", "classes"}:
            boxes, scores, classes = (by_role[role] for role in ("boxes", "scores", "classes"))
            if scores.size == classes.size == boxes.size // 4:
                return boxes.reshape(-1, 4), scores.ravel(), np.rint(classes.ravel()).astype(np.int64)
        found = ", ".join(f"{name} {output.shape}" for name, output in named)
        raise UserError(
            f"{self._weights}: its outputs are {found}. Expected one (1, N, 6), or boxes, scores and classes. Export "
            "it with non-maximum suppression (Ultralytics: nms=True)."
        )


def _role(name: str, output: np.ndarray) -> str:
    """What one of three outputs has: by its shape, its type, or else its name."""
    if output.ndim > 1 and output.shape[-1] == 4:
        return "boxes"
    return "classes" if output.dtype.kind in "iu" or re.search("label|class", name.lower()) else "scores"


def _names_in(metadata: Mapping[str, str], weights: str | Path | None) -> list[str]:
    """The class names in the file's metadata, as Ultralytics writes them: a dict of numbers and names."""
    text = metadata.get("names", "")
    try:
        found = ast.literal_eval(text) if len(text) <= MAX_METADATA else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if isinstance(found, dict) and found and all(isinstance(key, int) and 0 <= key < 100_000 for key in found):
        return [str(found.get(number, "")) for number in range(max(found) + 1)]
    if isinstance(found, list) and found:
        return [str(name) for name in found]
    raise UserError(f"{weights} has no class names in its metadata. Set images.detector_options.classes.")
