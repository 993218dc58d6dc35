"""Detectors of the transformers library that are asked for things by name (AutoModelForZeroShotObjectDetection):
OWL-ViT, OWLv2, Grounding DINO, MM Grounding DINO, OMDet-Turbo. They are asked for the vocabulary's concepts.
"""

import re
from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import torch

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.bank.concepts import Concept
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.detectors.base import Detections
from vlmixer.pipeline.image.detectors.batches import group_by_size
from vlmixer.pipeline.image.detectors.transformers_askers import ASKERS, Asker
from vlmixer.pipeline.image.detectors.transformers_folder import (
    check_no_weights,
    find_folder,
    load_network,
    load_processor,
    read_config,
)
from vlmixer.pipeline.image.detectors.transformers_models import KEY, PROBE


class OpenVocabularyDetector:
    """A model of AutoModelForZeroShotObjectDetection, from a folder or the Hub's cache, asked for `concepts`.

    name, weights, size, revision: as of TransformersDetector. concepts: those of the vocabulary. classes: names to ask
    for in place of them, a list or a file. template: of a phrase, with {} for the name. synonyms: whether to ask for
    each synonym, too; the concept gets the best score. concepts_per_prompt: maximum number of phrases that go into one
    text of models that read many at once; None for as many as fit.

    OWL compares each region with each phrase on its own, so no result depends on the other phrases. In Grounding DINO
    and OMDet-Turbo a picture is looked at once per prompt, and phrases of one prompt influence each other; with
    `concepts_per_prompt: 1` they do not. What depends on texts alone is computed once, and the image's own part once
    per image. The feature is what is compared with the phrases: OWL's class embedding, or the query's last hidden
    state.
    """

    def __init__(
        self,
        name: str,
        weights: str | None = None,
        device: str = "cpu",
        score_threshold: float = 0.3,
        *,
        concepts: Sequence[Concept] = (),
        classes: Sequence[str] | str | None = None,
        template: str | None = None,
        synonyms: bool = False,
        concepts_per_prompt: int | None = None,
        size: Mapping[str, int] | None = None,
        revision: str | None = None,
    ) -> None:
        check_no_weights(name, weights)
        folder = find_folder(name, KEY, revision)
        config = read_config(folder, KEY)
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        make = ASKERS.get(config.model_type)
        if make is None:
            raise CallError(f"{KEY}: {folder} is a {config.model_type!r}; known are {', '.join(ASKERS)}.")
        if classes is not None:
            concepts = [Concept(number, name) for number, name in enumerate(read_class_names(classes))]
        if not concepts:
            raise CallError(
                f"{KEY}: {folder} finds what it is asked for. Give names in images.detector_options.classes."
            )
        if template is not None and template.count("{}") != 1:
            raise CallError(f"images.detector_options.template: expected text with one {{}}, found {template!r}.")
        self.labels: list[str] = [concept.name for concept in concepts]
        self._device, self._threshold = torch.device(device), score_threshold
        self._network = load_network(AutoModelForZeroShotObjectDetection, folder, config, KEY).to(self._device)
        processor = load_processor(AutoProcessor, folder, KEY)
        self._images: Any = processor.image_processor
        self._size = {"size": dict(size)} if size else {}
        texts = phrases(concepts, template or make.template, synonyms)
        self._concept_of = torch.tensor([number for _, number in texts])
        try:
            with torch.inference_mode():
                self._asker: Asker = make(
                    self._network, processor, [text for text, _ in texts], self._device, concepts_per_prompt
                )
            (found,) = self._detect_same_size([np.zeros(PROBE, np.uint8)])
        except (AttributeError, ImportError, TypeError, ValueError, RuntimeError, KeyError) as error:
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

    @torch.inference_mode()
    def _detect_same_size(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """Regions of images that all have the same size."""
        height, width = images[0].shape[:2]
        inputs = self._images(
            images=[np.array(image) for image in images], return_tensors="pt", input_data_format="channels_last",
            **self._size,
        ).to(self._device)  # fmt: skip
        results = []
        for own in self._asker.ask(inputs, images[0].shape):
            kept = own.scores >= self._threshold
            boxes = own.boxes[kept].float().cpu().numpy().clip(0, np.array([width, height] * 2, np.float32))
            boxes[:, 2:] = np.maximum(boxes[:, :2], boxes[:, 2:])
            results.append(
                Detections(
                    boxes,
                    own.scores[kept].float().cpu().numpy(),
                    self._concept_of[own.texts[kept].cpu()].numpy().astype(np.int64),
                    own.features[kept].float().cpu().numpy(),
                )
            )
        return results


def phrases(concepts: Sequence[Concept], template: str, synonyms: bool) -> list[tuple[str, int]]:
    """What to ask for, and the concept's place in the list. Qualifiers stay: "bow (weapon)" is asked for as bow
    weapon."""
    found: dict[tuple[str, int], None] = {}
    for number, concept in enumerate(concepts):
        for name in (concept.name, *(concept.synonyms if synonyms else ())):
            # Full stops and question marks separate the phrases of a prompt.
            words = " ".join(re.sub(r"[().?_]+", " ", name).split()) or "thing"
            found[template.replace("{}", words).strip(), number] = None
    return list(found)
