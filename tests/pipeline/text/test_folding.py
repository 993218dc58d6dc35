"""Text made comparable, and the way back to the text as it is stored."""

import random
import unicodedata
from typing import Any

import pytest

from vlmixer.pipeline.text.folding import fold, word_pattern


def words(text):
    """Folded words, and what each is in the stored text."""
    folded = fold(text)
    found = []
    for match in word_pattern(folded.text).finditer(folded.text):
        start, end = folded.stored(*match.span())
        found.append((match.group(), text[start:end]))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A Dog", [("a", "A"), ("dog", "Dog")]),
        ("cafe\u0301 noir", [("café", "cafe\u0301"), ("noir", "noir")]),
        ("café noir", [("café", "café"), ("noir", "noir")]),
        ("a\u0323\u0307 dog", [("ạ\u0307", "a\u0323\u0307"), ("dog", "dog")]),
        ("a\u0307\u0323 dog", [("ạ\u0307", "a\u0307\u0323"), ("dog", "dog")]),
        ("a ﬁre ﬆop", [("a", "a"), ("fire", "ﬁre"), ("stop", "ﬆop")]),
        ("Ｄｏｇ１", [("dog1", "Ｄｏｇ１")]),
        ("hot\u00addog dog", [("hotdog", "hot\u00addog"), ("dog", "dog")]),
        ("\u00addog\u00ad", [("dog", "dog")]),
        ("👨\u200d👩\u200d👧 dog", [("dog", "dog")]),
        ("\u202bכלב\u202c dog", [("כלב", "כלב"), ("dog", "dog")]),
        ("हिन्दी कुत्ता", [("हिन्दी", "हिन्दी"), ("कुत्ता", "कुत्ता")]),
        ("İstanbul dog", [("i\u0307stanbul", "İstanbul"), ("dog", "dog")]),
        ("STRASSE Straße", [("strasse", "STRASSE"), ("strasse", "Straße")]),
        ("한국 개", [("한국", "한국"), ("개", "개")]),
        ("ﾊﾟﾝﾀﾞ ﾊﾞｽ", [("パンダ", "ﾊﾟﾝﾀﾞ"), ("バス", "ﾊﾞｽ")]),
        ("dog\u0301", [("doǵ", "dog\u0301")]),
        ("a_dog", [("a_dog", "a_dog")]),
        ("ΣΟΦΟΣ σοφος", [("σοφοσ", "ΣΟΦΟΣ"), ("σοφοσ", "σοφος")]),
    ],
)
def test_words_are_comparable_and_stay_where_they_are(text, expected):
    assert words(text) == [(unicodedata.normalize("NFC", folded), stored) for folded, stored in expected]


@pytest.mark.parametrize("text", ["crème brûlée", "Å ﬁ ﬃ", "한국어 개", "パンダ", "ṩ", "हिन्दी", "Ǆ", "ά"])
def test_texts_written_in_different_ways_are_the_same_text(text):
    forms = {fold(unicodedata.normalize(form, text)).text for form in ("NFC", "NFD", "NFKC", "NFKD")}
    assert len(forms) == 1
    assert fold(text.upper()).text == fold(text.lower()).text


def test_apostrophes_are_alike():
    assert fold("the dog’s, dogʼs, dog＇s").text == "the dog's, dog's, dog's"


def test_plain_text_has_the_same_offsets():
    folded = fold("A Dog's Bowl")
    assert (folded.text, folded.starts, folded.stored(2, 5)) == ("a dog's bowl", None, (2, 5))


def random_text(chance, length):
    """Characters of every kind, marks and joiners more often than they come by themselves."""
    pools = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x600, 0x700), (0x900, 0x980), (0x1100, 0x1200),
             (0x2000, 0x2070), (0xFB00, 0xFB10), (0xFE00, 0xFE10), (0xFF00, 0xFFF0), (0x1F300, 0x1F700)]  # fmt: skip
    text: list[Any] = []
    while len(text) < length:
        low, high = chance.choice(pools) if chance.random() < 0.8 else (0, 0x110000)
        point = chance.randrange(low, high)
        if not 0xD800 <= point < 0xE000:
            text.append(chr(point))
    return "".join(text)


def test_offsets_of_any_text_are_in_range_and_never_go_back():
    chance = random.Random(0)
    for _ in range(1500):
        text = random_text(chance, chance.randrange(1, 40))
        folded = fold(text)
        spans = [folded.stored(place, place + 1) for place in range(len(folded.text))]
        assert all(0 <= start < end <= len(text) for start, end in spans), ascii(text)
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        assert starts == sorted(starts), ascii(text)
        assert ends == sorted(ends), ascii(text)
        if spans:
            assert folded.stored(0, len(folded.text)) == (starts[0], ends[-1])


def test_a_word_among_any_others_is_found_where_it_is():
    chance = random.Random(1)
    for _ in range(500):
        before, after = random_text(chance, 12), random_text(chance, 12)
        text = f"{before} . Dog , {after}"
        at = len(before) + 3
        folded = fold(text)
        spans = [folded.stored(*match.span()) for match in word_pattern(folded.text).finditer(folded.text)]
        assert (at, at + 3) in spans, ascii(text)


def test_folding_what_is_folded_changes_nothing():
    for text in ("Straße", "ﬁ", "İ", "Ｄｏｇ", "cafe\u0301", "ﾊﾟﾝﾀﾞ", "हिन्दी", "ǅ", "ﷺ", "½"):
        once = fold(text).text
        assert fold(once).text == once
