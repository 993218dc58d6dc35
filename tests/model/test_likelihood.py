import math

import numpy as np
import pytest

from vlmixer.model.likelihood import (
    REGION_SHARE,
    EmbeddedImages,
    EmbeddedTexts,
    Reference,
    similarities,
    similarity,
    view_similarity,
    word_similarity,
)


def images_of(counts, vectors=None, weights=None, words=None):
    total = sum(counts)
    vectors = np.random.default_rng(0).normal(size=(total, 8)) if vectors is None else vectors
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.cumsum([0, *counts[:-1]])
    if weights is None:
        weights = np.concatenate([np.full(count, 1 / count) for count in counts])
    return EmbeddedImages(vectors.astype(np.float32), np.array(weights), starts, words)


def unit_rows(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_an_image_is_the_weighted_mean_of_its_views_each_beside_reference_texts(temperature):
    counts, random = [3, 1, 2], np.random.default_rng(1)
    weights = np.concatenate([random.dirichlet(np.ones(count)) for count in counts])
    images, texts, reference = images_of(counts, weights=weights), unit_rows(600, 2), unit_rows(50, 3)
    found = view_similarity(texts, images, reference, temperature)
    for text in (0, 255, 256, 599):
        for image, (first, count) in enumerate(zip(images.starts, counts, strict=True)):
            times = 0.0
            for row in range(first, first + count):
                view = images.vectors[row].astype(np.float64)
                beside = np.mean([np.exp(one @ view / temperature) for one in reference.astype(np.float64)])
                times += images.weights[row] * np.exp(texts[text].astype(np.float64) @ view / temperature) / beside
            assert found[text, image] == pytest.approx(temperature * np.log(times))


def test_what_is_close_to_all_texts_is_close_to_none_in_particular():
    reference = unit_rows(1, 4).repeat(5, axis=0)
    images = images_of([1, 1], vectors=np.concatenate([reference[:1], unit_rows(1, 5)]))
    found = view_similarity(reference[:1], images, reference, 0.1)
    assert found.tolist() == [pytest.approx([0, 0], abs=1e-6)]


FREQUENCIES = np.array([0.5, 0.3, 0.2], np.float32)
LIKELY = np.array([[0.0, 1.0, 0.0], [0.0, 0.2, 0.8]], np.float32)
NO_WORDS = np.zeros((0, 3), np.float32)


def reference_of(words=NO_WORDS, texts=None):
    return Reference(unit_rows(50, 3) if texts is None else texts, FREQUENCIES, words)


def test_the_likelihood_of_words_is_that_of_each_piece():
    texts = [np.array([0, 1]), np.array([], np.int64), np.array([2, 2, 1])]
    found = word_similarity(texts, LIKELY, reference_of())

    def times(image, piece):
        return (1 - REGION_SHARE) + REGION_SHARE * LIKELY[image, piece] / FREQUENCIES[piece]

    for text, pieces in enumerate(texts):
        for image in range(2):
            expected = math.log(math.prod(times(image, piece) for piece in pieces))
            assert found[text, image] == pytest.approx(expected, abs=1e-6)


def test_words_that_fit_all_images_fit_none_in_particular():
    texts = [np.array([1]), np.array([2, 0])]
    alike = np.repeat(LIKELY[:1], 4, axis=0)
    assert np.allclose(word_similarity(texts, LIKELY[:1], reference_of(alike)), 0, atol=1e-9)
    # The mean over the reference images is one of likelihoods, not of their logarithms.
    plain, beside = word_similarity(texts, LIKELY, reference_of()), word_similarity(texts, LIKELY, reference_of(LIKELY))
    assert np.allclose(beside, plain - np.log(np.exp(plain).mean(axis=1, keepdims=True)))


def test_no_text_and_no_word_are_no_errors():
    assert word_similarity([], LIKELY, reference_of()).shape == (0, 2)
    assert word_similarity([np.zeros(0, np.int64)], LIKELY, reference_of(LIKELY)).tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_views_and_words_are_added_and_both_kinds_of_views_share_the_weight(temperature):
    vectors, reference = unit_rows(40, 2), reference_of(LIKELY)
    texts = EmbeddedTexts(vectors, tuple(np.array([row % 3, (row + 1) % 3]) for row in range(len(vectors))))
    regions = images_of([2, 1], weights=[0.3, 0.7, 1], words=LIKELY)
    tags = images_of([1, 1], vectors=unit_rows(2, 6))
    rows = [regions.vectors[:2], tags.vectors[:1], regions.vectors[2:], tags.vectors[1:]]
    joined = images_of([3, 2], vectors=np.concatenate(rows), weights=[0.15, 0.35, 0.5, 0.5, 0.5])
    views, of_tags, of_joined = (
        view_similarity(vectors, images, reference.texts, temperature) for images in (regions, tags, joined)
    )
    words = temperature * word_similarity(texts.pieces, LIKELY, reference)
    found = similarities(texts, regions, tags, reference, temperature)
    for got, expected in zip(found, (views + words, of_tags, of_joined + words), strict=True):
        assert np.allclose(got, expected, atol=1e-6)
    assert np.allclose(similarity(texts, regions, reference, temperature), views + words)
    assert np.allclose(similarity(texts, tags, reference, temperature), of_tags)


def test_one_image_and_some_texts_are_as_in_the_whole():
    texts = EmbeddedTexts(unit_rows(4, 2), tuple(np.array([row % 3]) for row in range(4)))
    images = images_of([2, 3, 1], words=np.concatenate([LIKELY, LIKELY[:1]]))
    whole = similarity(texts, images, reference_of(LIKELY), 0.1)
    for image in range(3):
        part = similarity(texts.take(np.array([3, 1])), images.one(image), reference_of(LIKELY), 0.1)
        assert np.allclose(part, whole[[3, 1], image : image + 1])
