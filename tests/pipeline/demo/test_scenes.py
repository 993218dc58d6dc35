"""Scenes: a pure function of seed, split and index, with boxes around what can be seen."""

from collections import Counter

import numpy as np
import pytest

from vlmixer.pipeline.demo.backgrounds import background
from vlmixer.pipeline.demo.categories import BACKGROUNDS, CATEGORIES, INDEX, vocabulary
from vlmixer.pipeline.demo.scenes import CANVAS, MAX_THINGS, Scene, Thing, draw_scene, overlap, plan_scene
from vlmixer.pipeline.demo.sprites import CLUTTER, sprite


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [plan_scene(0, "test", index) for index in range(1500)]


def test_a_vocabulary_of_at_least_24_categories_two_of_them_with_two_word_names() -> None:
    names = [category.name for category in CATEGORIES]
    assert len(names) >= 24
    assert {"hot air balloon", "traffic light"} <= set(names)
    words = [word for category in CATEGORIES for word in category.words]
    assert len(set(words)) == len(words)
    lines = [[word.strip() for word in line.split(",")] for line in vocabulary().splitlines()]
    assert lines == [list(category.words) for category in CATEGORIES]
    assert all(len(line) >= 2 for line in lines)


@pytest.mark.parametrize(
    ("category", "word", "plural"),
    [
        ("goose", "goose", "geese"),
        ("mouse", "mouse", "mice"),
        ("sheep", "sheep", "sheep"),
        ("sheep", "lamb", "lambs"),
        ("dog", "puppy", "puppies"),
        ("bus", "coach", "coaches"),
        ("butterfly", "butterfly", "butterflies"),
        ("airplane", "jet", "jets"),
        ("traffic light", "traffic light", "traffic lights"),
    ],
)
def test_plurals(category: str, word: str, plural: str) -> None:
    assert CATEGORIES[INDEX[category]].plural(word) == plural


def test_every_category_is_drawn_in_each_of_its_colours() -> None:
    for category in CATEGORIES:
        pictures = {sprite(category.name, colour, 0).tobytes() for colour in category.colours}
        assert len(pictures) == len(category.colours), category.name


def test_a_scene_depends_on_seed_split_and_index_alone() -> None:
    assert plan_scene(3, "test", 5) == plan_scene(3, "test", 5)
    others = {plan_scene(3, "test", 6), plan_scene(3, "other", 5), plan_scene(4, "test", 5)}
    assert plan_scene(3, "test", 5) not in others
    assert len(others) == 3
    (first, first_boxes), (second, second_boxes) = (
        draw_scene(plan_scene(3, "test", 5)),
        draw_scene(plan_scene(3, "test", 5)),
    )
    assert first.tobytes() == second.tobytes()
    assert np.array_equal(first_boxes, second_boxes)


def test_scenes_hold_one_to_five_things_of_every_category_on_every_background(many: list[Scene]) -> None:
    assert {len(scene.things) for scene in many} == set(range(1, MAX_THINGS + 1))
    kinds = Counter(thing.kind for scene in many for thing in scene.things)
    assert set(kinds) == set(INDEX)
    assert min(kinds.values()) > 0.2 * max(kinds.values())
    assert {scene.background for scene in many} == set(BACKGROUNDS)
    assert {thing.kind for scene in many for thing in scene.clutter} == set(CLUTTER)
    assert not set(CLUTTER) & set(INDEX)


def test_several_things_of_one_kind_are_common(many: list[Scene]) -> None:
    most = [max(Counter(thing.kind for thing in scene.things).values()) for scene in many]
    assert sum(count >= 2 for count in most) > 0.25 * len(most)
    assert max(most) == 3


def test_company_is_telling_but_not_certain(many: list[Scene]) -> None:
    by_background = {name: Counter[str]() for name in BACKGROUNDS}
    for scene in many:
        by_background[scene.background].update({thing.kind for thing in scene.things})
    cups = {name: counter["cup"] for name, counter in by_background.items()}
    assert cups["kitchen"] > 0.4 * sum(cups.values())
    assert sum(cups.values()) > cups["kitchen"] + cups["room"]
    assert by_background["sea"]["house"] == 0


def test_boxes_lie_inside_the_canvas_around_things_of_some_size(many: list[Scene]) -> None:
    for scene in many[:200]:
        picture, boxes = draw_scene(scene)
        assert picture.size == (CANVAS, CANVAS)
        assert picture.mode == "RGB"
        assert boxes.shape == (len(scene.things), 4)
        assert boxes.dtype == np.float32
        assert boxes.min() >= 0
        assert boxes.max() <= CANVAS
        sides = boxes[:, 2:] - boxes[:, :2]
        assert sides.min() >= 8
        assert sides.max(axis=1).min() >= 30


def _scene(*things: Thing) -> Scene:
    return Scene("field", 0, False, (10, 10), (1.0, 1.0, 1.0), things, ())


def test_a_box_is_where_the_picture_changes() -> None:
    thing = Thing("orange", "orange", 0, (60, 40, 120, 100), "sky", False, 0.0)
    picture, boxes = draw_scene(_scene(thing))
    plain = background("field", 0).image.crop((10, 10, 10 + CANVAS, 10 + CANVAS))
    changed = np.abs(np.asarray(picture).astype(int) - np.asarray(plain)).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    painted = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert np.abs(boxes[0] - painted).max() <= 1
    assert np.abs(boxes[0] - thing.box).max() <= 1


def test_a_box_holds_only_what_is_not_hidden() -> None:
    behind = Thing("house", "red", 0, (40, 40, 140, 140), "ground", False, 0.0)
    before = Thing("bus", "blue", 0, (90, 20, 250, 190), "ground", False, 0.0)
    _, alone = draw_scene(_scene(behind))
    _, hidden = draw_scene(_scene(behind, before))
    assert alone[0, 2] == pytest.approx(140, abs=1)
    assert hidden[0, 2] < 110
    assert hidden[0, 0] == alone[0, 0]


@pytest.mark.parametrize(
    ("other", "part"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 15, 10), 0.5),
        ((2, 2, 4, 4), 1.0),
        ((10, 0, 20, 10), 0.0),
        ((50, 50, 60, 60), 0.0),
    ],
)
def test_overlap_is_a_part_of_the_smaller_box(other: tuple[float, float, float, float], part: float) -> None:
    assert overlap((0, 0, 10, 10), other) == part
    assert overlap(other, (0, 0, 10, 10)) == part
