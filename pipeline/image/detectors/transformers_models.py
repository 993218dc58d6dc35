"""Detectors of the transformers library with fixed classes: DETR, RT-DETR, D-FINE, YOLOS and whatever else is an
AutoModelForObjectDetection. A region's feature is the state of the query that made its box.
"""

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.batches import group_by_size
from vlmixer.pipeline.image.detectors.transformers_folder import (
    check_no_weights,
    find_folder,
    import_library,
    load_network,
    load_processor,
    read_config,
)

KEY = "images.detector"
PROBE = (480, 640, 3)
"""The shape of the blank image by which the width of features is found. The processor resizes it like a photo."""


class TransformersDetector:
    """A model of AutoModelForObjectDetection, from a folder or the Hub's cache.

    name: a folder that save_pretrained wrote, or OWNER/MODEL in the cache; nothing is downloaded. weights: None; the
    folder has them. classes: names by label index, a list or a file; default: the config's. size: in place of the image
    processor's own, such as {"shortest_edge": 480, "longest_edge": 800}. revision: of a model of the Hub.

    The image processor of the folder resizes the images, and its own rule turns the network's output into boxes. The
    feature is the decoder's last hidden state of the query, the same for all boxes that a query makes. YOLOS has no
    decoder: its detection token's.

    Images are not padded to a common size. A CPU takes them one by one, an accelerator takes images of the same size
    together.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        classes: Sequence[str] | str | None = None,
        size: Mapping[str, int] | None = None,
        revision: str | None = None,
    ) -> None:
        check_no_weights(name, weights)
        import_library(KEY)
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        folder = find_folder(name, KEY, revision)
        config = read_config(folder, KEY)
        if type(config) not in AutoModelForObjectDetection._model_mapping:
            raise CallError(f"{KEY}: {folder} is a model of type {config.model_type!r}, which finds no boxes.")
        self._processor: Any = load_processor(AutoImageProcessor, folder, KEY, **({"size": dict(size)} if size else {}))
        if not hasattr(self._processor, "post_process_object_detection"):
            raise UserError(
                f"{KEY}: the image processor in {folder} is a {type(self._processor).__name__}, which makes no boxes. "
                "Add the preprocessor_config.json of the model."
            )
        self._device, self._threshold = torch.device(device), score_threshold
        self._network: Any = load_network(AutoModelForObjectDetection, folder, config, KEY).to(self._device)
        self.labels: list[str] = _class_names(config, classes, folder)
        try:
            (found,) = self._detect_same_size([np.zeros(PROBE, np.uint8)])
        except (AttributeError, ImportError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"{KEY}: {folder} cannot look at an image: {type(error).__name__}: {shorten(str(error), 300)}."
            ) from error
        self.feature_dim = found.features.shape[1]

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of each image; see Detector.detect."""
        found: dict[int, Detections] = {}
        for rows in group_by_size([image.shape for image in images], self._device.type):
            found |= zip(rows, self._detect_same_size([images[row] for row in rows]), strict=True)
        return [found[row] for row in range(len(images))]

    def _detect_same_size(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of images that all have the same size."""
        outputs, states, canvas = self._run(images)
        height, width = images[0].shape[:2]
        regions = self._boxes(outputs, canvas)
        queries = self._boxes(type(outputs)(**{**outputs, "pred_boxes": numbered(outputs.pred_boxes)}), (1.0, 1.0))
        results = []
        for own, numbers, state in zip(regions, queries, states, strict=True):
            kept = own["scores"] >= self._threshold
            boxes = own["boxes"][kept].float().cpu().numpy().clip(0, np.array([width, height] * 2, np.float32))
            boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
            results.append(
                Detections(
                    boxes,
                    own["scores"][kept].float().cpu().numpy(),
                    own["labels"][kept].cpu().numpy().astype(np.int64),
                    state[numbers["boxes"][kept][:, 0].long()].float().cpu().numpy(),
                )
            )
        return results

    @torch.inference_mode()
    def _run(self, images: Sequence[np.ndarray]) -> tuple[Any, Tensor, tuple[float, float]]:
        """The network's outputs, its queries' states (images, queries, D), and the height and width of its input in
        pixels of the images."""
        inputs = self._processor(
            images=[np.array(image) for image in images], return_tensors="pt", input_data_format="channels_last"
        ).to(self._device)
        outputs = self._network(**inputs)
        return outputs, _query_states(outputs, self._network.config), canvas(images[0].shape, inputs)

    def _boxes(self, outputs: Any, canvas: tuple[float, float]) -> list[dict[str, Tensor]]:
        """What the image processor makes of outputs: scores, labels and boxes of each image, before any threshold."""
        count = len(outputs.logits)
        sizes = torch.tensor([canvas] * count, dtype=torch.float32, device=self._device)
        found = self._processor.post_process_object_detection(outputs, threshold=-1.0, target_sizes=sizes)
        return list(found)


def numbered(boxes: Tensor) -> Tensor:
    """Boxes (images, queries, 4) whose left edge is the query's number. The processor's rule sorts and repeats boxes;
    these show which query each came from."""
    numbers = torch.zeros_like(boxes, dtype=torch.float32)
    numbers[..., 0] = torch.arange(boxes.shape[1], device=boxes.device)
    return numbers


def _query_states(outputs: Any, config: Any) -> Tensor:
    """(images, queries, D): the states from which classes and boxes were predicted."""
    count = outputs.logits.shape[1]
    states: Tensor = outputs.last_hidden_state
    if getattr(config, "num_detection_tokens", None) == count:  # after the picture's tokens
        states = states[:, -count:]
    if states.shape[1] != count:
        raise ValueError(f"{states.shape[1]} hidden states for {count} queries")
    return states


def canvas(shape: tuple[int, ...], inputs: Mapping[str, Tensor]) -> tuple[float, float]:
    """Height and width of the network's input, in pixels of the image: the image's own, unless the processor pads to a
    fixed size. Then boxes are relative to the padded input, as in the annotations that it makes for training."""
    height, width = float(shape[0]), float(shape[1])
    mask = inputs.get("pixel_mask")
    if mask is None:
        return height, width
    inside = mask[0].bool()
    return height * inside.shape[0] / int(inside.any(1).sum()), width * inside.shape[1] / int(inside.any(0).sum())


def _class_names(config: Any, classes: Sequence[str] | str | None, folder: str) -> list[str]:
    """Names by label index, "" for numbers without a name."""
    count = int(config.num_labels)
    if classes is None:
        return [str(config.id2label.get(number, "")) for number in range(count)]
    names = read_class_names(classes)
    if len(names) != count:
        raise CallError(
            f"images.detector_options.classes: {len(names)} names, but {folder} has {count} classes. Give the names "
            "that it was trained with, in the order of its labels."
        )
    return names
