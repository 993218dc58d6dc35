"""torchvision's detection models as detectors. In the Faster R-CNN family a region's feature is its box-head output.

SSD, RetinaNet and FCOS have no box head. Their feature is the mean of a feature map over the region (RoIAlign).
"""

from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.models import detection as models
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.misc import FrozenBatchNorm2d

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model.weights import read_weights, wrong_classes
from vlmixer.pipeline.image.detectors.base import Detections, no_detections
from vlmixer.pipeline.image.detectors.batches import group_by_size
from vlmixer.pipeline.image.detectors.precision import InPrecision, Precision
from vlmixer.pipeline.image.detectors.weights import class_names_in


class TorchvisionDetector:
    """A model of torchvision.models.detection by name. Mask and keypoint models give boxes only.

    weights: None or "default" for the library's own download, the name of one of its sets of weights (COCO_V1), or a
    file (.safetensors, or .pth read with weights_only). classes: for weights from a file, names by label index,
    background first; default: those in the metadata of a .safetensors file (`classes`, a JSON list), or else COCO's.
    min_size, max_size: the image is resized so that its shorter side has min_size pixels and its longer side at most
    max_size. precision: float32, or bfloat16 for the large parts; boxes are always float32. channels_last: the memory
    layout.

    Images are not padded to a common size, because that changes their features. A CPU takes them one by one, an
    accelerator takes images of the same size together.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        classes: Sequence[str] | None = None,
        min_size: int | None = None,
        max_size: int | None = None,
        precision: Precision = "float32",
        channels_last: bool = True,
    ) -> None:
        known = list_models(module=models)
        if name not in known:
            raise CallError(f"images.detector: torchvision has no detector {name!r}. Known: {', '.join(known)}.")
        enum = get_model_weights(name)
        own = not classes and weights is not None and weights.endswith(".safetensors")
        found = class_names_in(weights) if own and weights else None
        self.labels: list[str] = list(classes or found or enum["DEFAULT"].meta["categories"])
        network = self._build(name, enum, weights)
        network.eval()
        _set_threshold(network, score_threshold)
        _set_sizes(network, name, min_size, max_size)
        _boxes_only(network)
        fold_norms(network)
        self._device = torch.device(device)
        self._network: Any = network.to(self._device)
        if channels_last:
            self._network = self._network.to(memory_format=torch.channels_last)
        set_precision(network, precision, device)
        self._box_head = getattr(getattr(network, "roi_heads", None), "box_head", None)
        self._pool = MultiScaleRoIAlign(featmap_names=["pooled"], output_size=1, sampling_ratio=2)
        self.feature_dim = self._probe()

    def _build(self, name: str, enum: Any, weights: str | None) -> nn.Module:
        if weights is None or weights == "default" or weights in enum.__members__:
            chosen = enum["DEFAULT" if weights in (None, "default") else weights]
            if self.labels != chosen.meta["categories"]:
                raise CallError(
                    f"images.detector_options.classes: torchvision's weights for {name} bring their own names. "
                    "Leave classes out, or give the file of weights that they belong to."
                )
            try:
                return get_model(name, weights=chosen)
            except OSError as error:
                raise UserError(
                    f"images.weights: downloading torchvision's weights for {name} failed: {error}. "
                    "Give a file of weights, or run once with a network connection."
                ) from error
        network = get_model(name, weights=None, weights_backbone=None, num_classes=len(self.labels))
        own = network.state_dict()
        state = read_weights(weights, "images.weights", own.keys())
        number = wrong_classes(state, own, len(self.labels))
        if number is not None:
            raise UserError(
                f"images.weights: {weights} has {number} classes, images.detector_options.classes has "
                f"{len(self.labels)} names, background counted. Give the {number} names that the weights were trained "
                "with, background first."
            )
        try:
            network.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(
                f"images.weights: {weights} does not fit {name} with {len(self.labels)} classes: "
                f"{shorten(str(error), 300)} "
                "Set images.detector_options.classes to the names that the weights were trained with, background first."
            ) from None
        return network

    @torch.inference_mode()
    def _maps(self, pixels: Tensor) -> "OrderedDict[str, Tensor]":
        """The backbone's feature maps."""
        maps = self._network.backbone(pixels)
        maps = OrderedDict([("0", maps)]) if isinstance(maps, Tensor) else maps
        return OrderedDict(maps)

    @torch.inference_mode()
    def _probe(self) -> int:
        """The feature's width, from a blank image.

        RoIAlign derives its scales from the first image that it sees and keeps them, and a long thin image gives wrong
        scales. This image gives the right ones, so that no result depends on which image came first.
        """
        maps = self._maps(torch.zeros(1, 3, 320, 320, device=self._device))
        box = torch.tensor([[0.0, 0.0, 320.0, 320.0]], device=self._device)
        return int(self._features(maps, [box], [(320, 320)]).shape[1])

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image; see Detector.detect."""
        found: dict[int, Detections] = {}
        for rows in group_by_size([image.shape for image in images], self._device.type):
            found |= zip(rows, self._detect_same_size([images[row] for row in rows]), strict=True)
        return [found[row] for row in range(len(images))]

    @torch.inference_mode()
    def _detect_same_size(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of images that all have the same size."""
        pixels = [torch.tensor(image).to(self._device).permute(2, 0, 1).float() / 255 for image in images]
        size = (int(pixels[0].shape[1]), int(pixels[0].shape[2]))
        inputs, _ = self._network.transform(pixels, None)
        maps = self._maps(inputs.tensors)
        found = self._regions(inputs, maps)
        counts = [len(regions["boxes"]) for regions in found]
        if not any(counts):
            return [no_detections(self.feature_dim) for _ in images]
        features = self._features(maps, [regions["boxes"] for regions in found], inputs.image_sizes)
        back = self._network.transform.postprocess(found, inputs.image_sizes, [size] * len(images))
        return [
            Detections(
                regions["boxes"].float().cpu().numpy(),
                regions["scores"].float().cpu().numpy(),
                regions["labels"].cpu().numpy().astype(np.int64),
                own.float().cpu().numpy(),
            )
            for regions, own in zip(back, features.split(counts), strict=True)
        ]

    def _regions(self, inputs: Any, maps: "OrderedDict[str, Tensor]") -> list[dict[str, Tensor]]:
        """The model's own detections in each image. Boxes are in pixels of its resized input."""
        network = self._network
        if self._box_head is not None:
            proposals, _ = network.rpn(inputs, maps)
            found, _ = network.roi_heads(maps, proposals, inputs.image_sizes)
            return list(found)
        levels = list(maps.values())
        head = network.head(levels)
        anchors = network.anchor_generator(inputs, levels)
        if isinstance(network, models.ssd.SSD):
            return list(network.postprocess_detections(head, anchors, inputs.image_sizes))
        per_level = [level.shape[2] * level.shape[3] for level in levels]
        cells = [count * (head["cls_logits"].shape[1] // sum(per_level)) for count in per_level]
        split = {key: list(value.split(cells, dim=1)) for key, value in head.items()}
        anchors_by_level = [list(own.split(cells)) for own in anchors]
        return list(network.postprocess_detections(split, anchors_by_level, inputs.image_sizes))

    def _features(self, maps: "OrderedDict[str, Tensor]", boxes: list[Tensor], sizes: list[tuple[int, int]]) -> Tensor:
        """(n, feature_dim) for all images' boxes, in pixels of the resized input."""
        if self._box_head is not None:
            return self._box_head(self._network.roi_heads.box_roi_pool(maps, boxes, sizes))
        return self._pool({"pooled": _finest_map(maps)}, boxes, sizes).flatten(1)


def _finest_map(maps: "OrderedDict[str, Tensor]") -> Tensor:
    """The finest feature map."""
    return next(iter(maps.values()))


def _set_threshold(network: nn.Module, threshold: float) -> None:
    """Let the model drop what the pipeline would drop anyway, so that NMS has fewer boxes."""
    owner: Any = getattr(network, "roi_heads", network)
    owner.score_thresh = threshold


def _set_sizes(network: nn.Module, name: str, shorter: int | None, longer: int | None) -> None:
    if shorter is None and longer is None:
        return
    if isinstance(network, models.ssd.SSD):
        raise CallError(f"images.detector_options: {name} has one fixed input size. Leave out min_size and max_size.")
    transform: Any = network.transform
    if shorter is not None:
        transform.min_size = (shorter,)
    if longer is not None:
        transform.max_size = longer


def _boxes_only(network: nn.Module) -> None:
    """Remove the mask and keypoint heads, whose results are not used."""
    heads: Any = getattr(network, "roi_heads", None)
    for part in ("mask", "keypoint"):
        for kind in ("roi_pool", "head", "predictor"):
            if getattr(heads, f"{part}_{kind}", None) is not None:
                setattr(heads, f"{part}_{kind}", None)


def fold_norms(module: nn.Module) -> None:
    """Fold batch normalisation into the convolutions before it. The backbone takes half the time, and results differ in
    the last digits."""
    children = list(module.named_children())
    for (_, first), (name, second) in pairwise(children):
        if isinstance(first, nn.Conv2d) and isinstance(second, FrozenBatchNorm2d | nn.BatchNorm2d):
            norm: Any = second
            first.weight, first.bias = fuse_conv_bn_weights(
                first.weight, first.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
            )  # fmt: skip
            setattr(module, name, nn.Identity())
    for _, child in children:
        fold_norms(child)


def set_precision(network: nn.Module, precision: Precision, device: str) -> None:
    """Set the precision of the large parts that give no boxes. In bfloat16, box coordinates are two pixels apart."""
    for owner, name in ((network, "backbone"), (getattr(network, "roi_heads", None), "box_head"), (network, "head")):
        if hasattr(owner, name):
            setattr(owner, name, InPrecision(getattr(owner, name), precision, device))
