"""A custom detector: YOLOX, exported to ONNX and run by onnxruntime. Read it before you write your own.

A detector is any class with `labels`, `feature_dim` and `detect`. The config names it by import path; its constructor
gets `weights`, `device`, `score_threshold` and its own options:

    images:
      detector: examples.yolox_onnx:YoloxOnnx
      weights: yolox_nano_with_fpn_feats.onnx
      detector_options: {nms_iou: 0.45}

The pipeline reads the photos, limits the regions, and maps class names to concepts. A detector does none of that.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.models.detection import SSD300_VGG16_Weights
from torchvision.ops import batched_nms, roi_align

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.onnx_session import OnnxSession

STRIDES = (8, 16, 32)  # pixels between the cells of YOLOX's three grids
PADDING = 114  # the grey around YOLOX's training images
COCO_CLASSES = [n for n in SSD300_VGG16_Weights.COCO_V1.meta["categories"] if n not in ("__background__", "N/A")]


class YoloxOnnx:
    """YOLOX with region features: the mean of each of its three feature maps over the box, concatenated.

    Args:
        weights: an ONNX export with one input (1, 3, H, W), BGR 0..255, H and W multiples of 32; undecoded
            predictions (1, N, 5 + classes); and the head's feature maps at strides 8, 16 and 32 as further outputs.
        device: "cpu" or "cuda".
        score_threshold: regions with objectness × class probability below this are dropped.
        classes: a text file with one class name per line; None for COCO's 80 names.
        nms_iou: of two boxes of one class that overlap by more, the one with the lower score is dropped.

    Raises:
        UserError: the file is missing or not such an export, the number of names is wrong, or there is no such device.
    """

    def __init__(
        self,
        weights: str | Path | None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        classes: str | Path | None = None,
        nms_iou: float = 0.45,
    ) -> None:
        self.score_threshold, self.nms_iou = score_threshold, nms_iou
        self._session = OnnxSession(weights, device)
        shape = self._session.shape
        if len(shape) != 4 or not all(isinstance(side, int) and side % STRIDES[-1] == 0 for side in shape[2:]):
            raise UserError(f"{weights}: its input is {shape}, expected [1, 3, H, W] with fixed multiples of 32.")
        self._height, self._width = shape[2:]
        grids = [np.indices((self._height // s, self._width // s))[::-1].reshape(2, -1).T for s in STRIDES]
        self._cells = np.concatenate(grids).astype(np.float32)  # (N, 2) column and row
        self._strides = np.repeat(STRIDES, [len(grid) for grid in grids]).astype(np.float32)[:, None]  # (N, 1)

        # The declared shapes of an export may be symbolic, so take those of a real output.
        outputs = self._run(np.zeros((self._height, self._width, 3), np.uint8))
        self._prediction, self._maps = self._find_outputs(outputs, weights)
        self.feature_dim: int = sum(outputs[index].shape[1] for index in self._maps)
        self.labels: Sequence[str] = _read_names(classes) if classes else COCO_CLASSES
        count = outputs[self._prediction].shape[2] - 5
        if len(self.labels) != count:
            raise UserError(
                f"{weights} predicts {count} classes, but {classes or 'the COCO list'} has {len(self.labels)}: "
                f"set `images.detector_options.classes` to a text file with {count} names."
            )

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The regions of each image (upright RGB uint8 (height, width, 3), any size), best first."""
        # One by one: batches are hardly faster on a CPU, and no image can change the result of another.
        return [self._detect_one(image) for image in images]

    def _detect_one(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        ratio = min(self._height / height, self._width / width)
        inner = max(1, round(width * ratio)), max(1, round(height * ratio))
        canvas = np.full((self._height, self._width, 3), PADDING, np.uint8)
        canvas[: inner[1], : inner[0]] = Image.fromarray(image).resize(inner, Image.Resampling.BILINEAR)
        outputs = self._run(canvas)

        found = outputs[self._prediction][0]  # (N, 5 + classes): x, y, log width, log height, objectness, classes
        scores = found[:, 4] * found[:, 5:].max(axis=1)
        likely = scores >= self.score_threshold
        found, scores, labels = found[likely], scores[likely], found[likely, 5:].argmax(axis=1)
        centres = (found[:, :2] + self._cells[likely]) * self._strides[likely]
        halves = np.exp(found[:, 2:4]) * self._strides[likely] / 2
        scale = np.array([inner[0] / width, inner[1] / height] * 2, np.float32)
        boxes = np.concatenate([centres - halves, centres + halves], axis=1) / scale
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        inside = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)  # a box in the padding has no area
        boxes, scores, labels = boxes[inside], scores[inside], labels[inside]

        kept = batched_nms(*map(torch.from_numpy, (boxes, scores, labels)), self.nms_iou).numpy()
        regions = torch.from_numpy(boxes[kept] * scale)
        maps = [torch.from_numpy(outputs[index]) for index in self._maps]
        pooled = [roi_align(m, [regions], 1, 1 / s, aligned=True) for m, s in zip(maps, STRIDES, strict=True)]
        return Detections(boxes[kept], scores[kept], labels[kept], torch.cat(pooled, dim=1).flatten(1).numpy())

    def _run(self, canvas: np.ndarray) -> list[np.ndarray]:
        bgr = np.ascontiguousarray(canvas[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32)
        return self._session.run(bgr)

    def _find_outputs(self, outputs: list[np.ndarray], weights: str | Path | None) -> tuple[int, list[int]]:
        """The indices of the predictions and of the feature maps at each stride, found by their shapes."""
        predictions = [i for i, out in enumerate(outputs) if out.ndim == 3 and out.shape[1] == len(self._cells)]
        maps = []
        for stride in STRIDES:
            shape = (self._height // stride, self._width // stride)
            same = [i for i, out in enumerate(outputs) if out.ndim == 4 and out.shape[2:] == shape]
            # Exports may have inner maps, too. In YOLOX, the map that enters the head is the widest of its stride.
            maps += sorted(same, key=lambda i: -outputs[i].shape[1])[:1]
        if not predictions or len(maps) < len(STRIDES):
            raise UserError(
                f"{weights}: its outputs are {[out.shape for out in outputs]}; expected predictions "
                f"(1, {len(self._cells)}, 5 + classes) and feature maps at strides 8, 16, 32 to pool from. Export a "
                "module whose forward is `maps = yolox.backbone(x); return (yolox.head(maps), *maps)`, after "
                "`yolox.head.decode_in_inference = False`."
            )
        return predictions[0], maps


def _read_names(path: str | Path) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: expected a UTF-8 text file with one class name per line ({error}).") from error
    return [line.strip() for line in lines if line.strip()]
