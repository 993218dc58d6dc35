"""What came out of `vlmixer tag`: the table, the examples, the page."""

import json
import random
from pathlib import Path

import pytest
from tests.pipeline.report.small import mention, read_page

from vlmixer.artifacts import details
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.report import tagging
from vlmixer.pipeline.report.stages import StageReport
from vlmixer.pipeline.report.tagging import Examples, TagSummary, write_tag_page
from vlmixer.pipeline.text.tagger import Tagged


def summary(**changes: object) -> TagSummary:
    content: dict[str, object] = {
        "tagger": "rules",
        "vocabulary": "mine",
        "counts": Counts(1200, 1000, {"duplicate": 20, "no_mention": 100, "not_meant": 50, "not_utf8": 30}),
        "mentions": {"cat": 500, "dog": 1000, "kite": 500},
        "not_meant": {"bear": 40, "cat": 12},
        "missing": ["bear", "horse"],
        "unreadable": [],
    }
    return TagSummary(**{**content, **changes})  # type: ignore[arg-type]


def test_the_summary_goes_through_json_and_back() -> None:
    assert details.from_json(TagSummary, summary().to_json()) == summary()


def test_forged_numbers_of_a_report_are_written_again(tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    report = StageReport(str(tmp_path), "tagging")
    report.publish("hash", summary().to_json(), lambda page: Path(page).touch())
    assert report.is_current("hash", TagSummary)
    assert report.read(TagSummary) == summary()
    numbers = json.loads(Path(report.numbers).read_text())
    for name in numbers:
        for bad in (None, -1.5, "x", [3], {"a": "b"}):
            Path(report.numbers).write_text(json.dumps({**numbers, name: bad}))
            assert not report.is_current("hash", TagSummary) or (name, bad) in (("tagger", "x"), ("vocabulary", "x"))
    assert report.is_current("other", TagSummary) is False


def test_the_table() -> None:
    assert summary().to_table().splitlines() == [
        "tagged by rules, vocabulary mine",
        "",
        "       1,200 inputs read",
        "       1,000 sentences tagged",
        "         150 sentences without mentions (13.0 % of the usable ones)",
        "       2,000 mentions (2.00 per tagged sentence)",
        "          52 words of the vocabulary, not meant as things",
        "",
        "not used",
        "         100 no_mention: no word of the vocabulary",
        "          50 not_meant: words of the vocabulary, none of them meant as a thing",
        "          30 not_utf8: bytes that are not valid UTF-8 (bad)",
        "          20 duplicate: equal to an earlier one",
        "",
        "concepts: 3 of 5 found",
        "       1,000 dog  50.0 %",
        "         500 cat  25.0 %",
        "         500 kite 25.0 %",
    ]


def test_the_table_of_nothing() -> None:
    nothing = summary(counts=Counts(0, 0), mentions={}, not_meant={}, missing=["dog"])
    lines = nothing.to_table().splitlines()
    assert "           0 nothing" in lines
    assert lines[-1] == "concepts: 0 of 1 found"


def test_the_table_of_many_concepts_ends_with_the_rest() -> None:
    many = {f"concept {number:03d}": 1000 - number for number in range(50)}
    lines = summary(mentions=many).to_table().splitlines()
    assert lines[-2].split()[:3] == ["971", "concept", "029"]
    assert lines[-1] == f"{sum(1000 - number for number in range(30, 50)):>12,} of 20 more"


def test_the_table_names_some_files_that_cannot_be_read() -> None:
    table = summary(unreadable=[f"{number}.gz" for number in range(7)]).to_table()
    assert "not readable: 4.gz" in table
    assert "5.gz" not in table
    assert "… and 2 more" in table


SENTENCES = [f"a dog and {word} on day {number}" for number in range(15) for word in ("a cat", "cat food", "two dogs")]


def tagged(text: str) -> Tagged:
    """Both dogs, and the cat, which is not meant where there is food."""
    meant = [Mention(found, found + 3, "dog", "dog", "dog") for found in _places(text, "dog")]
    cats = [Mention(found, found + 3, "cat", "cat", "cat") for found in _places(text, "cat")]
    return Tagged(tuple(meant), tuple(cats)) if "food" in text else Tagged((*meant, *cats), ())


def _places(text: str, word: str) -> list[int]:
    return [place for place in range(len(text)) if text.startswith(word, place)]


def test_examples_are_the_same_whatever_the_order_and_the_units() -> None:
    entries = [(f"id-{number}", text) for number, text in enumerate(SENTENCES)]
    whole = Examples()
    for key, text in entries:
        whole.add(key, text, tagged(text))
    assert {name: len(held) for name, held in whole.meant.items()} == {"dog": 6, "cat": 6}
    assert {name: len(held) for name, held in whole.not_meant.items()} == {"cat": 3}
    chance = random.Random(0)
    for size in (1, 4, 50):
        chance.shuffle(entries)
        merged = Examples()
        for first in range(0, len(entries), size):
            unit = Examples()
            for key, text in entries[first : first + size]:
                unit.add(key, text, tagged(text))
            merged.merge(unit)
        assert merged == whole


def test_a_sentence_is_one_example_of_a_concept() -> None:
    examples = Examples()
    examples.add("id", "a dog and a dog", tagged("a dog and a dog"))
    assert [entry[1:] for entry in examples.meant["dog"]] == [("a dog and a dog", 2, 5)]


@pytest.mark.parametrize("before", [0, 1, 159, 160, 161, 500])
@pytest.mark.parametrize("after", [0, 160, 161, 500])
def test_of_a_long_sentence_what_stands_around_the_word_is_shown(before: int, after: int) -> None:
    text = "é" * before + "dog" + "ß" * after
    examples = Examples()
    examples.add("id", text, tagged(text))
    [[_, shown, start, end]] = examples.meant["dog"]
    assert shown[start:end] == "dog"
    assert shown.startswith("…") == (before > tagging.CONTEXT)
    assert shown.endswith("…") == (after > tagging.CONTEXT)
    assert len(shown) <= 2 * tagging.CONTEXT + 5
    assert shown.strip("…") in text


HOSTILE = 'a dog & </script><b>"cat\'s"</b> {{ 1 }} 🐕 שלום \u202e'


@pytest.fixture
def page(tmp_path: Path) -> Path:
    examples = Examples()
    examples.add("id-0", HOSTILE, Tagged((mention(HOSTILE, "dog"), mention(HOSTILE, "cat")), ()))
    examples.add("id-1", "a bear market", Tagged((), (mention("a bear market", "bear"),)))
    examples.add("id-2", "cat food, dog", Tagged((mention("cat food, dog", "dog"),), (mention("cat food", "cat"),)))
    path = tmp_path / "report.html"
    write_tag_page(str(path), summary(unreadable=["<i>.gz"], missing=["<u>horse</u>"]), examples)
    return path


def test_the_page_is_well_formed_and_loads_nothing(page: Path) -> None:
    read = read_page(page)
    assert read.loads() == []
    assert "http://" not in page.read_text()
    assert "https://" not in page.read_text()
    assert not read.all("b")
    assert not read.all("i")
    assert not read.all("u")


def test_the_page_shows_every_concept_with_its_words_marked(page: Path) -> None:
    read = read_page(page)
    concepts = [row for row in read.all("section") if "data-words" in row.attributes]
    # By frequency, then by name; those that never were meant come last.
    assert [row.attributes["data-words"] for row in concepts] == ["dog", "cat", "kite", "bear"]
    assert [row.text for row in read.all("count")] == ["1,000", "500", "500", "0"]
    assert "12 not meant" in concepts[1].text
    marks = [(*mark.classes, mark.text) for mark in read.all("mark", inside="concept")]
    assert marks == [
        ("mention", "dog"), ("mention", "dog"), ("mention", "cat"), ("lookalike", "cat"), ("lookalike", "bear")
    ]  # fmt: skip
    shown = {paragraph.text for paragraph in read.all("sentence")}
    assert shown == {HOSTILE, "a bear market", "cat food, dog"}


def test_the_page_tells_what_was_not_used(page: Path) -> None:
    text = " ".join(section.text for section in read_page(page).all("not-used"))
    for words in ("bytes that are not valid UTF-8", "equal to an earlier one", "30", "<i>.gz"):
        assert words in text


def test_the_page_of_nothing(tmp_path: Path) -> None:
    nothing = summary(counts=Counts(0, 0), mentions={}, not_meant={}, missing=["dog"])
    write_tag_page(str(tmp_path / "page.html"), nothing, Examples())
    read = read_page(tmp_path / "page.html")
    assert not read.all("not-used")
    assert not [row for row in read.all("section") if "data-words" in row.attributes]


def test_the_same_page_twice(page: Path, tmp_path: Path) -> None:
    before = page.read_bytes()
    examples = Examples()
    examples.add("id-2", "cat food, dog", Tagged((mention("cat food, dog", "dog"),), (mention("cat food", "cat"),)))
    examples.add("id-1", "a bear market", Tagged((), (mention("a bear market", "bear"),)))
    examples.add("id-0", HOSTILE, Tagged((mention(HOSTILE, "dog"), mention(HOSTILE, "cat")), ()))
    write_tag_page(str(page), summary(unreadable=["<i>.gz"], missing=["<u>horse</u>"]), examples)
    assert page.read_bytes() == before
