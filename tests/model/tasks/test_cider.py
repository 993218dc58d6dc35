"""CIDEr-D. The expected values are those of pycocoevalcap 1.2."""

import pytest

from vlmixer.model.tasks.cider import CiderD, frequencies, words_of

REFERENCES = [
    ["A dog chases two kites.", "The dog runs after a kite!"],
    ["A man's red hat", "a red hat on a man"],
    ["Two cats sleep on a sofa", "cats on a couch", "a cat and a cat"],
]


def test_words():
    assert words_of("A man's T-shirt, size 42 -- RED!") == ("a", "man", "'s", "t-shirt", "size", "42", "red")
    assert words_of(" .") == ()


@pytest.mark.parametrize(
    ("image", "caption", "expected"),
    [
        (0, "a dog chases a kite", 2.7689495633060988),
        (1, "A red hat.", 3.453728496359782),
        (2, "a cat a cat a cat a cat", 0.569072411898571),
        (0, "", 0.0),
        (0, "zebra", 0.0),
    ],
)
def test_scores(image, caption, expected):
    assert CiderD(REFERENCES).score(image, caption) == pytest.approx(expected, rel=1e-12)


def test_frequencies_may_be_those_of_other_captions():
    """A reward for a few photos is taken with the frequencies of all training captions."""
    known = frequencies(REFERENCES)
    assert (known.images, known.counts[("a",)], known.counts[("red", "hat")]) == (3, 3, 1)
    assert CiderD(REFERENCES[1:2], known).score(0, "a red hat") == CiderD(REFERENCES).score(1, "a red hat")


def test_a_single_image_says_nothing_of_what_is_rare():
    assert CiderD(REFERENCES[:1]).score(0, "A dog chases two kites.") == 0.0
