import pytest

from vlmixer.bank.concepts import BUILT_IN, load_vocabulary, make_vocabulary
from vlmixer.pipeline.text.english_words import OTHER_THINGS
from vlmixer.pipeline.text.matching import Match, Matcher, Words, one_word, split


@pytest.fixture(scope="module")
def coco():
    return Matcher(load_vocabulary("coco"))


def found(matcher, text):
    return [(text[match.start : match.end], match.concept, match.lemma) for match in matcher.find(text)]


def test_where_what_and_which_word():
    matcher = Matcher(make_vocabulary("v", [["dog", "puppy"]]))
    assert matcher.find("Two puppies.") == [Match(4, 11, "dog", "puppy", 1, 1)]
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


@pytest.mark.parametrize("text", ["hot-dog", "HOT DOG", "Hot  Dog", "hot\u2010dogs", "hot\tdog", "hot–dog"])
def test_case_and_what_joins_the_parts_do_not_matter(coco, text):
    assert [entry[:2] for entry in found(coco, f"a {text}!")] == [(text, "hot dog")]


def test_an_apostrophe_may_be_either_kind(coco):
    for text in ("catcher's mitt", "catcher’s mitt"):
        assert found(coco, f"a {text}") == [(text, "baseball glove", "catcher's mitt")]
    assert [surface for surface, *_ in found(coco, "the dog's bowl")] == ["dog", "bowl"]


@pytest.mark.parametrize(
    "text",
    [
        "it was hot. Dogs ran",
        "it was hot.Dogs ran",
        "hot - dogs",
        "hot--dogs",
        "hot – dog",
        "hot/dog",
        "hot, dog",
        "hot; dog",
        "hot (dog)",
        "hot 🌭 dog",
    ],
)
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


def test_phrases_go_across_folded_text():
    matcher = Matcher(
        make_vocabulary("v", [["crème brûlée"], ["hot dog"], ["t-shirt"], ["пожарный гидрант"], ["कुत्ता घर"]])
    )
    for text in (
        "cre\u0300me bru\u0302le\u0301e", "CRÈME-BRÛLÉE", "Ｈｏｔ　ｄｏｇ", "ho\u00adt\u00a0d\u2060og", "T\u2011Shirts",
        "t shirt", "Пожарный  гидрант", "कुत्ता घर",
    ):  # fmt: skip
        sentence = f"🐕\u200d🦺 e\u0301 {text}, ﬁ"
        [match] = matcher.find(sentence)
        assert sentence[match.start : match.end] == text
        assert match.last == match.first + 1


def test_first_and_last_are_words_of_the_sentence():
    words = Words("a Hot dog – and dogs")
    assert words.words == ["a", "hot", "dog", "and", "dogs"]
    matches = Matcher(make_vocabulary("v", [["hot dog"], ["dog"]])).find_in(words)
    assert [(match.first, match.last) for match in matches] == [(1, 2), (4, 4)]


def test_words_and_what_stands_between_them():
    words = Words("«The cat's bed», a ﬁsh!")
    assert words.words == ["the", "cat", "s", "bed", "a", "fish"]
    assert len(words) == 6
    assert [words.word(index) for index in (-1, 0, 5, 6)] == ["", "the", "fish", ""]
    assert [words.gap(index) for index in range(-1, 6)] == ["«", " ", "'", " ", "», ", " ", "!"]
    assert words.stored(3, 5) == (11, 22)
    assert (Words("").words, Words("").gap(-1)) == ([], "")


def test_words_that_a_tokenizer_found():
    text = "Ein T-Shirt , zwei Räder"
    tokens = [(0, 3, "ein"), (4, 11, "T-Shirt"), (12, 13, ","), (14, 18, "zwei"), (19, 24, "Rad")]
    words = Words.of_tokens(text, tokens)
    assert words.words == ["ein", "tshirt", "zwei", "rad"]
    assert words.gap(1) == " , "
    assert words.stored(3, 3) == (19, 24)


def test_tokens_without_blanks_between_them_make_phrases():
    text = "一辆自行车。"
    tokens = [(place, place + 1, letter) for place, letter in enumerate(text)]
    matcher = Matcher(make_vocabulary("v", [["自行车"], ["车"]]), derivations=[lambda word: (" ".join(word),)])
    [match] = matcher.find_in(Words.of_tokens(text, tokens))
    assert (match.start, match.end, match.concept) == (2, 5, "自行车")


def test_a_phrase_taken_apart_and_put_together():
    assert split("Crème-Brûlée's") == ("crème", "brûlée", "s")
    assert one_word("T-Shirt") == "tshirt"
    assert one_word("…") == ""


def test_phrases_that_mean_something_else_are_passed_over():
    matcher = Matcher(make_vocabulary("v", [["bear"], ["bed"], ["flower"]]), other_things=OTHER_THINGS)
    assert [surface for surface, *_ in found(matcher, "a bear market, bears, flower beds, a bed of flowers, beds")] == [
        "bears", "beds"
    ]  # fmt: skip


def test_but_not_those_that_the_vocabulary_has():
    matcher = Matcher(make_vocabulary("v", [["bear"], ["flower bed"]]), other_things=["bear market", "flower bed"])
    assert found(matcher, "bear markets by flower beds") == [("flower beds", "flower bed", "flower bed")]


def test_stop_words_are_not_matched():
    vocabulary = make_vocabulary("v", [["dog", "puppy"], ["hot dog"], ["top"]])
    matcher = Matcher(vocabulary, ["Dog", "top"])
    assert found(matcher, "a dog, dogs, a puppy, tops, hot dogs") == [
        ("puppy", "dog", "puppy"), ("hot dogs", "hot dog", "hot dog")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("coco", "two teddy bears, teddy-bears and a teddybear", ["teddy bear"] * 3),
        ("coco", "hotdogs, hot dogs, a doughnut and donuts", ["hot dog", "hot dog", "donut", "donut"]),
        ("coco", "geese, men, wolves, buses, mice, sheep and knives",
         ["bird", "person", "bus", "mouse", "sheep", "knife"]),
        ("lvis", "wolves, geese, men, buses, mice, sheep, knives",
         ["wolf", "goose", "person", "bus (vehicle)", "mouse (computer equipment)", "sheep", "knife"]),
        ("lvis", "loaves of bread, a bow, bows, glasses, a glass, eyeglasses",
         ["bread", "bow (decorative ribbons)", "bow (decorative ribbons)", "spectacles", "glass (drink container)",
          "spectacles"]),
        ("lvis", "a batter swings a bat at the pitcher", ["person", "baseball bat", "person"]),
        ("lvis", "a fruit bat eats cake batter from a water pitcher",
         ["bat (animal)", "batter (food)", "pitcher (vessel for liquid)"]),
        ("lvis", "octopi and grilled octopus", ["octopus (animal)", "octopus (food)"]),
        ("vg1600", "a tree, trees, a person, people, a man, men, a woman, women",
         ["tree", "trees", "person", "people", "man", "men", "woman", "women"]),
        ("vg1600", "geese, a goose, skis, a ski, glasses, a glass, scissors, head bands, headbands",
         ["geese", "goose", "skis", "ski", "glasses", "glass", "scissors", "head band", "headband"]),
        ("vg1600", "a stop sign, stopsigns, tee shirts, T-shirts, grey-haired leaves",
         ["stop sign", "stop sign", "tee shirt", "tshirt", "leaves"]),
        ("openimages", "a face, hands, light bulbs, earrings, an earring, french fries, a chopstick",
         ["human face", "human hand", "light bulb", "earrings", "earrings", "french fries", "chopsticks"]),
        ("openimages", "a glass, a short man, a pair of shorts, a bow and arrows", ["man", "shorts", "bow and arrow"]),
        ("openimages", "people, women, children, mice, potatoes, a computer mouse",
         ["person", "woman", "person", "mouse", "potato", "computer mouse"]),
    ],
)  # fmt: skip
def test_inflected_words_of_the_built_in_vocabularies(name, text, expected):
    assert [match.concept for match in Matcher(load_vocabulary(name)).find(text)] == expected


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_concept_is_found_by_one_of_its_words(name):
    vocabulary = load_vocabulary(name)
    matcher = Matcher(vocabulary)
    for concept in vocabulary.concepts:
        found = {match.concept for word in concept.words for match in matcher.find(f"the {word}.")}
        assert concept.name in found


def test_stop_words_are_stopped_in_all_forms_but_not_in_phrases():
    vocabulary = make_vocabulary("v", [["light"], ["lights"], ["traffic light"], ["knife"], ["hot dog"]])
    matcher = Matcher(vocabulary, ["Light", "knife", "hotdog", "not there", "  "])
    text = "a light, lights, traffic lights, a traffic-light, knives, hot dogs"
    assert [entry[1] for entry in found(matcher, text)] == ["traffic light", "traffic light"]


def test_a_phrase_may_be_a_stop_word():
    matcher = Matcher(make_vocabulary("v", [["dog"], ["hot dog"]]), ["Hot  Dog"])
    assert found(matcher, "hot dogs, hot-dog, a dog") == [("dog", "dog", "dog")]


def test_a_word_of_two_concepts_belongs_to_the_one_that_it_names():
    matcher = Matcher(make_vocabulary("v", [["animal", "dog", "beast"], ["dog"], ["monster", "beast"]]))
    assert [entry[1] for entry in found(matcher, "dog dogs beast beasts")] == ["dog", "dog", "animal", "animal"]


def test_a_word_goes_before_a_plural_of_another():
    matcher = Matcher(make_vocabulary("v", [["ski"], ["skis"]]))
    assert [entry[1] for entry in found(matcher, "ski, skis")] == ["ski", "skis"]


def test_words_without_letters_match_nothing():
    assert Matcher(make_vocabulary("v", [["!!!"], ["dog"]])).find("!!! ...") == []


@pytest.mark.parametrize(
    "text",
    [
        "see http://example.test/cat/dog-bed.html", "www.dog.test", "mail cat@dog.test now", "IMG_dog_001.jpg", "@dog",
        "cat.jpg", "dog.com/cat", "my_dog_photo", "https://x.test/?q=dog", '<doc id="1" title="Dog">',
        '<img src="x" alt="dog"/> 5 m',
    ],
)  # fmt: skip
def test_no_word_of_an_address_or_file_name_is_found(coco, text):
    assert found(coco, text) == []


@pytest.mark.parametrize(
    "text",
    [
        "a dog.",
        "a dog...a tree",
        "a dog/horse",
        "#dog",
        "see x.test: a dog",
        "<dog> barks",
        "2 < 3 = a dog > a cat",
        "it was a dog.Then",
    ],
)
def test_words_beside_punctuation_are(coco, text):
    assert "dog" in [entry[0] for entry in found(coco, text)]


def test_zero_width_spaces_separate_words_and_joiners_do_not(coco):
    text = "A cat\u200bsits on the\u200bcouch\ufeffdog, h\u200do\u2060rse"
    assert [entry[0] for entry in found(coco, text)] == ["cat", "couch", "dog", "h\u200do\u2060rse"]
