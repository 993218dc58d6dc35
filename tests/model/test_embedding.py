from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from vlmixer.artifacts.samples import ImageSample
from vlmixer.model import embedding
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig
from vlmixer.model.embedding import WHOLE_IMAGE_WEIGHT, ImageRegions, embed_images, embed_tags, embed_texts
from vlmixer.model.network import Network
from vlmixer.model.padding import pad
from vlmixer.model.shards import ShardSet
from vlmixer.model.views import NOWHERE, Regions, geometry, set_view


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


def test_tags_are_read_as_one_text_an_image():
    config = ModelConfig(feature_dim=4)
    tokenizer = tokenizers.learn(["a dog", "a kite"], 100)
    network = Network(config, tokenizer.size, 4)
    nothing = np.zeros((0, 4), np.float32)
    images = [ImageRegions(nothing, nothing, 9, 9, tags) for tags in (("dog", "kite"), (), ("kite",))]
    images.append(ImageRegions(nothing, nothing, 9, 9, ("dog", "kite"), tag_words=("dog", "kites")))
    found = embed_tags(network, tokenizer, config, images)
    assert (found.weights.tolist(), found.starts.tolist()) == ([1, 1, 1, 1], [0, 1, 2, 3])
    texts = embed_texts(network, tokenizer, config, ["dog kite", "", "kite", "dog kites"])
    assert np.allclose(found.vectors, texts.vectors, atol=1e-6)
    assert found.words is None


def test_the_words_of_an_image_are_those_of_its_regions_alone_and_together():
    config = ModelConfig(feature_dim=4)
    tokenizer = tokenizers.learn(["a dog and a kite"], 100)
    network = Network(config, tokenizer.size, 4).eval()
    features = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float16)
    boxes = np.array([[0, 0, 10, 10], [0, 0, 20, 20]], np.float32)
    images = [ImageRegions(features[:count], boxes[:count], 100, 100, ()) for count in (2, 0, 1)]
    found = embed_images(network, tokenizer, config, images).words

    def likely(rows):
        regions = Regions(features[rows], geometry(boxes[rows], 100, 100), np.full(len(rows), NOWHERE, np.int64))
        with torch.inference_mode():
            states = network.bert(pad([set_view(regions, tokenizer)]))
            items = torch.tensor([[0, 2 + row] for row in range(len(rows))])  # after [CLS] and [SEP]
            return network.words(states, items).softmax(-1).numpy()

    # The second box has twice the root of the area of the first.
    shares = np.array([1 / 3, 2 / 3])
    alone = shares[0] * likely([0])[0] + shares[1] * likely([1])[0]
    together = shares @ likely([0, 1])
    expected = (1 - WHOLE_IMAGE_WEIGHT) * alone + WHOLE_IMAGE_WEIGHT * together
    assert found is not None
    assert np.allclose(found[0], expected, atol=1e-6)
    assert found[1].tolist() == [0.0] * tokenizer.size
    assert np.allclose(found[2], likely([0])[0], atol=1e-6)
    assert found[[0, 2]].sum(axis=1) == pytest.approx([1, 1])


def test_batches_do_not_change_what_an_image_is():
    config = ModelConfig(feature_dim=4)
    tokenizer = tokenizers.learn(["a dog and a kite"], 100)
    network = Network(config, tokenizer.size, 4)
    random = np.random.default_rng(0)
    images = []
    for count in [1, 7, 0, 3, 2, 5] * (embedding.VIEWS_PER_BATCH // 20):
        corners = random.uniform(0, 50, (count, 2)).astype(np.float32)
        boxes = np.concatenate([corners, corners + 20], axis=1)
        images.append(ImageRegions(random.normal(size=(count, 4)).astype(np.float16), boxes, 80, 90, ()))
    together = embed_images(network, tokenizer, config, images)
    assert len(together.vectors) > embedding.VIEWS_PER_BATCH
    for number in (0, 1, 2, len(images) - 1):
        alone, one = embed_images(network, tokenizer, config, [images[number]]), together.one(number)
        assert alone.words is not None
        assert one.words is not None
        assert np.allclose(one.vectors, alone.vectors, atol=1e-5)
        assert np.allclose(one.words, alone.words, atol=1e-6)
        assert one.weights.tolist() == alone.weights.tolist()


def test_texts_are_cut_to_what_the_network_reads():
    config = ModelConfig(feature_dim=4, max_text_tokens=4)
    tokenizer = tokenizers.learn(["a dog and a kite"], 100)
    found = embed_texts(Network(config, tokenizer.size, 4), tokenizer, config, ["a dog and a kite", "", "dog"])
    assert [len(pieces) for pieces in found.pieces] == [2, 0, 1]
    assert found.vectors.shape == (3, config.projection_size)


def shards_of(texts, images):
    """Shards with these sentences and images, as far as the reference reads them."""
    return cast(
        ShardSet,
        SimpleNamespace(
            mixed_samples=lambda: iter([SimpleNamespace(text=text) for text in texts]),
            image_samples=lambda: iter(images),
        ),
    )


def test_the_reference_counts_word_pieces_and_keeps_texts_and_images():
    config = ModelConfig(feature_dim=4)
    tokenizer = tokenizers.learn(["a dog", "a kite"], 100)
    network = Network(config, tokenizer.size, 4)
    features = np.random.default_rng(0).normal(size=(2, 4)).astype(np.float16)
    image = ImageSample("0", "i", "i.jpg", 9, 9, ("dog",), (), features[:0])
    shards = shards_of(["a dog", "a kite", "a dog"], [image])
    found = embedding.embed_reference(network, tokenizer, config, shards)
    counts = np.full(tokenizer.size, 0.5)
    for text in ("a dog", "a kite", "a dog"):
        np.add.at(counts, tokenizer.encode([text])[0].ids, 1)
    assert np.allclose(found.frequencies, counts / counts.sum())
    assert found.texts.shape == (3, config.projection_size)
    assert found.words.tolist() == [[0.0] * tokenizer.size]
    without = embedding.embed_reference(network, tokenizer, config, shards_of(["a dog"], []))
    assert without.words.shape == (0, tokenizer.size)
