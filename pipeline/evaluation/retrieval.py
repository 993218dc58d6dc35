"""Retrieval on true pairs: from a list of images and captions to what model.evaluate measures."""

import json
import os
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.evaluate import retrieval
from vlmixer.model.scoring import RetrievalReport
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import read_images
from vlmixer.pipeline.jobs.detect import (
    LoadedDetector,
    decoded,
    detect_batch,
    detector_spec,
    load_with_concepts,
    max_file_bytes,
)
from vlmixer.pipeline.jobs.tag import make_tagger


def evaluate_retrieval(
    run: str, pairs: str, config: Config, import_paths: Sequence[str], html: str | None = None, shown: int = 24
) -> tuple[RetrievalReport, dict[str, str]]:
    """Zero-shot retrieval of `run` on the pairs in the JSON lines file `pairs`, and the images that were not used.

    Regions come from the config's detector, concepts of captions from its tagger. `html`: where to write a page of
    `shown` of the photos, if at all. Raises UserError, CallError.
    """
    found, skipped = detect_pairs(pairs, config, import_paths)
    if not found:
        raise UserError(f"{pairs}: none of its images could be used: {json.dumps(skipped, ensure_ascii=False)[:500]}")
    captions = [texts for path, texts in read_pairs(pairs) if path in found]
    tagger = make_tagger(config.text, load_vocabulary(config.vocabulary))
    concepts = [
        [{mention.concept for mention in tagged.mentions} for tagged in tagger.tag(texts)] for texts in captions
    ]
    _use_all_cores()
    report = retrieval(run, list(found.values()), captions, concepts, seed=config.seed)
    if html is not None:
        from vlmixer.pipeline.report.alignment import write_alignment_page

        write_alignment_page(html, run, list(found), list(found.values()), captions, shown, config.seed)
    return report, skipped


def detect_pairs(
    pairs: str, config: Config, import_paths: Sequence[str]
) -> tuple[dict[str, ImageRegions], dict[str, str]]:
    """What the config's detector finds in the images of the list, by path, and why others could not be used."""
    detector = load_with_concepts(detector_spec(config.images, import_paths), load_vocabulary(config.vocabulary))
    images: dict[str, ImageRegions] = {}
    skipped: dict[str, str] = {}
    for path, _ in tqdm(read_pairs(pairs), desc="eval: images", unit="image", disable=None):
        found = _regions(path, detector, config, skipped)
        if found is not None:
            images[path] = found
    return images, skipped


def _use_all_cores() -> None:
    """Detectors fix one thread for equal bytes; scores need not be held to that."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)


def read_pairs(path: str) -> list[tuple[str, list[str]]]:
    """(path of the image, its captions) for each line {"image": name, "captions": [...]}.

    Names are relative to the list's folder or to `images/` in it; lines of one image are put together. Raises
    CallError naming the line at fault.
    """
    folder = files.parent(path)
    try:
        lines = files.read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        raise CallError(f"{path}: no such file; expected JSON lines of an image and its captions.") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{path}: expected UTF-8 text: {error}") from None
    pairs: dict[str, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, captions = record["image"], record["captions"]
            texts = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
            if not isinstance(name, str) or not texts:
                raise TypeError("image must be text, captions a list of texts")
        except (ValueError, KeyError, TypeError) as error:
            raise CallError(
                f'{path}, line {number}: expected {{"image": name, "captions": [text, …]}}: {error!r}'
            ) from None
        places = [name, files.join(folder, name), files.join(folder, "images", name)]
        found = next((place for place in places[1:] if files.exists(place)), places[0])
        if captions:
            pairs.setdefault(found, []).extend(captions)
    if not pairs:
        raise CallError(f"{path}: holds no image with captions.")
    return list(pairs.items())


def _regions(path: str, detector: LoadedDetector, config: Config, skipped: dict[str, str]) -> ImageRegions | None:
    log = RejectLog("eval")
    max_pixels = config.images.max_megapixels * 1e6
    photos = []
    for ref, data in read_images([ImageRef(path)], max_file_bytes(max_pixels)):
        result = data if isinstance(data, Unreadable) else decoded(ref, data, max_pixels)
        if isinstance(result, Unreadable):
            log.add(path, "", result.reason, result.detail)
        else:
            photos.append(result)
    for photo, found in detect_batch(detector, photos, config.images, log):
        dim = detector.detector.feature_dim
        return ImageRegions(
            features=np.stack([region.feature for region in found]) if found else np.zeros((0, dim), np.float16),
            boxes=np.stack([region.box for region in found]) if found else np.zeros((0, 4), np.float32),
            width=photo.width,
            height=photo.height,
            tags=tuple(dict.fromkeys(region.concept for region in found)),
        )
    skipped[path] = "; ".join(f"{reject.reason} {reject.detail}".strip() for reject in log.rejects)
    return None
