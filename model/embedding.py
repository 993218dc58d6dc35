"""Texts and images in the space of the contrastive loss, and how similar they are there.

Images are given as regions and tags, from any detector; detection is left to the caller. What the similarities are
worth is measured in model.scoring.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from vlmixer.artifacts.samples import MixedSample
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.shards import ShardSet
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import NOWHERE, Regions, View, geometry, no_regions, set_view, text_view

WHOLE_IMAGE_WEIGHT = 0.5
"""Weight of the view of all regions; the views of single regions share the rest. Chosen on photos that are in no
reported score."""
REFERENCE_TEXTS = 1000
"""Number of training sentences that show how likely an arbitrary text is for a view."""
TEXTS_PER_BLOCK = 256
"""Number of texts that are compared with all views at a time. It bounds memory."""


@dataclass(frozen=True)
class ImageRegions:
    """What a detector found in an image.

    `features`: (n, D) float16 or float32. `boxes`: (n, 4) float32, xyxy in pixels of the upright image, which is
    `width` × `height`. `tags`: concept names.
    """

    features: np.ndarray
    boxes: np.ndarray
    width: int
    height: int
    tags: tuple[str, ...]


@dataclass(frozen=True)
class EmbeddedImages:
    """The views of n images: each region alone and, last, all regions together.

    `vectors`: (V, projection_size) float32 of length 1, one row per view, image by image. `weights`: (V,) float64;
    they sum to 1 in each image. `starts`: (n,) int64, the first row of each image.
    """

    vectors: np.ndarray
    weights: np.ndarray
    starts: np.ndarray


def embed_texts(network: Network, tokenizer: Tokenizer, config: ModelConfig, texts: Sequence[str]) -> np.ndarray:
    """(n, projection_size) float32 of length 1, one row per text."""
    nothing = no_regions(config.feature_dim or 0)
    pieces = tokenizer.encode(texts)
    return _embed(network, [text_view(one, tokenizer, config.max_text_tokens, nothing) for one in pieces])


def embed_images(
    network: Network,
    tokenizer: Tokenizer,
    config: ModelConfig,
    images: Sequence[ImageRegions],
    whole_image_weight: float = WHOLE_IMAGE_WEIGHT,
) -> EmbeddedImages:
    """Embed images by their regions alone. An image with one region, or none, is a single view.

    The weight of a region grows with the square root of its area, because captions describe what is large.
    """
    views: list[View] = []
    weights: list[np.ndarray] = []
    starts: list[int] = []
    for image in images:
        starts.append(len(views))
        limit = config.max_regions
        boxes, features = geometry(image.boxes[:limit], image.width, image.height), image.features[:limit]
        count = len(boxes)
        parts = [slice(n, n + 1) for n in range(count) if count > 1] + [slice(0, count)]
        nowhere = np.full(count, NOWHERE, np.int64)
        views += [set_view(Regions(features[part], boxes[part], nowhere[part]), tokenizer) for part in parts]
        # A box without area, which a user's own detector may return, still counts a little.
        sizes = np.sqrt(np.maximum(boxes[:, 4] * boxes[:, 5], 1e-6), dtype=np.float64)
        single = (1 - whole_image_weight) * sizes / sizes.sum() if count > 1 else np.zeros(0)
        weights.append(np.append(single, whole_image_weight if count > 1 else 1.0))
    return EmbeddedImages(_embed(network, views), np.concatenate(weights), np.array(starts))


def embed_tags(
    network: Network, tokenizer: Tokenizer, config: ModelConfig, images: Sequence[ImageRegions]
) -> EmbeddedImages:
    """Embed images by their tags alone, read as one text: one view per image."""
    vectors = embed_texts(network, tokenizer, config, [" ".join(image.tags) for image in images])
    return EmbeddedImages(vectors, np.ones(len(images)), np.arange(len(images)))


def embed_reference_texts(
    network: Network, tokenizer: Tokenizer, config: ModelConfig, shards: ShardSet, count: int = REFERENCE_TEXTS
) -> np.ndarray:
    """(m, projection_size) float32: the first `count` sentences of the shards, which are a fair sample of all."""
    sentences = (sample.text for sample in shards.samples() if isinstance(sample, MixedSample))
    return embed_texts(network, tokenizer, config, list(itertools.islice(sentences, count)))


def similarity(
    texts: np.ndarray, images: EmbeddedImages, reference_texts: np.ndarray, temperature: float
) -> np.ndarray:
    """(n, images) float64: `temperature` × log(likelihood of the text given the image / likelihood of the text).

    `texts`: (n, projection_size) and `reference_texts`: (m, projection_size), of length 1.

    The contrastive loss teaches that exp(cosine / temperature) says how likely a text is for a view, up to a factor
    that depends on the view. Dividing by the mean over the reference texts removes this factor. A caption may describe
    any one region of its image or all of them, so an image scores the weighted mean over its views. No pairs are
    needed. The rule is ours, not the paper's (docs/evidence.md).
    """

    def likelihoods(rows: np.ndarray) -> np.ndarray:
        # A cosine is at most 1, and so is this, whatever the temperature.
        values: np.ndarray = np.exp((rows.astype(np.float64) @ images.vectors.T - 1) / temperature)
        return values

    weights = images.weights / likelihoods(reference_texts).mean(axis=0)
    result = np.empty((len(texts), len(images.starts)))
    for first in range(0, len(texts), TEXTS_PER_BLOCK):
        part = slice(first, first + TEXTS_PER_BLOCK)
        sums = np.add.reduceat(weights * likelihoods(texts[part]), images.starts, axis=1)
        result[part] = temperature * np.log(sums)
    return result


def average_similarity(one: np.ndarray, other: np.ndarray, temperature: float) -> np.ndarray:
    """The similarity of images whose weight is divided equally between the views of `one` and those of `other`.

    `one`, `other`: results of `similarity`, of the same shape. A single sequence of regions and tags would be unlike
    what the contrastive loss was trained on.
    """
    average: np.ndarray = temperature * (np.logaddexp(one / temperature, other / temperature) - np.log(2))
    return average


@torch.inference_mode()
def _embed(network: Network, views: Sequence[View], batch_size: int = 256) -> np.ndarray:
    network.eval()
    device = next(network.parameters()).device
    # Views of similar length go together; then the given order is restored.
    order = np.argsort([len(view) for view in views], kind="stable")
    batches = (order[first : first + batch_size] for first in range(0, len(order), batch_size))
    rows = [network.embed(pad([views[i] for i in batch]).to(device)).cpu().numpy() for batch in batches]
    return np.concatenate(rows)[np.argsort(order, kind="stable")]
