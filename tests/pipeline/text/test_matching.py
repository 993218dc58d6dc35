import pytest

from bank.concepts import load_vocabulary, make_vocabulary
from pipeline.text.matching import Match, Matcher


@pytest.fixture(scope="module")
def coco():
    return Matcher(load_vocabulary("coco"))


def found(matcher, text):
    return [(text[match.start : match.end], match.concept, match.lemma) for match in matcher.find(text)]


def test_where_what_and_which_word():
    matcher = Matcher(make_vocabulary("v", [["dog", "puppy"]]))
    assert matcher.find("Two puppies.") == [Match(4, 11, "dog", "puppy")]
    assert matcher.find("") == []
    assert matcher.find("!?") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hot dog", [("hot dog", "hot dog")]),
        ("a hot day, a dog", [("dog", "dog")]),
        ("the teddy bear", [("teddy bear", "teddy bear")]),
        ("a bear", [("bear", "bear")]),
        ("a fire hydrant by a fire truck", [("fire hydrant", "fire hydrant"), ("fire truck", "truck")]),
        ("traffic light signal", [("traffic light", "traffic light")]),
        ("teddy bear bear", [("teddy bear", "teddy bear"), ("bear", "bear")]),
    ],
)
def test_the_longest_match_wins(coco, text, expected):
    assert [(surface, concept) for surface, concept, _ in found(coco, text)] == expected


@pytest.mark.parametrize(
    ("plural", "concept"),
    [
        ("people", "person"), ("men", "person"), ("women", "person"), ("children", "person"), ("mice", "mouse"),
        ("knives", "knife"), ("buses", "bus"), ("sheep", "sheep"), ("geese", "bird"), ("oxen", "cow"),
        ("puppies", "dog"), ("benches", "bench"), ("couches", "couch"), ("TVs", "tv"), ("scissors", "scissors"),
        ("skis", "skis"), ("hot dogs", "hot dog"), ("teddy bears", "teddy bear"), ("wine glasses", "wine glass"),
    ],
)  # fmt: skip
def test_plurals_also_irregular_ones(coco, plural, concept):
    assert [entry[:2] for entry in found(coco, f"some {plural} there")] == [(plural, concept)]


@pytest.mark.parametrize("text", ["hot-dog", "HOT DOG", "Hot  Dog", "hot\u2010dogs", "hot\tdog", "hot - dog"])
def test_case_and_what_joins_the_parts_do_not_matter(coco, text):
    assert [entry[:2] for entry in found(coco, f"a {text}!")] == [(text, "hot dog")]


def test_an_apostrophe_may_be_either_kind(coco):
    for text in ("catcher's mitt", "catcher’s mitt"):
        assert found(coco, f"a {text}") == [(text, "baseball glove", "catcher's mitt")]
    assert [surface for surface, *_ in found(coco, "the dog's bowl")] == ["dog", "bowl"]


@pytest.mark.parametrize("text", ["it was hot. Dogs ran", "hot, dog", "hot; dog", "hot (dog)", "hot 🌭 dog"])
def test_no_phrase_goes_across_punctuation(coco, text):
    assert [concept for _, concept, _ in found(coco, text)] == ["dog"]


@pytest.mark.parametrize("text", ["dogma", "bulldogs2", "hotdogger", "a_dog", "carpet scar", "dog5"])
def test_parts_of_words_do_not_match(coco, text):
    assert found(coco, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "🐕🐕 a dog 🐈 and\u200d a cat",
        "שני dog כלבים cat",
        "e\u0301 dog ﷺ cat",
        "İİ dog ß CAT",
        "\ud7ff dog \U0001f468\u200d\U0001f469\u200d\U0001f467 cats",
    ],
)
def test_offsets_count_characters_whatever_stands_around(coco, text):
    matches = coco.find(text)
    assert [text[match.start : match.end].lower().rstrip("s") for match in matches] == ["dog", "cat"]
    assert [match.concept for match in matches] == ["dog", "cat"]


def test_letters_of_other_widths_and_cases_match():
    matcher = Matcher(make_vocabulary("v", [["fire hydrant"], ["straße"], ["café"]]))
    text = "ﬁre hydrant, Ｆｉｒｅ hydrant, STRASSE, Café, STRAßE"
    assert [entry[:2] for entry in found(matcher, text)] == [
        ("ﬁre hydrant", "fire hydrant"), ("Ｆｉｒｅ hydrant", "fire hydrant"), ("STRASSE", "straße"), ("Café", "café"),
        ("STRAßE", "straße"),
    ]  # fmt: skip


def test_stop_words_are_not_matched():
    vocabulary = make_vocabulary("v", [["dog", "puppy"], ["hot dog"], ["top"]])
    matcher = Matcher(vocabulary, ["Dog", "top"])
    assert found(matcher, "a dog, dogs, a puppy, tops, hot dogs") == [
        ("puppy", "dog", "puppy"), ("hot dogs", "hot dog", "hot dog")
    ]  # fmt: skip


def test_a_word_of_two_concepts_belongs_to_the_one_that_it_names():
    matcher = Matcher(make_vocabulary("v", [["animal", "dog", "beast"], ["dog"], ["monster", "beast"]]))
    assert [entry[1] for entry in found(matcher, "dog dogs beast beasts")] == ["dog", "dog", "animal", "animal"]


def test_a_word_goes_before_a_plural_of_another():
    matcher = Matcher(make_vocabulary("v", [["ski"], ["skis"]]))
    assert [entry[1] for entry in found(matcher, "ski, skis")] == ["ski", "skis"]


def test_words_without_letters_match_nothing():
    assert Matcher(make_vocabulary("v", [["!!!"], ["dog"]])).find("!!! ...") == []
