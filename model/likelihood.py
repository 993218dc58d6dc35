"""How similar texts and images are, from what the network makes of both: pure functions of arrays.

Two answers of the network are multiplied. Its contrastive space says how much likelier a text as a whole is with an
image than without. Its word head says which words the regions of an image stand for. Neither needs a pair. The rule is
ours, not the paper's; docs/evidence.md has the measurements.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

REGION_SHARE = 0.3
"""Share of an image's regions in the likelihood of its words. The rest is the frequency of the word in all text. Chosen
on photos that are in no reported score."""
TEXTS_PER_BLOCK = 256
"""Number of texts that are compared with all views at a time. It bounds memory."""


@dataclass(frozen=True)
class EmbeddedTexts:
    """n texts. `vectors`: (n, projection_size) float32 of length 1. `pieces`: the ids of each text's word pieces."""

    vectors: np.ndarray
    pieces: tuple[np.ndarray, ...]

    def take(self, rows: np.ndarray) -> "EmbeddedTexts":
        """The texts `rows`, (k,) int64."""
        return EmbeddedTexts(self.vectors[rows], tuple(self.pieces[row] for row in rows))


@dataclass(frozen=True)
class EmbeddedImages:
    """The views of n images: each region alone and, last, all regions together.

    `vectors`: (V, projection_size) float32 of length 1, one row per view, image by image. `weights`: (V,) float64;
    they sum to 1 in each image. `starts`: (n,) int64, the first row of each image. `words`: (n, vocabulary) float32,
    how likely each word piece is for the regions of an image; None for images that are given by their tags.
    """

    vectors: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    words: np.ndarray | None = None

    def one(self, image: int) -> "EmbeddedImages":
        """Image number `image` alone."""
        stop = self.starts[image + 1] if image + 1 < len(self.starts) else len(self.vectors)
        views = slice(self.starts[image], stop)
        words = None if self.words is None else self.words[image : image + 1]
        return EmbeddedImages(self.vectors[views], self.weights[views], np.zeros(1, np.int64), words)


@dataclass(frozen=True)
class Reference:
    """What a run keeps of its training data, to tell what is likely for one image from what is likely for all.

    `texts`: (m, projection_size) float32 of length 1, sentences. `frequencies`: (vocabulary,) float32, the share of
    each word piece in sentences, above 0. `words`: (k, vocabulary) float32, as in EmbeddedImages, of k images.
    """

    texts: np.ndarray
    frequencies: np.ndarray
    words: np.ndarray


def similarity(texts: EmbeddedTexts, images: EmbeddedImages, reference: Reference, temperature: float) -> np.ndarray:
    """(n, images) float64: `temperature` × log(how many times likelier the text is for the image than elsewhere).

    The sum of `view_similarity` and, for images that are given by their regions, `word_similarity`.
    """
    found = view_similarity(texts.vectors, images, reference.texts, temperature)
    if images.words is not None:
        found += temperature * word_similarity(texts.pieces, images.words, reference)
    return found


def view_similarity(
    texts: np.ndarray, images: EmbeddedImages, reference_texts: np.ndarray, temperature: float
) -> np.ndarray:
    """(n, images) float64: `temperature` × log(likelihood of the text given the image / likelihood of the text).

    `texts`: (n, projection_size) and `reference_texts`: (m, projection_size), of length 1.

    The contrastive loss teaches that exp(cosine / temperature) says how likely a text is for a view, up to a factor
    that depends on the view. Dividing by the mean over the reference texts removes this factor. A caption may describe
    any one region of its image or all of them, so an image scores the weighted mean over its views.
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


def word_similarity(pieces: Sequence[np.ndarray], words: np.ndarray, reference: Reference) -> np.ndarray:
    """(n, images) float64: log(likelihood of the text's words given the image / mean of it over images).

    `pieces`: the ids of each text's word pieces. `words`: (images, vocabulary), how likely each piece is for an image.

    This is the query likelihood of information retrieval (Ponte and Croft, SIGIR 1998). The words of a text are drawn
    one by one: with REGION_SHARE from the words of the image's regions, else by their frequency in text (Jelinek-Mercer
    smoothing; Zhai and Lafferty, SIGIR 2001). Captions of many words that regions stand for would fit all images, so
    the mean over the reference's images is divided out.
    """
    used = np.unique(np.concatenate([np.zeros(0, np.int64), *pieces]))
    rows = [np.searchsorted(used, ids) for ids in pieces]
    frequencies = reference.frequencies[used].astype(np.float64)

    def log_times(likely: np.ndarray) -> np.ndarray:
        times = (1 - REGION_SHARE) + REGION_SHARE * likely[:, used].astype(np.float64) / frequencies
        logs = np.ascontiguousarray(np.log(times).T)  # (used, images)
        return np.stack([logs[ids].sum(axis=0) for ids in rows]) if rows else np.zeros((0, len(likely)))

    found = log_times(words)
    if len(reference.words):
        others = log_times(reference.words)
        found -= np.logaddexp.reduce(others, axis=1, keepdims=True) - np.log(others.shape[1])
    return found


def similarities(
    texts: EmbeddedTexts, regions: EmbeddedImages, tags: EmbeddedImages, reference: Reference, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`similarity` to the images by their regions, by their tags, and by both; each (n, images) float64.

    By both, an image's weight is divided equally between the views of its regions and that of its tags. One sequence
    of regions and tags would be unlike what the contrastive loss was trained on.
    """
    by_regions, by_tags = (
        view_similarity(texts.vectors, each, reference.texts, temperature) for each in (regions, tags)
    )
    by_words = np.zeros_like(by_regions)
    if regions.words is not None:
        by_words = temperature * word_similarity(texts.pieces, regions.words, reference)
    by_both = temperature * (np.logaddexp(by_regions / temperature, by_tags / temperature) - np.log(2))
    return by_regions + by_words, by_tags, by_both + by_words
