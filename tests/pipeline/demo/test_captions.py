"""Captions: true of their scene, rich in words, and aware of which words only look like categories."""

import re
from collections import Counter

import numpy as np
import pytest

from vlmixer.pipeline.demo.captions import Caption, Name, aside, describe, relations, scene_captions, sentences
from vlmixer.pipeline.demo.categories import CATEGORIES, INDEX
from vlmixer.pipeline.demo.scenes import Scene, Thing, plan_scene

ONES = {"a", "an"}
NUMBERS = {"two": 2, "pair": 2, "couple": 2, "three": 3, "few": 3, "some": 3}
COLOURS = {"red", "blue", "green", "yellow", "orange", "purple", "pink", "white", "gray", "brown", "golden"}


@pytest.fixture(scope="module")
def corpus() -> list[Caption]:
    return list(sentences(0, "test", 2000))


@pytest.fixture(scope="module")
def described() -> list[tuple[Scene, Caption]]:
    return [
        (plan_scene(0, "test", index), caption)
        for index in range(400)
        for caption in scene_captions(0, "test", index, 3)
    ]


def _said_number(caption: Caption, name: Name) -> int:
    """How many things the words before a name say: the last number word or article before it."""
    words = re.findall(r"[a-z]+", caption.text[: name.start].lower())
    for word in reversed(words):
        if word in NUMBERS:
            return NUMBERS[word]
        if word in ONES:
            return 1
    raise AssertionError(caption.text)


def _kinds(scene: Scene) -> Counter[str]:
    return Counter(thing.kind for thing in scene.things)


def test_captions_speak_only_of_what_is_in_the_scene_and_count_it_completely(
    described: list[tuple[Scene, Caption]],
) -> None:
    for scene, caption in described:
        assert caption.names, caption.text
        for name in caption.names:
            assert _said_number(caption, name) == _kinds(scene)[name.category], caption.text


def test_colours_are_true(described: list[tuple[Scene, Caption]]) -> None:
    checked = 0
    for scene, caption in described:
        for name in caption.names:
            word = caption.text[: name.start].rstrip().rsplit(" ", 1)[-1].lower()
            if word in COLOURS and name.category != "palm tree":
                assert {thing.colour for thing in scene.things if thing.kind == name.category} == {word}, caption.text
                checked += 1
    assert checked > 300


def test_names_stand_where_they_say_in_a_word_of_their_category(described: list[tuple[Scene, Caption]]) -> None:
    for _, caption in described:
        for name in caption.names:
            category = CATEGORIES[INDEX[name.category]]
            words = {*category.words, *map(category.plural, category.words)}
            assert caption.text[name.start : name.end].lower() in words


def test_every_category_is_spoken_of_in_each_of_its_words_and_in_plurals(corpus: list[Caption]) -> None:
    spoken = Counter(
        (name.category, caption.text[name.start : name.end].lower()) for caption in corpus for name in caption.names
    )
    for category in CATEGORIES:
        for word in category.words:
            assert spoken[category.name, word] or spoken[category.name, category.plural(word)], word
    assert {("goose", "geese"), ("mouse", "mice"), ("bus", "buses"), ("train", "trains")} <= set(spoken)


def test_some_captions_leave_things_out_and_some_do_not(described: list[tuple[Scene, Caption]]) -> None:
    told = [len(caption.names) for _, caption in described]
    there = [len(_kinds(scene)) for scene, _ in described]
    assert any(a < b for a, b in zip(told, there, strict=True))
    assert any(a == b > 1 for a, b in zip(told, there, strict=True))
    assert set(told) == {1, 2, 3, 4}


def test_asides_name_nothing_and_hold_a_word_that_looks_like_a_category() -> None:
    random = np.random.default_rng(0)
    for caption in (aside(random) for _ in range(300)):
        assert not caption.names
        assert caption.decoys
        for decoy in caption.decoys:
            assert caption.text[decoy.start : decoy.end].lower() in CATEGORIES[INDEX[decoy.category]].words
            assert not re.search(r"[\[\]{}|]", caption.text)


def test_the_corpus_is_mostly_about_scenes_and_holds_decoys_of_many_kinds(corpus: list[Caption]) -> None:
    assert 0.02 < sum(not caption.names for caption in corpus) / len(corpus) < 0.08
    decoys = {decoy.category for caption in corpus for decoy in caption.decoys}
    assert {"train", "fish", "book", "orange", "bear", "bus"} <= decoys
    assert any(caption.names and caption.decoys for caption in corpus)
    assert len({caption.text for caption in corpus}) > 0.9 * len(corpus)


def test_an_orange_kite_is_a_kite_and_a_decoy() -> None:
    kite = Thing("kite", "orange", 0, (10, 10, 60, 80), "sky", False, 0.0)
    scene = Scene("field", 0, False, (0, 0), (1.0, 1.0, 1.0), (kite,), ())
    captions = [describe(scene, np.random.default_rng(seed)) for seed in range(60)]
    coloured = [caption for caption in captions if "range " in caption.text]
    assert coloured
    for caption in coloured:
        assert [name.category for name in caption.names] == ["kite"]
        assert "orange" in [decoy.category for decoy in caption.decoys]


def test_the_same_key_gives_the_same_sentence() -> None:
    assert list(sentences(1, "test", 20)) == list(sentences(1, "test", 20))
    assert list(sentences(1, "test", 20)) != list(sentences(2, "test", 20))
    assert scene_captions(0, "pairs", 3, 5) == scene_captions(0, "pairs", 3, 5)


LEFT, RIGHT, FAR = (0, 100, 50, 150), (70, 100, 120, 150), (200, 100, 250, 150)
HIGH, BELOW_HIGH = (0, 0, 50, 40), (10, 60, 60, 110)


@pytest.mark.parametrize(
    ("a", "b", "on_ground", "true", "false"),
    [
        (LEFT, RIGHT, True, {"left of", "next to"}, {"right of", "above", "far from", "behind"}),
        (RIGHT, LEFT, True, {"right of", "beside"}, {"left of"}),
        (LEFT, FAR, True, {"left of", "far from"}, {"next to"}),
        (HIGH, BELOW_HIGH, False, {"above", "just above"}, {"below", "next to", "high above"}),
        (BELOW_HIGH, HIGH, False, {"below", "under"}, {"above"}),
        (HIGH, BELOW_HIGH, True, set(), {"above", "over"}),
        ((0, 0, 50, 50), (30, 20, 90, 90), True, {"in front of"}, {"behind", "left of"}),
        ((0, 0, 50, 50), (30, 20, 90, 90), False, set(), {"in front of", "behind"}),
    ],
)
def test_relations(
    a: tuple[float, float, float, float],
    b: tuple[float, float, float, float],
    on_ground: bool,
    true: set[str],
    false: set[str],
) -> None:
    found = set(relations(a, b, True, on_ground))
    assert true <= found
    assert not false & found
