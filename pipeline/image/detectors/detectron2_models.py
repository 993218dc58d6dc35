"""detectron2's models as detectors: box, score, class and box-head feature of each instance that the model keeps.

detectron2 is not on PyPI, so it is imported when a detector is made. detectron2_config.py makes the network.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.detectors.base import Detections, no_detections
from vlmixer.pipeline.image.detectors.detectron2_config import class_names, load_model, load_weights
from vlmixer.pipeline.image.detectors.precision import Precision, autocast

INSTALL = (
    "detectron2 is not installed, and it is not on PyPI. With torch installed, run: pip install 'setuptools<82' wheel "
    "ninja; "
    "FORCE_CUDA=0 pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git' "
    "(without FORCE_CUDA=0 where there is a CUDA compiler). docs/detectors.md has more."
)


class Detectron2Detector:
    """A model of detectron2 by config: one of its model zoo, or a file.

    config: such as COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml, or the path of a .yaml or .py file. weights: a file
    (.safetensors, or .pth read with weights_only), or None for what the config names. classes: names by class index, a
    list or a text file with one name per line; None for those of the config's test set in detectron2's catalog.
    overrides: keys and values in turn, applied to a YAML config. allow_pickle: allow weights in .pkl files, which can
    run code, as the model zoo has them. allow_code: allow the user's own config to be a .py program, or YAML that runs
    code. precision: float32, or bfloat16 for the backbone.

    Features: R-CNN, the box head's output for the proposal that became the instance (FPN 1024; in a cascade, the last
    stage's); C4, the mean of its last block (2048). RetinaNet and FCOS have no box head; their feature is the mean of
    the finest map over the box. Images go through one by one, without padding to a common size.
    """

    def __init__(
        self,
        config: str,
        weights: str | None = None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        classes: Sequence[str] | str | None = None,
        overrides: Sequence[Any] = (),
        allow_pickle: bool = False,
        allow_code: bool = False,
        precision: Precision = "float32",
    ) -> None:
        try:
            import detectron2  # noqa: F401
        except ModuleNotFoundError as error:
            if error.name != "detectron2":
                raise UserError(
                    f"images.detector: detectron2 cannot be used: {error}. Install what it needs."
                ) from None
            raise UserError(f"images.detector: {INSTALL}") from None
        with warnings.catch_warnings(action="ignore"):  # from torch, about how detectron2 uses it
            settings = load_model(config, overrides, device, allow_code)
        self._network: Any = settings.network.to(device).eval()
        self._device, self._settings = torch.device(device), settings
        self._autocast = autocast(precision, device)
        kind = _kind(self._network)
        if not kind:
            raise CallError(f"images.detector: {config} is a {type(self._network).__name__}, which finds no boxes.")
        self._find = getattr(self, f"_find_{kind}")
        load_weights(self._network, weights, settings.weights, config, allow_pickle)
        for part in (self._network, *self._network.modules()):
            if hasattr(part, "test_score_thresh"):
                part.test_score_thresh = score_threshold
        count = self._network.num_classes if kind == "dense" else self._network.roi_heads.num_classes
        self.labels: Sequence[str] = class_names(classes, settings.test_set, count, config)
        with warnings.catch_warnings(action="ignore"):
            self.feature_dim = self._probe()

    @torch.inference_mode()
    def _probe(self) -> int:
        """The feature's width, from one box on a blank image."""
        from detectron2.structures import Boxes

        images, maps = self._look(np.zeros((128, 128, 3), np.uint8))
        height, width = images.image_sizes[0]
        box = Boxes(torch.tensor([[0.0, 0.0, width, height]], device=self._device))
        if _kind(self._network) == "dense":
            return int(self._pool(maps, box.tensor).shape[1])
        return int(_box_features(self._network.roi_heads, maps, [box]).shape[1])

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image; see Detector.detect."""
        return [self._detect_one(image) for image in images]

    @torch.inference_mode()
    def _detect_one(self, image: np.ndarray) -> Detections:
        from detectron2.modeling.postprocessing import detector_postprocess

        images, maps = self._look(image)
        found = self._find(images, maps)
        found = detector_postprocess(found, image.shape[0], image.shape[1])
        if not len(found):
            return no_detections(self.feature_dim)
        return Detections(
            found.pred_boxes.tensor.float().cpu().numpy(),
            found.scores.float().cpu().numpy(),
            found.pred_classes.cpu().numpy().astype(np.int64),
            found.box_features.float().cpu().numpy(),
        )

    def _look(self, image: np.ndarray) -> tuple[Any, dict[str, Tensor]]:
        """detectron2's ImageList of the one image as its config resizes it, and the backbone's maps, float32."""
        settings = self._settings
        pixels = image[:, :, ::-1] if settings.bgr else image
        if settings.resize is not None:
            pixels = np.ascontiguousarray(pixels)
            pixels = settings.resize.get_transform(pixels).apply_image(pixels)
        tensor = torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32))
        images = self._network.preprocess_image([{"image": tensor}])
        with self._autocast:
            maps = self._network.backbone(images.tensor)
        return images, {name: level.float() for name, level in maps.items()}

    def _find_rcnn(self, images: Any, maps: dict[str, Tensor]) -> Any:
        proposals, _ = self._network.proposal_generator(images, maps, None)
        heads = self._network.roi_heads
        if isinstance(heads.box_predictor, nn.ModuleList):
            return _find_cascade(heads, maps, proposals)
        features = _box_features(heads, maps, [proposals[0].proposal_boxes])
        found, kept = heads.box_predictor.inference(heads.box_predictor(features), proposals)
        found[0].box_features = features[kept[0]]
        return found[0]

    def _find_dense(self, images: Any, maps: dict[str, Tensor]) -> Any:
        levels = [maps[name] for name in self._network.head_in_features]
        found = self._network.forward_inference(images, levels, self._network.head(levels))[0]
        inside = found.pred_boxes.clone()
        inside.clip(found.image_size)
        found.box_features = self._pool(maps, inside.tensor)
        return found

    def _pool(self, maps: dict[str, Tensor], boxes: Tensor) -> Tensor:
        """(n, channels): means of the finest map over boxes in pixels of the resized input."""
        from torchvision.ops import roi_align

        name = self._network.head_in_features[0]
        scale = 1 / self._network.backbone.output_shape()[name].stride
        return roi_align(maps[name], [boxes], 1, scale, sampling_ratio=2, aligned=True).flatten(1)


def _kind(network: nn.Module) -> str:
    from detectron2.modeling.meta_arch import GeneralizedRCNN
    from detectron2.modeling.meta_arch.dense_detector import DenseDetector
    from detectron2.modeling.roi_heads import Res5ROIHeads, StandardROIHeads

    if isinstance(network, DenseDetector):
        return "dense"
    if not isinstance(network, GeneralizedRCNN) or network.proposal_generator is None:
        return ""
    return "rcnn" if isinstance(network.roi_heads, Res5ROIHeads | StandardROIHeads) else ""


def _box_features(heads: Any, maps: dict[str, Tensor], boxes: list[Any], stage: int = -1) -> Tensor:
    """(n, D): what the classes and corrections of the boxes are predicted from. stage: of a cascade."""
    levels = [maps[name] for name in heads.in_features]
    if hasattr(heads, "res5"):
        return heads.res5(heads.pooler(levels, boxes)).mean(dim=[2, 3])
    head = heads.box_head[stage] if isinstance(heads.box_head, nn.ModuleList) else heads.box_head
    features = head(heads.box_pooler(levels, boxes))
    return features.mean(dim=[2, 3]) if features.dim() == 4 else features


def _find_cascade(heads: Any, maps: dict[str, Tensor], proposals: list[Any]) -> Any:
    """What CascadeROIHeads does, but the last stage's features are kept with what is found."""
    from detectron2.modeling.roi_heads.fast_rcnn import fast_rcnn_inference

    sizes = [proposals[0].image_size]
    scores: list[Tensor] = []
    boxes: Any = None
    for stage, predictor in enumerate(heads.box_predictor):
        if stage:
            proposals = heads._create_proposals_from_boxes(boxes, sizes)
        features = _box_features(heads, maps, [proposals[0].proposal_boxes], stage)
        predictions = predictor(features)
        boxes = predictor.predict_boxes(predictions, proposals)
        scores.append(predictor.predict_probs(predictions, proposals)[0])
    mean = sum(scores) * (1.0 / len(scores))
    found, kept = fast_rcnn_inference(
        boxes, [mean], sizes, predictor.test_score_thresh, predictor.test_nms_thresh, predictor.test_topk_per_image
    )
    found[0].box_features = features[kept[0]]
    return found[0]
