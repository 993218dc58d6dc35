"""Retrieval with a network that has trained for some seconds."""

from dataclasses import replace

import numpy as np
import pytest
from tests.model.runs import SMALL, losses
from tests.model.world import CONCEPTS, FEATURE_DIM, SIDE, World, write_shards

from vlmixer.artifacts.errors import UserError
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.evaluate import retrieval
from vlmixer.model.training import LOSSES, train


def found_in(scene):
    tags = tuple(CONCEPTS[number] for number in scene.concepts)
    return ImageRegions(scene.features, scene.boxes, SIDE, SIDE, tags)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A small network that has trained for some seconds, and true pairs that it has never seen."""
    world = World(noise=0.3)
    samples = [world.mixed(number) for number in range(1500)] + [world.image(number) for number in range(200)]
    folder = write_shards(str(tmp_path_factory.mktemp("learned") / "shards"), samples, per_shard=800)
    model = replace(SMALL, hidden_size=64, feed_forward_size=128, projection_size=32, dropout=0.0)
    config = TrainConfig(steps=150, batch_size=48, learning_rate=3e-3, warmup_steps=20, shards=folder)
    run = train(Settings(model=model, train=config), out=f"{folder}/../run")
    return run, [world.scene(number) for number in range(100)]


def test_the_losses_fall(learned):
    log = losses(learned[0])
    for name in LOSSES:
        first, last = (np.mean([line[name] for line in part]) for part in (log[:3], log[-3:]))
        assert last < 0.85 * first, name


def test_retrieval_without_any_pair_is_far_above_chance(learned):
    run, scenes = learned
    concepts = [[{CONCEPTS[number] for number in scene.concepts}] for scene in scenes]
    report = retrieval(run, [found_in(scene) for scene in scenes], [[scene.caption] for scene in scenes], concepts)
    assert (report.images, report.captions) == (100, 100)
    for direction in ("text to image", "image to text"):
        assert report.score("chance", direction).recall[10].value == pytest.approx(10)
        assert report.score("regions", direction).recall[10].value > 50
        assert report.score("regions + tags", direction).recall[10].value > 50
    # The toy world's tags are perfect, so this baseline finds nearly all.
    assert report.score("tag overlap").recall[10].value > 90


def test_retrieval_refuses_what_does_not_fit(learned):
    run, scenes = learned
    image = found_in(scenes[0])
    with pytest.raises(UserError, match="No images"):
        retrieval(run, [], [], [])
    with pytest.raises(UserError, match="No captions"):
        retrieval(run, [image], [[]], [[]])
    with pytest.raises(UserError, match=r"features of shape \(3, 4\), but the run was trained on width 16"):
        retrieval(run, [replace(image, features=image.features[:, :4])], [["a dog"]], [[{"dog"}]])


def test_an_image_in_which_nothing_was_found_is_evaluated_like_any_other(learned):
    run, scenes = learned
    nothing = ImageRegions(np.zeros((0, FEATURE_DIM), np.float32), np.zeros((0, 4), np.float32), SIDE, SIDE, ())
    report = retrieval(run, [found_in(scenes[0]), nothing], [["a dog"], ["a cat"]], [[{"dog"}], [{"cat"}]])
    assert report.score("regions").recall[5].value == 100


def test_numbers_tell_apart_what_the_network_and_tags_cannot(learned):
    run, scenes = learned
    one = found_in(scenes[0])
    dogs = [replace(one, tags=("dog",), labels=("dog",) * count) for count in (1, 3)]
    captions = [["a dog"], ["dogs"]]
    report = retrieval(run, dogs, captions, [[{"dog": False}], [{"dog": True}]])
    assert report.score("regions + tags + overlap").recall[1].value == 100
    # Without numbers, both images are the same, so each caption finds its own half of the time.
    unknown = retrieval(run, dogs, captions, [[{"dog"}], [{"dog"}]])
    assert unknown.score("regions + tags + overlap").recall[1].value == 50


def test_images_without_captions_are_wrong_answers_and_ask_nothing(learned):
    run, scenes = learned
    concepts = [{CONCEPTS[number] for number in scene.concepts} for scene in scenes]
    images = [found_in(scene) for scene in scenes]
    half = [[scene.caption] if row % 2 else [] for row, scene in enumerate(scenes)]
    report = retrieval(run, images, half, [[concepts[row]] if row % 2 else [] for row in range(len(scenes))])
    assert (report.images, report.captions) == (100, 50)
    # A caption has one right answer among 100 images, an image one among 50 captions.
    assert report.score("chance").recall[10].value == pytest.approx(10)
    assert report.score("chance", "image to text").recall[10].value == pytest.approx(20)
