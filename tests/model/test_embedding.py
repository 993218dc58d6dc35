import numpy as np
import pytest

from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig
from vlmixer.model.embedding import (
    WHOLE_IMAGE_WEIGHT,
    EmbeddedImages,
    ImageRegions,
    average_similarity,
    embed_images,
    embed_tags,
    embed_texts,
    similarity,
)
from vlmixer.model.network import Network


def images_of(counts, vectors=None, weights=None):
    total = sum(counts)
    vectors = np.random.default_rng(0).normal(size=(total, 8)) if vectors is None else vectors
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = np.cumsum([0, *counts[:-1]])
    if weights is None:
        weights = np.concatenate([np.full(count, 1 / count) for count in counts])
    return EmbeddedImages(vectors.astype(np.float32), np.array(weights), starts)


def unit_rows(count, seed):
    rows = np.random.default_rng(seed).normal(size=(count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_an_image_is_the_weighted_mean_of_its_views_each_beside_reference_texts(temperature):
    counts, random = [3, 1, 2], np.random.default_rng(1)
    weights = np.concatenate([random.dirichlet(np.ones(count)) for count in counts])
    images, texts, reference = images_of(counts, weights=weights), unit_rows(600, 2), unit_rows(50, 3)
    found = similarity(texts, images, reference, temperature)
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
    found = similarity(reference[:1], images, reference, 0.1)
    assert found.tolist() == [pytest.approx([0, 0], abs=1e-6)]


def test_images_are_embedded_region_by_region_and_all_together():
    config = ModelConfig(feature_dim=4, max_regions=3)
    tokenizer = tokenizers.learn(["a dog"], 100)
    network = Network(config, tokenizer.size, 4)
    features = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float16)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 20], [5, 5, 5, 9], [0, 0, 9, 9], [0, 0, 9, 9]], np.float32)
    images = [ImageRegions(features[:count], boxes[:count], 100, 100, ("dog",)) for count in (2, 0, 1, len(boxes))]
    found = embed_images(network, tokenizer, config, images)
    # Of the last image's five regions the first three are taken; one of them has no area and still some weight.
    assert found.starts.tolist() == [0, 3, 4, 5]
    assert found.vectors.shape == (9, config.projection_size)
    share = WHOLE_IMAGE_WEIGHT
    assert found.weights[:5].tolist() == pytest.approx([(1 - share) / 3, (1 - share) * 2 / 3, share, 1, 1])
    assert found.weights[5:].sum() == pytest.approx(1)
    assert found.weights[-1] == share
    assert (found.weights > 0).all()
    # A region lies where it lies, whatever else is in its image; all together lie elsewhere.
    assert np.allclose(found.vectors[[0, 0, 1]], found.vectors[[4, 5, 6]], atol=1e-6)
    assert not np.allclose(found.vectors[2], found.vectors[0], atol=1e-3)
    assert np.allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_average_similarity_is_the_similarity_of_images_with_both_kinds_of_views(temperature):
    texts, reference = unit_rows(40, 2), unit_rows(50, 3)
    one = images_of([2, 1], weights=[0.3, 0.7, 1])
    other = images_of([1, 1], vectors=unit_rows(2, 6))
    rows = [one.vectors[:2], other.vectors[:1], one.vectors[2:], other.vectors[1:]]
    joined = images_of([3, 2], vectors=np.concatenate(rows), weights=[0.15, 0.35, 0.5, 0.5, 0.5])
    first, second = (similarity(texts, images, reference, temperature) for images in (one, other))
    assert np.allclose(
        average_similarity(first, second, temperature), similarity(texts, joined, reference, temperature), atol=1e-6
    )


def test_tags_are_read_as_one_text_an_image():
    config = ModelConfig(feature_dim=4)
    tokenizer = tokenizers.learn(["a dog", "a kite"], 100)
    network = Network(config, tokenizer.size, 4)
    nothing = np.zeros((0, 4), np.float32)
    images = [ImageRegions(nothing, nothing, 9, 9, tags) for tags in (("dog", "kite"), (), ("kite",))]
    found = embed_tags(network, tokenizer, config, images)
    assert (found.weights.tolist(), found.starts.tolist()) == ([1, 1, 1], [0, 1, 2])
    assert np.allclose(found.vectors, embed_texts(network, tokenizer, config, ["dog kite", "", "kite"]), atol=1e-6)
