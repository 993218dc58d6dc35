"""Retrieval on true pairs: finds regions in the images of a list and concepts in its captions, and measures."""

import json
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.progress import shown
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.evaluate import retrieval
from vlmixer.model.scoring import RetrievalReport
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.evaluation.pairs import ListCounts, PairList
from vlmixer.pipeline.evaluation.seen import trained_on
from vlmixer.pipeline.image.detection import DetectorFinder, detect_batch, load_with_concepts
from vlmixer.pipeline.image.detectors.choosing import as_found
from vlmixer.pipeline.image.detectors.loading import detector_spec
from vlmixer.pipeline.image.photos import ImageSource, Photo
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.text.numbers import named_concepts, tag_words
from vlmixer.pipeline.text.tagger import Tagger


@dataclass(frozen=True)
class DetectedImages:
    """What a detector found in images, by path. skipped: why others could not be used. same_bytes: groups of images
    whose files have the same content."""

    found: dict[str, ImageRegions]
    skipped: dict[str, str]
    same_bytes: list[list[str]]


@dataclass(frozen=True)
class RetrievalResult:
    """The scores, and what they were measured on. trained_on: images that are among those of the run's training."""

    report: RetrievalReport
    counts: ListCounts
    images: DetectedImages
    trained_on: list[str]

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        images = self.images
        found = {"skipped": images.skipped, "same_bytes": images.same_bytes, "trained_on": self.trained_on}
        return {**self.report.to_json(), "list": self.counts.to_json(), **found}


def evaluate_retrieval(
    run: str,
    pairs: PairList,
    config: Config,
    import_paths: Sequence[str],
    html: str | None = None,
    photos: int = 24,
) -> RetrievalResult:
    """Zero-shot retrieval of the run on a list of pairs.

    Regions come from the config's detector, and concepts of captions from its tagger. html: the page to write with
    that number of `photos`, None for no page. Raises UserError, CallError.
    """
    images = detect_images(list(pairs.captions), config, import_paths)
    captions = [pairs.captions[path] for path in images.found]
    if not any(captions):
        reasons = json.dumps(images.skipped, ensure_ascii=False)[:500]
        raise UserError(f"None of the list's images with captions could be used: {reasons}")
    text = config.text
    tagger = Tagger(load_vocabulary(config.vocabulary), text.spacy_model, text.stop_words, text.tag_modifiers)
    concepts = [[named_concepts(tagged.mentions) for tagged in tagger.tag(texts)] for texts in captions]
    _use_all_cores()
    report = retrieval(run, list(images.found.values()), captions, concepts, seed=config.seed)
    if html is not None:
        from vlmixer.pipeline.report.alignment import write_alignment_page

        names, found = list(images.found), list(images.found.values())
        write_alignment_page(html, run, names, found, captions, photos, config.seed, report.to_json())
    return RetrievalResult(report, pairs.counts, images, trained_on(run, images.found))


def detect_images(paths: Sequence[str], config: Config, import_paths: Sequence[str]) -> DetectedImages:
    """What the config's detector finds in the images."""
    spec = as_found(detector_spec(config.images, import_paths), config)
    finder = load_with_concepts(spec, load_vocabulary(config.vocabulary))
    images: dict[str, ImageRegions] = {}
    skipped: dict[str, str] = {}
    contents: dict[bytes, list[str]] = defaultdict(list)
    for path in shown(paths, len(paths), "eval: regions", "images"):
        digest, found = _regions(path, finder, config)
        if isinstance(found, str):
            skipped[path] = found
        else:
            images[path] = found
            contents[digest].append(path)
    return DetectedImages(images, skipped, [group for group in contents.values() if len(group) > 1])


def _use_all_cores() -> None:
    """Detectors set one thread, for equal bytes. Scores need no equal bytes."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)


def _regions(path: str, finder: DetectorFinder, config: Config) -> tuple[bytes, ImageRegions | str]:
    """A digest of the file's content, and what the detector finds in the image, or why the image cannot be used."""
    log = RejectLog("eval")
    ((content, photo),) = ImageSource(config.images.max_megapixels * 1e6).photos([ImageRef(path)])
    digest = content.sha256
    if not isinstance(photo, Photo):
        return digest, f"{photo.reason} {photo.detail}".strip()
    for _, found in detect_batch(finder, [photo], config.images, log):
        labels = tuple(region.concept for region in found)
        return digest, ImageRegions(
            features=(
                np.stack([region.feature for region in found])
                if found
                else np.zeros((0, finder.feature_dim), np.float16)
            ),
            boxes=np.stack([region.box for region in found]) if found else np.zeros((0, 4), np.float32),
            width=photo.width,
            height=photo.height,
            tags=tuple(dict.fromkeys(labels)),
            labels=labels,
            tag_words=tag_words(labels),
        )
    return digest, "; ".join(f"{reject.reason} {reject.detail}".strip() for reject in log.rejects)
