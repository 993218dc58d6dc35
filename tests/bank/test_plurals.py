"""The plain rules for plurals, which look at a word's ending. tests/pipeline/text/test_forms.py tests the others."""

import pytest

from vlmixer.bank.plurals import IRREGULAR, looks_plural, plural_of, possible_singulars, singular_of


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("dog", "dogs"), ("puppy", "puppies"), ("donkey", "donkeys"), ("bus", "buses"), ("fox", "foxes"),
        ("coach", "coaches"), ("brush", "brushes"), ("goose", "geese"), ("mouse", "mice"), ("person", "people"),
        ("sheep", "sheep"), ("fish", "fish"), ("knife", "knives"), ("traffic light", "traffic lights"),
    ],
)  # fmt: skip
def test_the_plural_by_rule(singular, plural):
    assert plural_of(singular) == plural
    assert singular in possible_singulars(plural) or singular == plural


def test_a_frequent_irregular_plural_goes_both_ways():
    for plural, singular in IRREGULAR.items():
        assert plural_of(singular) == plural
        assert singular_of(plural) == singular
        assert possible_singulars(plural)[0] == singular
        assert looks_plural(plural)


@pytest.mark.parametrize(
    ("noun", "singulars"),
    [
        ("boxes", ["boxe", "box"]), ("buses", ["buse", "bus"]), ("puppies", ["puppie", "puppy"]), ("mice", ["mouse"]),
        ("potatoes", ["potatoe", "potato"]), ("glass", []), ("dog", []), ("", []),
    ],
)  # fmt: skip
def test_what_a_noun_may_be_the_plural_of(noun, singulars):
    assert possible_singulars(noun) == singulars


def test_what_looks_plural():
    assert all(map(looks_plural, ("dogs", "feet", "cattle", "boxes")))
    assert not any(map(looks_plural, ("dog", "bus", "glass", "tennis", "gas", "")))
