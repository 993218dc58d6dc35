"""Zero-shot retrieval with a trained run: do a photo and its captions lie close, though no pair was trained on?

Images come as regions and tags, from any detector; finding them is not done here. Scores are matrices of
captions by images, and everything from there on is a pure function of such a matrix.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import MixedSample
from vlmixer.model.checkpoint import load_run, load_usual
from vlmixer.model.config import ModelConfig
from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.shards import ShardSet
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import NOWHERE, Regions, View, geometry, no_regions, set_view, text_view

CUTOFFS = (1, 5, 10)
CONFIDENCE = 0.95
OVERLAP_WEIGHT = 0.1
"""What tag overlap counts beside `similarity` in their sum; chosen on photos that no score is reported of."""
TOGETHER = 0.5
"""The weight of all regions as one view beside the regions one by one; chosen on the same photos."""
TEXTS_TOGETHER = 256
"""Texts compared with all views at a time, which bounds memory."""
USUAL = 1000
"""Sentences of the training by which it is known how likely texts are beside a view in general."""


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
class Estimate:
    """A number and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class RetrievalScore:
    """How well `method` finds the right one in `direction` ("text to image" or "image to text").

    `recall`: share of queries, in percent, with a right answer among the first 1, 5 and 10. `median_rank` counts
    from 1. Ties count as the mean over all orders of the tied. `ahead`: R@10 less that of tag overlap, both on the
    same images in each bootstrap sample, so that its interval is narrower than those of the two.
    """

    method: str
    direction: str
    recall: dict[int, Estimate]
    median_rank: Estimate
    ahead: Estimate


@dataclass(frozen=True)
class RetrievalReport:
    """All scores of a run on one set of images and captions."""

    images: int
    captions: int
    scores: tuple[RetrievalScore, ...]

    def score(self, method: str, direction: str = "text to image") -> RetrievalScore:
        """The score of `method` in `direction`; raises KeyError."""
        for score in self.scores:
            if (score.method, score.direction) == (method, direction):
                return score
        raise KeyError((method, direction))

    def to_json(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    def to_table(self) -> str:
        """A table for people."""
        head = ["", *(f"R@{k}" for k in CUTOFFS), "median rank", "ahead"]
        lines = [
            f"{self.images} images, {self.captions} captions; ± is half of the 95 % bootstrap interval; "
            f"ahead: R@{CUTOFFS[-1]} less that of tag overlap"
        ]
        for direction in dict.fromkeys(score.direction for score in self.scores):
            rows = [
                [
                    score.method,
                    *(_short(score.recall[k]) for k in CUTOFFS),
                    _short(score.median_rank),
                    _short(score.ahead),
                ]
                for score in self.scores
                if score.direction == direction
            ]
            lines.append("")
            for row in [[direction, *head[1:]], *rows]:
                lines.append("  ".join([f"{row[0]:<24}", *(f"{cell:>14}" for cell in row[1:])]))
        return "\n".join(lines)


def retrieval(
    run: str | Path,
    images: Sequence[ImageRegions],
    captions: Sequence[Sequence[str]],
    caption_concepts: Sequence[Sequence[set[str]]],
    *,
    device: str = "cpu",
    resamples: int = 1000,
    seed: int = 0,
) -> RetrievalReport:
    """Retrieval among `images` and all `captions`, where captions[i] belong to images[i].

    `caption_concepts[i][j]` are the concepts found in captions[i][j]; they serve the comparison with tag overlap.
    Raises UserError if lengths do not agree, nothing is given, or features have another width than the run's.
    """
    network, tokenizer, settings = load_run(str(run))
    width = settings.model.feature_dim or 0
    _check(images, captions, caption_concepts, width)
    network.to(device)
    texts = [caption for group in captions for caption in group]
    owner = np.repeat(np.arange(len(images)), [len(group) for group in captions])
    words = embed_texts(network, tokenizer, settings.model, texts)
    usual, temperature = load_usual(str(run)), settings.train.temperature
    regions, tags = (
        similarity(words, embed(network, tokenizer, settings.model, images), usual, temperature)
        for embed in (embed_images, embed_tags)
    )
    both = either(regions, tags, temperature)
    concepts = [found for group in caption_concepts for found in group]
    overlap = tag_overlap(concepts, [set(image.tags) for image in images])
    methods = {
        "regions": regions,
        "tags": tags,
        "regions + tags": both,
        "regions + tags + overlap": both + OVERLAP_WEIGHT * overlap,
        "tag overlap": overlap,
        "chance": np.zeros_like(overlap),
    }
    scores = []
    for text_first in (True, False):
        for method, matrix in methods.items():
            scores.append(score_matrix(method, matrix, overlap, owner, text_first, resamples, seed))
    return RetrievalReport(len(images), len(texts), tuple(scores))


def embed_texts(network: Network, tokenizer: Tokenizer, config: ModelConfig, texts: Sequence[str]) -> np.ndarray:
    """(n, projection_size) float32 of length 1, a row a text."""
    nothing = no_regions(config.feature_dim or 0)
    pieces = tokenizer.encode(texts)
    return _embed(network, [text_view(one, tokenizer, config.max_text_tokens, nothing) for one in pieces])


@dataclass(frozen=True)
class EmbeddedImages:
    """Images in the space of the contrastive loss, as views: each region by itself and, last, all together.

    `vectors`: (V, projection_size) float32 of length 1, a row a view, image by image. `weights`: (V,) float64, which
    sum to 1 in each image. `starts`: (n,) int64, each image's first row.
    """

    vectors: np.ndarray
    weights: np.ndarray
    starts: np.ndarray


def embed_images(
    network: Network, tokenizer: Tokenizer, config: ModelConfig, images: Sequence[ImageRegions]
) -> EmbeddedImages:
    """Images from their regions alone; one with a single region, or none, is one view.

    A region's weight grows with the square root of its area: captions tell of what is large.
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
        # A box without an area, which a detector of the user's own may give, still counts a little.
        sizes = np.sqrt(np.maximum(boxes[:, 4] * boxes[:, 5], 1e-6), dtype=np.float64)
        weights.append(np.append((1 - TOGETHER) * sizes / sizes.sum(), TOGETHER) if count > 1 else np.ones(1))
    return EmbeddedImages(_embed(network, views), np.concatenate(weights), np.array(starts))


def embed_tags(
    network: Network, tokenizer: Tokenizer, config: ModelConfig, images: Sequence[ImageRegions]
) -> EmbeddedImages:
    """Images from the names of their tags alone, read as a text: one view an image."""
    vectors = embed_texts(network, tokenizer, config, [" ".join(image.tags) for image in images])
    return EmbeddedImages(vectors, np.ones(len(images)), np.arange(len(images)))


def similarity(texts: np.ndarray, images: EmbeddedImages, usual: np.ndarray, temperature: float) -> np.ndarray:
    """(texts, images) float64: `temperature` times the log of how many times likelier a text is beside the image.

    The contrastive loss teaches exp(cosine / temperature) as how much likelier a text is beside a view than elsewhere,
    up to a factor of the view's own, which the mean over `usual` texts takes out. A caption tells of one or another
    region of its image, or of all, so that for an image this is the weighted mean over its views. It needs no pair. It
    is ours, not the paper's (docs/evidence.md). `texts`, `usual`: (n, projection_size) and (m, projection_size) of
    length 1.
    """

    def likelier(rows: np.ndarray) -> np.ndarray:
        # A cosine is at most 1, so that this is, too, whatever the temperature.
        factors: np.ndarray = np.exp((rows.astype(np.float64) @ images.vectors.T - 1) / temperature)
        return factors

    weights = images.weights / likelier(usual).mean(axis=0)
    result = np.empty((len(texts), len(images.starts)))
    for first in range(0, len(texts), TEXTS_TOGETHER):
        part = slice(first, first + TEXTS_TOGETHER)
        sums = np.add.reduceat(weights * likelier(texts[part]), images.starts, axis=1)
        result[part] = temperature * np.log(sums)
    return result


def either(one: np.ndarray, other: np.ndarray, temperature: float) -> np.ndarray:
    """The similarity where an image counts half as its views behind `one` and half as those behind `other`.

    A single sequence of regions and tags would be unlike what the contrast was trained on. `one`, `other`: of the same
    shape, by `similarity`.
    """
    mixed: np.ndarray = temperature * (np.logaddexp(one / temperature, other / temperature) - np.log(2))
    return mixed


def embed_usual(network: Network, tokenizer: Tokenizer, config: ModelConfig, shards: ShardSet) -> np.ndarray:
    """(m, projection_size) float32: the first USUAL sentences of the shards, which are a fair sample of all."""
    sentences = (sample.text for sample in shards.samples() if isinstance(sample, MixedSample))
    return embed_texts(network, tokenizer, config, list(itertools.islice(sentences, USUAL)))


@torch.inference_mode()
def _embed(network: Network, views: Sequence[View], batch_size: int = 256) -> np.ndarray:
    network.eval()
    device = next(network.parameters()).device
    # Like lengths together, then back into the order given.
    order = np.argsort([len(view) for view in views], kind="stable")
    rows = [network.embed(pad([views[i] for i in part]).to(device)).cpu().numpy() for part in _parts(order, batch_size)]
    result = np.concatenate(rows)
    return result[np.argsort(order, kind="stable")]


def _parts(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(order), size):
        yield order[first : first + size]


def tag_overlap(captions: Sequence[set[str]], images: Sequence[set[str]]) -> np.ndarray:
    """(captions, images) float64: the sum of log(N / number of images with the tag) over the concepts in common."""
    frequency = Counter(tag for tags in images for tag in tags)
    column = {tag: number for number, tag in enumerate(sorted(frequency))}
    weight = np.log(len(images) / np.array([frequency[tag] for tag in column], np.float64))
    caption_rows, image_rows = np.zeros((len(captions), len(column))), np.zeros((len(images), len(column)))
    for rows, sets in ((caption_rows, captions), (image_rows, images)):
        for row, tags in zip(rows, sets, strict=True):
            row[[column[tag] for tag in tags if tag in column]] = 1.0
    return (caption_rows * weight) @ image_rows.T


def score_matrix(
    method: str,
    scores: np.ndarray,
    overlap: np.ndarray,
    owner: np.ndarray,
    text_first: bool,
    resamples: int,
    seed: int,
) -> RetrievalScore:
    """The score of one matrix in one direction.

    `scores`: (captions, images), higher is better. `overlap`: the same of tag overlap, which it is compared with.
    `owner`: (captions,) int64, each caption's image. With `text_first` captions are the queries, else images. The
    bootstrap draws images, each with all its captions, because captions of one image do not fail independently; the
    gallery stays whole.
    """
    right = owner[:, None] == np.arange(scores.shape[1])[None, :]
    if not text_first:
        scores, overlap, right = scores.T, overlap.T, right.T
    hits, ranks = expected_hits(scores, right, CUTOFFS), expected_ranks(scores, right)
    group = owner if text_first else np.arange(len(scores))
    draws = _draws(group, resamples, seed)
    recall = {cutoff: _estimate(100 * hits[:, column], draws, np.mean) for column, cutoff in enumerate(CUTOFFS)}
    direction = "text to image" if text_first else "image to text"
    lead = 100 * (hits[:, -1] - expected_hits(overlap, right, CUTOFFS[-1:])[:, 0])
    ahead = _estimate(lead, draws, np.mean)
    return RetrievalScore(method, direction, recall, _estimate(ranks, draws, np.median), ahead)


def expected_ranks(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(queries,) float64: the rank, from 1, of the best right answer; among ties the mean over all their orders.

    `scores`: (queries, gallery). `right`: (queries, gallery) bool, at least one true in each row.
    """
    better, tied, tied_right = _tied(scores, right)
    return better + (tied + 1) / (tied_right + 1)


def expected_hits(scores: np.ndarray, right: np.ndarray, cutoffs: Sequence[int]) -> np.ndarray:
    """(queries, cutoffs) float64: the chance that a right answer is among the first k, over all orders of ties.

    `scores`, `right` as in `expected_ranks`.
    """
    better, tied, tied_right = _tied(scores, right)
    hits = np.zeros((len(scores), len(cutoffs)))
    for column, cutoff in enumerate(cutoffs):
        seats = np.clip(cutoff - better, 0, tied)
        # The chance that none of the tied right answers gets one of the seats, drawn without replacement.
        miss = np.ones(len(scores))
        for drawn in range(int(seats.max(initial=0))):
            left = np.maximum(tied - drawn, 1)
            miss *= np.where(drawn < seats, np.maximum(tied - tied_right - drawn, 0) / left, 1.0)
        hits[:, column] = 1.0 - miss
    return hits


def _tied(scores: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many score better than the best right answer, how many as much, and how many of these are right."""
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    level = scores == best
    return (scores > best).sum(axis=1), level.sum(axis=1), (level & right).sum(axis=1)


def _draws(group: np.ndarray, resamples: int, seed: int) -> list[np.ndarray]:
    """Rows of each bootstrap sample: whole groups, drawn with replacement."""
    members = [np.flatnonzero(group == number) for number in range(int(group.max()) + 1)]
    random = generator(seed, "bootstrap")
    return [
        np.concatenate([members[number] for number in random.integers(len(members), size=len(members))])
        for _ in range(resamples)
    ]


def _estimate(values: np.ndarray, draws: Sequence[np.ndarray], statistic: Callable[[np.ndarray], Any]) -> Estimate:
    drawn = [statistic(values[rows]) for rows in draws]
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(float(statistic(values)), float(low), float(high))


def _short(estimate: Estimate) -> str:
    return f"{estimate.value:.1f} ± {(estimate.high - estimate.low) / 2:.1f}"


def _check(
    images: Sequence[ImageRegions],
    captions: Sequence[Sequence[str]],
    caption_concepts: Sequence[Sequence[set[str]]],
    feature_dim: int,
) -> None:
    if not images:
        raise UserError("No images to evaluate on. Give a list with at least one image.")
    if [len(group) for group in captions] != [len(group) for group in caption_concepts] or len(captions) != len(images):
        raise ValueError("images, captions and caption_concepts differ in length")
    for number, (image, group) in enumerate(zip(images, captions, strict=True)):
        if not group:
            raise UserError(f"Image {number + 1} of the list has no caption. Give each image at least one.")
        if image.features.ndim != 2 or image.features.shape[1] != feature_dim:
            raise UserError(
                f"Image {number + 1} of the list has features of shape {image.features.shape}, the run was trained "
                f"on width {feature_dim}. Use the detector that the shards were made with."
            )
