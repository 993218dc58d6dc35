"""Texts and images as the network sees them: in the space of its contrastive loss, and in words.

Images are given as regions and tags, from any detector; detection is left to the caller, and how similar texts and
images are to model.likelihood.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vlmixer.artifacts.progress import shown
from vlmixer.artifacts.samples import ImageSample
from vlmixer.model.config import ModelConfig
from vlmixer.model.likelihood import EmbeddedImages, EmbeddedTexts, Reference
from vlmixer.model.network import Network
from vlmixer.model.padding import Sequences, pad
from vlmixer.model.shards import ShardSet
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import NOWHERE, Regions, View, geometry, no_regions, set_view, text_view

WHOLE_IMAGE_WEIGHT = 0.5
"""Weight of the view of all regions; the views of single regions share the rest. Chosen on photos that are in no
reported score."""
REFERENCE_TEXTS = 1000
"""Number of training sentences that show how likely an arbitrary text is for a view."""
FREQUENCY_TEXTS = 20_000
"""Number of training sentences in which the frequencies of word pieces are counted."""
REFERENCE_IMAGES = 200
"""Number of training images that show how likely the words of an arbitrary image are."""
VIEWS_PER_BATCH = 256


@dataclass(frozen=True)
class ImageRegions:
    """What a detector found in an image.

    `features`: (n, D) float16 or float32. `boxes`: (n, 4) float32, xyxy in pixels of the upright image, which is
    `width` × `height`. `tags`: concept names. `tag_words`: the tags as a text names them, in the plural where there are
    several; () if as `tags`. `labels`: the concept name of each region, to count them; without them nothing is said
    about numbers.
    """

    features: np.ndarray
    boxes: np.ndarray
    width: int
    height: int
    tags: tuple[str, ...]
    labels: tuple[str, ...] = ()
    tag_words: tuple[str, ...] = ()


def embed_texts(network: Network, tokenizer: Tokenizer, config: ModelConfig, texts: Sequence[str]) -> EmbeddedTexts:
    """Embed texts. Word pieces beyond `max_text_tokens` are left out."""
    nothing = no_regions(config.feature_dim or 0)
    pieces = tokenizer.encode(texts)
    vectors = _vectors(network, [text_view(one, tokenizer, config.max_text_tokens, nothing) for one in pieces])
    return EmbeddedTexts(vectors, tuple(one.ids[: config.max_text_tokens - 2] for one in pieces))


def embed_images(
    network: Network,
    tokenizer: Tokenizer,
    config: ModelConfig,
    images: Sequence[ImageRegions],
    whole_image_weight: float = WHOLE_IMAGE_WEIGHT,
) -> EmbeddedImages:
    """Embed images by their regions alone. An image with one region, or none, is a single view.

    The weight of a region grows with the square root of its area, because captions describe what is large. The words
    of an image are those of its views' regions, with the same weights. An image without regions has those of none.
    """
    views: list[View] = []
    weights: list[np.ndarray] = []
    starts: list[int] = []
    shares: list[np.ndarray] = []
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
        shares += [weight * sizes[part] / sizes[part].sum() for weight, part in zip(weights[-1], parts, strict=True)]
    owner = np.repeat(np.arange(len(images)), [len(each) for each in weights])
    vectors = np.zeros((len(views), network.projection.out_features), np.float32)
    words = np.zeros((len(images), tokenizer.size), np.float32)
    with torch.inference_mode():
        for batch, sequences, states in _states(network, views):
            vectors[batch] = network.project(states, sequences).cpu().numpy()
            likely = _words(network, states, [views[n] for n in batch], [shares[n] for n in batch])
            np.add.at(words, owner[batch], likely)
    return EmbeddedImages(vectors, np.concatenate([np.zeros(0), *weights]), np.array(starts, np.int64), words)


def embed_tags(
    network: Network, tokenizer: Tokenizer, config: ModelConfig, images: Sequence[ImageRegions]
) -> EmbeddedImages:
    """Embed images by their tags alone, read as one text: one view per image."""
    texts = embed_texts(network, tokenizer, config, [" ".join(image.tag_words or image.tags) for image in images])
    return EmbeddedImages(texts.vectors, np.ones(len(images)), np.arange(len(images)))


def embed_reference(network: Network, tokenizer: Tokenizer, config: ModelConfig, shards: ShardSet) -> Reference:
    """What a run keeps: of the shards' first sentences and images, which are a fair sample of all."""
    texts = [sample.text for sample in itertools.islice(shards.mixed_samples(), FREQUENCY_TEXTS)]
    counts = np.full(tokenizer.size, 0.5)  # a piece that these sentences lack is rare, not impossible
    for pieces in tokenizer.encode(texts):
        np.add.at(counts, pieces.ids, 1)
    images = [_regions_of(sample) for sample in itertools.islice(shards.image_samples(), REFERENCE_IMAGES)]
    embedded = embed_texts(network, tokenizer, config, texts[:REFERENCE_TEXTS])
    words = embed_images(network, tokenizer, config, images).words
    assert words is not None
    return Reference(embedded.vectors, (counts / counts.sum()).astype(np.float32), words)


def _regions_of(sample: ImageSample) -> ImageRegions:
    boxes = np.array([patch.box for patch in sample.patches], np.float32).reshape(-1, 4)
    return ImageRegions(sample.features, boxes, sample.width, sample.height, sample.tags)


def _vectors(network: Network, views: Sequence[View]) -> np.ndarray:
    """(n, projection_size) float32 of length 1, one row per view."""
    rows = np.zeros((len(views), network.projection.out_features), np.float32)
    with torch.inference_mode():
        for batch, sequences, states in _states(network, views):
            rows[batch] = network.project(states, sequences).cpu().numpy()
    return rows


def _states(network: Network, views: Sequence[View]) -> Iterator[tuple[np.ndarray, Sequences, Tensor]]:
    """Batches of views: their numbers, the views as a padded batch, and the network's states, (B, L, hidden)."""
    network.eval()
    device = next(network.parameters()).device
    order = np.argsort([len(view) for view in views], kind="stable")  # views of similar length go together
    starts = range(0, len(order), VIEWS_PER_BATCH)
    for first in shown(starts, len(starts), "embed", "batches"):
        batch = order[first : first + VIEWS_PER_BATCH]
        sequences = pad([views[number] for number in batch]).to(device)
        yield batch, sequences, network.bert(sequences)


def _words(network: Network, states: Tensor, views: Sequence[View], shares: Sequence[np.ndarray]) -> np.ndarray:
    """(B, vocabulary) float32: the sum over a view's regions of its share × how likely each word piece is for it.

    `states`: (B, L, hidden), what the network made of `views`. `shares`: (k,) float64 for each view.
    """
    items = [(row, len(view.ids) + region) for row, view in enumerate(views) for region in range(len(view.regions))]
    chosen = torch.tensor(items, dtype=torch.long, device=states.device).reshape(-1, 2)
    share = torch.from_numpy(np.concatenate(shares).astype(np.float32)).to(states.device)
    likely = network.words(states, chosen).float().softmax(-1) * share[:, None]
    summed = likely.new_zeros(len(views), likely.shape[1]).index_add_(0, chosen[:, 0], likely)
    return summed.cpu().numpy()
