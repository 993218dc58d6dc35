"""Sentences as spans: nothing of the text is lost, offsets are characters, misplaced mentions are named."""

import pytest
from tests.pipeline.report.small import mention, mixed, patch

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.report.sentences import cut_into_spans, mention_mark, mixed_spans


def no_picture(_: object) -> None:
    return None


def test_mentions_and_plain_text_alternate() -> None:
    text = "a dog chases two kites"
    spans = cut_into_spans(
        text, [mention_mark(text, mention(text, "kites", "kite")), mention_mark(text, mention(text, "dog"))], "s"
    )
    assert [(span.kind, span.text, span.note) for span in spans] == [
        ("plain", "a ", ""),
        ("mention", "dog", "dog"),
        ("plain", " chases two ", ""),
        ("mention", "kites", "kite"),
    ]


def test_a_text_that_is_one_mention_and_one_without() -> None:
    assert [span.kind for span in cut_into_spans("dog", [mention_mark("dog", mention("dog", "dog"))], "s")] == [
        "mention"
    ]
    assert [(span.kind, span.text) for span in cut_into_spans("nothing here", [], "s")] == [("plain", "nothing here")]
    assert cut_into_spans("", [], "s") == []


@pytest.mark.parametrize(
    "text",
    [
        "👩‍👩‍👧 with a dog 🐕 and a kite",
        "cafe\u0301 dog by the nai\u0308ve kite",
        "\U0001f9d1\U0001f3fd‍\U0001f33e dog, שלום, kite",
    ],
)
def test_offsets_count_characters_not_bytes_or_glyphs(text: str) -> None:
    spans = cut_into_spans(text, [mention_mark(text, mention(text, word)) for word in ("dog", "kite")], "s")
    assert "".join(span.text for span in spans) == text
    assert [span.text for span in spans if span.kind == "mention"] == ["dog", "kite"]


@pytest.mark.parametrize(
    "spans",
    [[(0, 5), (3, 6)], [(0, 40)], [(-1, 2)], [(4, 4)], [(5, 3)]],
    ids=["overlap", "beyond", "before", "empty", "reversed"],
)
def test_misplaced_mentions_are_refused_by_the_samples_key(spans: list[tuple[int, int]]) -> None:
    mentions = [Mention(start, end, "dog", "dog", "dog") for start, end in spans]
    with pytest.raises(UserError, match=r"key-7: a mention covers characters .* `vlmixer verify`"):
        mixed_spans(mixed("key-7", "a dog barks", mentions, []), no_picture)


def test_replaced_words_become_patches_and_the_others_stay_marked() -> None:
    text = "two dogs and a kite"
    sample = mixed(
        "k", text, [mention(text, "dogs", "dog"), mention(text, "kite")], [patch("p1", "dog", 0), patch("p2", "dog", 0)]
    )
    spans = mixed_spans(sample, lambda drawn: f"data:{drawn.patch_id}" if drawn.patch_id == "p1" else None)
    assert [(span.kind, span.text) for span in spans] == [
        ("plain", "two "), ("patches", "dogs"), ("plain", " and a "), ("mention", "kite")
    ]  # fmt: skip
    first, second = spans[1].patches
    assert (first.picture, second.picture) == ("data:p1", None)
    assert (first.label, first.aspect) == ("dog", 2.0)
    assert dict(first.facts) == {
        "replaces": "dogs", "concept": "dog", "score": "0.88", "image": "image-1", "patch": "p1",
        "size": "40 × 20 of 100 × 80 pixels",
    }  # fmt: skip
