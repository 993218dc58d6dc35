"""Which captions name several of a concept."""

import pytest

from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.text.numbers import is_plural, named_concepts, tag_words


def mention(concept, surface, lemma):
    return Mention(0, len(surface), concept, surface, lemma)


@pytest.mark.parametrize(
    ("mentions", "expected"),
    [
        ([], {}),
        ([("dog", "Dog", "dog")], {"dog": False}),
        ([("donut", "doughnut", "donut")], {"donut": False}),
        ([("dog", "dogs", "dog")], {"dog": True}),
        ([("person", "people", "person")], {"person": True}),
        ([("person", "crowd", "crowd")], {"person": True}),
        ([("person", "boy", "boy"), ("person", "girl", "girl")], {"person": True}),
        ([("dog", "dog", "dog"), ("dog", "dog", "dog")], {"dog": False}),  # the same dog, mentioned twice
        ([("dog", "dogs", "dog"), ("dog", "dog", "dog")], {"dog": True}),
        ([("person", "man", "man"), ("dog", "dogs", "dog")], {"person": False, "dog": True}),
    ],
)
def test_which_captions_name_several(mentions, expected):
    assert named_concepts([mention(*each) for each in mentions]) == expected


@pytest.mark.parametrize(
    ("surface", "lemma", "plural"),
    [
        ("dogs", "dog", True), ("dog", "dog", False), ("Puppies", "puppy", True), ("women", "woman", True),
        ("people", "person", True), ("loaves of bread", "loaf of bread", True), ("teddy bears", "teddy bear", True),
        ("teddy-bear", "teddy bear", False), ("scissors", "scissors", False), ("sheep", "sheep", False),
        ("doughnut", "donut", False), ("doughnuts", "donut", True), ("glass", "glasses", False),
    ],
)  # fmt: skip
def test_plurals_are_told_by_their_form(surface, lemma, plural):
    assert is_plural(mention("thing", surface, lemma)) is plural


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), ()),
        (("dog",), ("dog",)),
        (("person", "dog", "person", "dog", "dog"), ("people", "dogs")),
        (("wine glass", "wine glass", "cat"), ("wine glasses", "cat")),
        (("sheep", "sheep"), ("sheep",)),
        (("scissors", "scissors", "skis", "skis"), ("scissors", "skis")),
        (("bus", "bus"), ("buses",)),
    ],
)
def test_tags_are_named_in_the_plural_where_there_are_several(labels, expected):
    assert tag_words(labels) == expected
