"""The drawn world's detector: a small torchvision Faster R-CNN, and its class for the pipeline.

`build_network` is the network, `DemoDetector` runs it on pictures of any size and gives each region the output of the
box head as its feature. `train_detector` trains it. The weights that ship are next to this file.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import TwoMLPHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, nms

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.demo.categories import CATEGORIES
from vlmixer.pipeline.image.detectors.base import Detections, no_detections

WEIGHTS = Path(__file__).with_name("detector.safetensors")
FEATURE_DIM = 128
SHORTER_SIDE = 160
"""Pixels of the shorter side of the network's input; the longer side is at most LONGER_SIDE."""
LONGER_SIDE = 320


class _Residual(nn.Module):
    """Two 3×3 convolutions with BatchNorm around a shortcut; halves width and height if `stride` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class _Backbone(nn.Module):
    """A residual network with a feature pyramid of two levels, at 1/8 and 1/16 of the input's sides."""

    out_channels = 64

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 24, 3, 2, 1, bias=False), nn.BatchNorm2d(24), nn.ReLU(inplace=True))
        self.quarter = _Residual(24, 32, 2)
        self.eighth = nn.Sequential(_Residual(32, 64, 2), _Residual(64, 64, 1))
        self.sixteenth = nn.Sequential(_Residual(64, 128, 2), _Residual(128, 128, 1))
        self.pyramid = FeaturePyramidNetwork([64, 128], self.out_channels)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        eighth = self.eighth(self.quarter(self.stem(x)))
        levels = OrderedDict([("8", eighth), ("16", self.sixteenth(eighth))])
        return dict(self.pyramid(levels))


def build_network() -> FasterRCNN:
    """The untrained network. Its label 0 is the background, label i + 1 is `categories.CATEGORIES[i]`."""
    return FasterRCNN(
        _Backbone(),
        num_classes=None,
        min_size=SHORTER_SIDE,
        max_size=LONGER_SIDE,
        size_divisible=16,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
        rpn_anchor_generator=AnchorGenerator(((24, 38), (56, 84)), ((0.5, 1.0, 2.0),) * 2),
        rpn_pre_nms_top_n_train=300,
        rpn_post_nms_top_n_train=120,
        rpn_pre_nms_top_n_test=150,
        rpn_post_nms_top_n_test=40,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["8", "16"], output_size=6, sampling_ratio=2),
        box_head=TwoMLPHead(6 * 6 * _Backbone.out_channels, FEATURE_DIM),
        box_predictor=_Predictor(len(CATEGORIES) + 1),
        box_batch_size_per_image=32,
        box_positive_fraction=0.4,
        box_detections_per_img=20,
    )


class _Predictor(nn.Module):
    """Class scores and one box for each class, from the box head's output."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(FEATURE_DIM, classes)
        self.bbox_pred = nn.Linear(FEATURE_DIM, classes * 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(x), self.bbox_pred(x)


def resize(image: np.ndarray) -> np.ndarray:
    """Resizes an RGB uint8 (height, width, 3) image to the sides that the network was trained on."""
    height, width = image.shape[:2]
    scale = min(SHORTER_SIDE / min(height, width), LONGER_SIDE / max(height, width))
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


class DemoDetector:
    """Finds the drawn world's categories; implements the `Detector` protocol.

    A region's feature is the box head's output, pooled again from the final box. Of regions that overlap by more than
    `nms_threshold` (intersection over union) only the best is kept, whatever their classes.
    """

    labels: Sequence[str] = tuple(category.name for category in CATEGORIES)
    feature_dim: int = FEATURE_DIM

    def __init__(
        self,
        weights: str | None = None,
        device: str = "cpu",
        score_threshold: float = 0.5,
        nms_threshold: float = 0.5,
    ) -> None:
        """`weights` is a safetensors file as `train_detector` writes it; None takes the one that ships.

        Raises UserError where the file cannot be read or belongs to another network.
        """
        self._device = torch.device(device)
        self._score_threshold = score_threshold
        self._nms_threshold = nms_threshold
        self._network = build_network()
        path = Path(weights) if weights else WEIGHTS
        try:
            self._network.load_state_dict(load_file(path))
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{path}: cannot read the demo detector's weights ({error}); expected a safetensors file, "
                "written by `python -m vlmixer.pipeline.demo.train_detector --out FILE`"
            ) from error
        except RuntimeError as error:
            raise UserError(
                f"{path}: these weights belong to another network; the demo's detector takes only files written by "
                "`python -m vlmixer.pipeline.demo.train_detector --out FILE`"
            ) from error
        self._network.float().eval().to(self._device)
        # RoIAlign keeps the scales of its first image for all later ones; those of a square image fit any.
        self._detect_one(np.zeros((256, 256, 3), np.uint8))

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image, best first; see the protocol. Images are run one by one, at about 160 pixels."""
        return [self._detect_one(image) for image in images]

    @torch.inference_mode()
    def _detect_one(self, image: np.ndarray) -> Detections:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(resize(image).copy()).to(self._device).permute(2, 0, 1).float() / 255
        network = self._network
        inputs, _ = network.transform([pixels])
        features = network.backbone(inputs.tensors)
        proposals, _ = network.rpn(inputs, features)
        found = network.roi_heads(features, proposals, inputs.image_sizes)[0][0]

        kept = found["scores"] >= self._score_threshold
        boxes, scores, labels = found["boxes"][kept], found["scores"][kept], found["labels"][kept]
        kept = nms(boxes, scores, self._nms_threshold)
        boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
        if not len(boxes):
            return no_detections(FEATURE_DIM)
        heads = network.roi_heads
        pooled = heads.box_head(heads.box_roi_pool(features, [boxes], inputs.image_sizes))
        seen_height, seen_width = inputs.image_sizes[0]
        boxes = boxes * boxes.new_tensor([width / seen_width, height / seen_height] * 2)
        return Detections(
            boxes.cpu().numpy().astype(np.float32),
            scores.cpu().numpy().astype(np.float32),
            labels.cpu().numpy() - 1,
            pooled.cpu().numpy().astype(np.float32),
        )
