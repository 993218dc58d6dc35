"""Retrieval on true pairs: reads a list of images and captions, finds regions and concepts, and measures."""

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
from vlmixer.pipeline.image.detection import DetectorFinder, detect_batch, load_with_concepts
from vlmixer.pipeline.image.detectors.loading import detector_spec
from vlmixer.pipeline.image.photos import ImageSource, Photo
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.text.tagger import Tagger


def evaluate_retrieval(
    run: str, pairs: str, config: Config, import_paths: Sequence[str], html: str | None = None, shown: int = 24
) -> tuple[RetrievalReport, dict[str, str]]:
    """Zero-shot retrieval of the run on the pairs in a JSON lines file; and why images were not used, by path.

    Regions come from the config's detector, and concepts of captions from its tagger. html: the page to write with
    `shown` of the photos, None for no page. Raises UserError, CallError.
    """
    found, skipped = detect_pairs(pairs, config, import_paths)
    if not found:
        raise UserError(f"{pairs}: none of its images could be used: {json.dumps(skipped, ensure_ascii=False)[:500]}")
    captions = [texts for path, texts in read_pairs(pairs) if path in found]
    text = config.text
    tagger = Tagger(load_vocabulary(config.vocabulary), text.spacy_model, text.stop_words, text.tag_modifiers)
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
    """What the config's detector finds in the images of the list, and why the others could not be used, by path."""
    return detect_images([path for path, _ in read_pairs(pairs)], config, import_paths)


def detect_images(
    paths: Sequence[str], config: Config, import_paths: Sequence[str]
) -> tuple[dict[str, ImageRegions], dict[str, str]]:
    """What the config's detector finds in the images, and why the others could not be used, by path."""
    finder = load_with_concepts(detector_spec(config.images, import_paths), load_vocabulary(config.vocabulary))
    images: dict[str, ImageRegions] = {}
    skipped: dict[str, str] = {}
    for path in tqdm(paths, desc="eval: images", unit="image", disable=None):
        found = _regions(path, finder, config)
        if isinstance(found, str):
            skipped[path] = found
        else:
            images[path] = found
    return images, skipped


def _use_all_cores() -> None:
    """Detectors set one thread, for equal bytes. Scores need no equal bytes."""
    import torch

    torch.set_num_threads(os.cpu_count() or 1)


def read_pairs(path: str) -> list[tuple[str, list[str]]]:
    """(path, captions) of each image, from lines {"image": name, "captions": [...]}.

    Names are relative to the list's folder or to `images/` in it. Lines of the same image are merged. Raises CallError
    that names the line.
    """
    try:
        lines = files.read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        raise CallError(f"{path}: no such file. Expected JSON lines with an image and its captions.") from None
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
        if captions:
            pairs.setdefault(place_of(name, path), []).extend(captions)
    if not pairs:
        raise CallError(f"{path}: contains no image with captions.")
    return list(pairs.items())


def place_of(name: str, list_path: str) -> str:
    """The path of an image that a list names: in the list's folder or in `images/` in it, else as it is."""
    folder = files.parent(list_path)
    places = [files.join(folder, name), files.join(folder, "images", name)]
    return next((place for place in places if files.exists(place)), name)


def _regions(path: str, finder: DetectorFinder, config: Config) -> ImageRegions | str:
    """What the detector finds in the image, or why the image cannot be used."""
    log = RejectLog("eval")
    ((_, photo),) = ImageSource(config.images.max_megapixels * 1e6).photos([ImageRef(path)])
    if not isinstance(photo, Photo):
        return f"{photo.reason} {photo.detail}".strip()
    for _, found in detect_batch(finder, [photo], config.images, log):
        return ImageRegions(
            features=(
                np.stack([region.feature for region in found])
                if found
                else np.zeros((0, finder.feature_dim), np.float16)
            ),
            boxes=np.stack([region.box for region in found]) if found else np.zeros((0, 4), np.float32),
            width=photo.width,
            height=photo.height,
            tags=tuple(dict.fromkeys(region.concept for region in found)),
        )
    return "; ".join(f"{reject.reason} {reject.detail}".strip() for reject in log.rejects)
