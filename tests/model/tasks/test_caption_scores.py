"""The way to pycocoevalcap and back. The package itself and Java are not installed for tests."""

import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.model.tasks.caption_scores import CaptionScore, Scorers, caption_scores, missing


def test_what_is_missing_is_named():
    absent = missing(package="no_such_package")
    assert absent is not None
    assert absent.startswith("BLEU, METEOR, ROUGE-L and CIDEr need the package no_such_package: pip install ")
    java = missing(package="json", java="no-such-java")
    assert java == "BLEU, METEOR, ROUGE-L and CIDEr need Java: install a Java runtime, version 8 or later"
    assert missing(package="json", java="python3") is None


def test_captions_and_references_reach_each_scorer_as_words():
    seen = []

    def tokenize(texts):
        seen.append(texts)
        return [text.lower() for text in texts]

    def shared_words(references, captions):
        assert list(references) == list(captions) == ["b", "a"]
        each = [len({*captions[name][0].split()} & {*" ".join(references[name]).split()}) for name in captions]
        return {"shared": [*each, sum(each)]}

    def constants(references, captions):
        return {"one": [1, 1, 1.5], "two": [2, 2, 2.5]}

    found = caption_scores(
        {"b": "A dog\nand a\u2028cat", "a": ""},
        {"a": ["Nothing"], "b": ["Dog ||| house", "the cat"], "c": ["not asked for"]},
        Scorers(tokenize, (shared_words, constants)),
    )
    assert seen == [["A dog and a cat", "", "Dog house", "the cat", "Nothing"]]
    assert found == {
        "shared": CaptionScore(2, (2, 0)),
        "one": CaptionScore(1.5, (1, 1)),
        "two": CaptionScore(2.5, (2, 2)),
    }


def test_no_captions_have_no_scores():
    assert caption_scores({}, {}, Scorers(list, ())) == {}


def test_java_that_fails_says_why():
    from vlmixer.model.tasks.caption_scores import _java

    assert _java(["cat"], "café\n") == "café\n"
    with pytest.raises(UserError, match="java ended with code 3 while scoring captions: out of luck"):
        _java(["sh", "-c", "echo first >&2; echo out of luck >&2; exit 3"], "")
