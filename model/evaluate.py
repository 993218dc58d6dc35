"""Zero-shot retrieval with a trained run: does it find the captions of a photo, and the photo of a caption?

The run was trained without a single pair. Embedding is left to model.embedding, scores to model.scoring.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.progress import shown
from vlmixer.model.checkpoint import load_run
from vlmixer.model.embedding import ImageRegions, embed_images, embed_tags, embed_texts
from vlmixer.model.likelihood import similarities
from vlmixer.model.numbers import number_similarity
from vlmixer.model.reference import load_reference
from vlmixer.model.scoring import RetrievalReport, fold_scores, group_scores, score_matrix, tag_overlap

OVERLAP_WEIGHT = 0.3
"""Weight of tag overlap when it is added to `similarity`. Chosen on photos that are in no reported score."""


def retrieval(
    run: str | Path,
    images: Sequence[ImageRegions],
    captions: Sequence[Sequence[str]],
    caption_concepts: Sequence[Sequence[Collection[str]]],
    *,
    device: str = "cpu",
    resamples: int = 1000,
    seed: int = 0,
) -> RetrievalReport:
    """Retrieval among `images` and all `captions`, where `captions[i]` belong to `images[i]`. An image without
    captions is in the gallery only.

    `caption_concepts[i][j]`: the concepts found in `captions[i][j]`, for tag overlap: a set, or a mapping that also
    says whether the caption names several of each. `resamples`: number of bootstrap samples.

    Raises UserError if there is no image, no caption, or the features are not as wide as the run's, and
    ValueError if the lengths differ.
    """
    network, tokenizer, settings = load_run(str(run))
    width = settings.model.feature_dim or 0
    _check(images, captions, caption_concepts, width)
    network.to(device)
    texts = [caption for group in captions for caption in group]
    owner = np.repeat(np.arange(len(images)), [len(group) for group in captions])
    reference, temperature = load_reference(str(run)), settings.train.temperature
    embedded = embed_texts(network, tokenizer, settings.model, texts)
    of_regions, of_tags = (embed(network, tokenizer, settings.model, images) for embed in (embed_images, embed_tags))
    regions, tags, both = similarities(embedded, of_regions, of_tags, reference, temperature)
    found = [each for group in caption_concepts for each in group]
    concepts, named = [set(each) for each in found], [each if isinstance(each, Mapping) else {} for each in found]
    overlap = tag_overlap(concepts, [set(image.tags) for image in images])
    numbers = temperature * number_similarity(named, [image.labels for image in images])
    methods = {
        "regions": regions,
        "tags": tags,
        "regions + tags": both,
        "regions + tags + overlap": both + numbers + OVERLAP_WEIGHT * overlap,
        "tag overlap": overlap,
        "chance": np.zeros_like(overlap),
    }
    columns = [(text_first, method) for text_first in (True, False) for method in methods]
    scores = [
        score_matrix(method, methods[method], overlap, owner, text_first, resamples, seed)
        for text_first, method in shown(columns, len(columns), "eval: scores", "columns")
    ]
    folds, groups = fold_scores(methods, owner), group_scores(regions, overlap, owner, concepts)
    return RetrievalReport(len(images), len(texts), tuple(scores), folds, groups)


def _check(
    images: Sequence[ImageRegions],
    captions: Sequence[Sequence[str]],
    caption_concepts: Sequence[Sequence[Collection[str]]],
    feature_dim: int,
) -> None:
    if not images:
        raise UserError("No images to evaluate on. Give a list with at least one image.")
    if [len(group) for group in captions] != [len(group) for group in caption_concepts] or len(captions) != len(images):
        raise ValueError("images, captions and caption_concepts differ in length")
    if not any(captions):
        raise UserError("No captions to evaluate on. Give at least one image captions.")
    for number, image in enumerate(images):
        if image.features.ndim != 2 or image.features.shape[1] != feature_dim:
            raise UserError(
                f"Image {number + 1} of the list has features of shape {image.features.shape}, but the run was trained "
                f"on width {feature_dim}. Use the detector that made the shards."
            )
