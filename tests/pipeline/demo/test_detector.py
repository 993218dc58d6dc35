"""The demo's detector with the weights that ship, and the script that made them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vlmixer.artifacts.boxes import box_iou
from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.demo.backgrounds import background
from vlmixer.pipeline.demo.categories import BACKGROUNDS, CATEGORIES
from vlmixer.pipeline.demo.detector import (
    FEATURE_DIM,
    LONGER_SIDE,
    SHORTER_SIDE,
    WEIGHTS,
    DemoDetector,
    build_network,
    resize,
)
from vlmixer.pipeline.demo.scenes import CANVAS
from vlmixer.pipeline.demo.scoring import mean_average_precision
from vlmixer.pipeline.demo.train_detector import HELD_OUT, Drawn, draw_training_scenes, drawn_scene, save, train
from vlmixer.pipeline.image.detectors.base import Detections


@pytest.fixture(scope="module")
def scenes() -> list[Drawn]:
    return [drawn_scene(0, HELD_OUT, index) for index in range(120)]


@pytest.fixture(scope="module")
def pictures(scenes: list[Drawn]) -> list[np.ndarray]:
    return [picture for picture, _, _ in scenes]


@pytest.fixture(scope="module")
def detector() -> DemoDetector:
    return DemoDetector()


@pytest.fixture(scope="module")
def found(detector: DemoDetector, pictures: list[np.ndarray]) -> list[Detections]:
    return detector.detect(pictures)


def _same(a: Detections, b: Detections) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ("boxes", "scores", "labels", "features"))


def test_the_weights_that_ship_are_small_half_precision_and_good(
    scenes: list[Drawn], pictures: list[np.ndarray]
) -> None:
    assert WEIGHTS.stat().st_size <= 5_000_000
    assert {value.dtype for value in load_file(WEIGHTS).values()} <= {torch.float16, torch.int64}
    sensitive = DemoDetector(score_threshold=0.05).detect(pictures)
    gold = [(boxes, labels) for _, boxes, labels in scenes]
    score, _ = mean_average_precision([(each.boxes, each.scores, each.labels) for each in sensitive], gold)
    assert score >= 0.95


def test_labels_are_the_categories(detector: DemoDetector) -> None:
    assert list(detector.labels) == [category.name for category in CATEGORIES]
    assert detector.feature_dim == FEATURE_DIM


def test_most_things_are_found_and_most_finds_are_things(found: list[Detections], scenes: list[Drawn]) -> None:
    things = sum(len(labels) for _, _, labels in scenes)
    right = 0
    for (_, boxes, labels), each in zip(scenes, found, strict=True):
        match = (box_iou(boxes, each.boxes) >= 0.5) & (labels[:, None] == each.labels[None])
        right += int(match.any(axis=1).sum())
    assert right / things > 0.95
    assert right / sum(len(each.boxes) for each in found) > 0.95


def test_shapes_types_and_limits(found: list[Detections]) -> None:
    for each in found:
        count = len(each.boxes)
        assert (each.boxes.shape, each.boxes.dtype) == ((count, 4), np.float32)
        assert (each.scores.shape, each.scores.dtype) == ((count,), np.float32)
        assert (each.labels.shape, each.labels.dtype) == ((count,), np.int64)
        assert (each.features.shape, each.features.dtype) == ((count, FEATURE_DIM), np.float32)
        assert ((each.scores >= 0.5) & (each.scores <= 1)).all()
        assert (np.diff(each.scores) <= 0).all()
        assert ((each.labels >= 0) & (each.labels < len(CATEGORIES))).all()
        assert np.isfinite(each.features).all()
        assert (each.boxes >= 0).all()
        assert (each.boxes <= CANVAS).all()
        apart = box_iou(each.boxes, each.boxes) - np.eye(count)
        assert not count or apart.max() <= 0.5


def test_features_tell_categories_apart(found: list[Detections]) -> None:
    features = np.concatenate([each.features for each in found])
    labels = np.concatenate([each.labels for each in found])
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    alike = features @ features.T - 2 * np.eye(len(features))
    assert (labels[alike.argmax(axis=1)] == labels).mean() > 0.9


def test_neighbours_do_not_change_a_result(detector: DemoDetector, pictures: list[np.ndarray]) -> None:
    small, wide = pictures[3][:100, :120], pictures[4][:90]
    together = detector.detect([pictures[0], small, pictures[1], wide, pictures[2]])
    alone = [detector.detect([picture])[0] for picture in (pictures[0], small, pictures[1], wide, pictures[2])]
    assert all(_same(a, b) for a, b in zip(together, alone, strict=True))
    assert detector.detect([]) == []


def test_an_empty_place_holds_nothing(detector: DemoDetector) -> None:
    places = [
        background(name, variant).image.crop((0, 0, CANVAS, CANVAS)) for name in BACKGROUNDS for variant in (0, 1)
    ]
    counts = [len(each.boxes) for each in detector.detect([np.asarray(place) for place in places])]
    assert sum(counts) <= 2
    nothing = detector.detect([np.full((80, 80, 3), 127, np.uint8)])[0]
    assert nothing.boxes.shape == (0, 4)
    assert nothing.features.shape == (0, FEATURE_DIM)


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (700, 2), (257, 193), (161, 160), (900, 1300)])
def test_images_of_any_size(detector: DemoDetector, size: tuple[int, int], pictures: list[np.ndarray]) -> None:
    rows, columns = (np.linspace(0, CANVAS - 1, side).astype(int) for side in size)
    each = detector.detect([pictures[0][rows][:, columns]])[0]
    assert (each.boxes >= 0).all()
    assert (each.boxes <= np.array([size[1], size[0]] * 2)).all()


def test_boxes_are_in_pixels_of_the_picture_passed_in(
    detector: DemoDetector, found: list[Detections], pictures: list[np.ndarray]
) -> None:
    twice = pictures[1].repeat(2, axis=0).repeat(2, axis=1)
    each = detector.detect([twice])[0]
    assert len(each.boxes) == len(found[1].boxes) > 0
    assert box_iou(each.boxes / 2, found[1].boxes).max(axis=0).min() > 0.8


@pytest.mark.parametrize(
    ("size", "seen"),
    [
        ((256, 256), (160, 160)),
        ((480, 640), (160, 213)),
        ((640, 480), (213, 160)),
        ((100, 1000), (32, 320)),
        ((1, 900), (1, 320)),
    ],
)
def test_fit(size: tuple[int, int], seen: tuple[int, int]) -> None:
    assert (SHORTER_SIDE, LONGER_SIDE) == (160, 320)
    assert resize(np.zeros((*size, 3), np.uint8)).shape == (*seen, 3)


def test_weights_that_cannot_be_read_are_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing\.safetensors: cannot read"):
        DemoDetector(str(tmp_path / "missing.safetensors"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"broken\.safetensors: cannot read"):
        DemoDetector(str(broken))
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(UserError, match=r"other\.safetensors: these weights belong to another network"):
        DemoDetector(str(other))


def test_training_starts_from_the_seed_and_writes_a_file_the_detector_reads(
    tmp_path: Path, pictures: list[np.ndarray]
) -> None:
    drawn = draw_training_scenes(0, 8, 1)
    assert all(picture.shape == (SHORTER_SIDE, SHORTER_SIDE, 3) for picture, _, _ in drawn)
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    for path in (first, second):
        train(drawn, path, steps=2, batch_size=4, rate=1e-3, seed=0)
    assert first.read_bytes() == second.read_bytes()
    untrained = tmp_path / "untrained.safetensors"
    torch.manual_seed(0)
    save(build_network(), untrained)
    assert first.read_bytes() != untrained.read_bytes()
    assert len(DemoDetector(str(first)).detect(pictures[:1])) == 1


def test_a_long_thin_picture_that_comes_first_changes_nothing(pictures: list[np.ndarray]) -> None:
    after_thin = DemoDetector(score_threshold=0.05).detect([np.full((10, 400, 3), 90, np.uint8), pictures[0]])[1]
    alone = DemoDetector(score_threshold=0.05).detect([pictures[0]])[0]
    assert len(alone.boxes)
    assert _same(after_thin, alone)
