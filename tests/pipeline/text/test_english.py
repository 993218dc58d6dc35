"""Which matched words are meant as things: one table of sentences for the rules, and for a statistical pipeline."""

import pytest

from vlmixer.bank.concepts import load_vocabulary, make_vocabulary
from vlmixer.pipeline.text import english
from vlmixer.pipeline.text.english_words import OTHER_THINGS
from vlmixer.pipeline.text.matching import Matcher, Words
from vlmixer.pipeline.text.tagger import Tagger

VOCABULARY = make_vocabulary(
    "v", [*([concept.name, *concept.synonyms] for concept in load_vocabulary("coco").concepts), ["can"], ["park"]]
)

# (sentence, words that are meant, words that only look so) whatever decides.
SENTENCES = [
    # The issue's own.
    ("a bear market", [], []),
    ("they park the car", ["car"], ["park"]),
    ("an orange shirt", [], ["orange"]),
    ("cat food", [], ["cat"]),
    ("a bus stop", [], ["bus"]),
    ("the baseball player", ["player"], ["baseball"]),
    # Verbs.
    ("a bus stops at a bus stop", ["bus"], ["bus"]),
    ("they train dogs", ["dogs"], ["train"]),
    ("They TRAIN hard", [], ["TRAIN"]),
    ("she can train a dog", ["dog"], ["can", "train"]),
    ("we book a train", ["train"], ["book"]),
    ("they don't train", [], ["train"]),
    ("they won’t train", [], ["train"]),
    ("she'll train the dog", ["dog"], ["train"]),
    ("to train a dog", ["dog"], ["train"]),
    ("he can park", [], ["can", "park"]),
    ("we park near the park", ["park"], ["park"]),
    ("a lady skateboards", ["lady"], ["skateboards"]),
    ("a boy in red bowls a ball", ["boy", "ball"], ["bowls"]),
    ("a dog sleeps", ["dog"], []),
    ("two giraffes stand", ["giraffes"], []),
    ("a man sits on a bench", ["man", "bench"], []),
    ("a dog waits at the train station", ["dog"], []),
    # A can is a thing, to can is not.
    ("a can of soda", ["can"], []),
    ("cans on a shelf", ["cans"], []),
    ("she can see a dog", ["dog"], ["can"]),
    # Numbers.
    ("men", ["men"], []),
    ("the geese are swimming", ["geese"], []),
    ("two teddy bears", ["teddy bears"], []),
    ("wine glasses", ["wine glasses"], []),
    ("two pairs of skis", ["skis"], []),
    # Longest first.
    ("a teddy bear by a bear", ["teddy bear", "bear"], []),
    ("a stop sign", ["stop sign"], []),
    ("a traffic light and hot dogs", ["traffic light", "hot dogs"], []),
    # Likenesses.
    ("a statue of a man", [], ["man"]),
    ("statues of two elephants", [], ["elephants"]),
    ("a painting of an old man on a horse", ["horse"], ["man"]),
    ("a rubber duck", [], ["duck"]),
    ("a wooden elephant", [], ["elephant"]),
    ("a stuffed brown dog", [], ["dog"]),
    ("a cake shaped like a dog", ["cake", "dog"], []),
    # Animals' kin.
    ("an elephant and her baby", ["elephant"], ["baby"]),
    ("a mother giraffe with its baby", ["giraffe"], ["mother", "baby"]),
    ("a woman and her baby feed an elephant", ["woman", "baby", "elephant"], []),
    ("a baby with a teddy bear", ["baby", "teddy bear"], []),
    # Games and balls.
    ("boys playing football", ["boys"], ["football"]),
    ("a boy holding a football", ["boy", "football"], []),
    ("people watch a baseball game", ["people"], ["baseball"]),
    # The fruit and the colour.
    ("orange and white cat", ["cat"], ["orange"]),
    ("a white and orange cat", ["cat"], ["orange"]),
    ("a red, orange and yellow kite", ["kite"], ["orange"]),
    ("an orange and a banana", ["orange", "banana"], []),
    ("an apple and an orange", ["apple", "orange"], []),
    ("an orange on the table", ["orange", "table"], []),
    ("oranges", ["oranges"], []),
    ("orange kites", ["kites"], ["orange"]),
    # Possessives, hyphens, punctuation.
    ("a man's dog", ["man", "dog"], []),
    ("a dog's bowl", ["dog", "bowl"], []),
    ("dog-friendly", [], ["dog"]),
    ("a dog-like animal", [], ["dog"]),
    ("a dog, bed", ["dog", "bed"], []),
    ("a bear of the woods", ["bear"], []),
    # Compounds.
    ("a pizza oven", ["oven"], ["pizza"]),
    ("a bus driver waves", ["driver"], ["bus"]),
    ("dog food bowl", ["bowl"], ["dog"]),
    ("a dog bed", [], []),
    ("a car park", [], []),
    ("a clock tower", ["clock tower"], []),
    ("a glass table", ["table"], []),
    ("nothing of the kind", [], []),
    ("", [], []),
]  # fmt: skip

# Where only the modified noun makes the difference: what `tag_modifiers` adds.
MODIFIERS = [
    ("cat food", ["cat"]),
    ("a bus stop", ["bus"]),
    ("the baseball player", ["baseball", "player"]),
    ("a pizza oven", ["pizza", "oven"]),
    ("a bus driver waves", ["bus", "driver"]),
    ("a bus stops at a bus stop", ["bus", "bus"]),
    # Not what is no thing at all.
    ("an orange shirt", []),
    ("a bear market", []),
    ("they park the car", ["car"]),
    ("a statue of a man", []),
    # A hyphen may make one, too.
    ("dog-friendly", ["dog"]),
    ("a dog-like animal", []),
]


@pytest.fixture(scope="module", params=["rules", "pipeline"])
def model(request):
    if request.param == "rules":
        return "rules"
    return str(request.getfixturevalue("shared_data") / "spacy" / "en_ewt_sm")


@pytest.fixture(scope="module")
def tagger(model):
    return Tagger(VOCABULARY, model)


@pytest.fixture(scope="module")
def with_modifiers(model):
    return Tagger(VOCABULARY, model, (), tag_modifiers=True)


@pytest.mark.parametrize(("text", "meant", "not_meant"), SENTENCES)
def test_what_is_meant(tagger, text, meant, not_meant):
    [found] = tagger.tag([text])
    assert [mention.surface for mention in found.mentions] == meant
    assert [mention.surface for mention in found.not_meant] == not_meant


@pytest.mark.parametrize(("text", "meant"), MODIFIERS)
def test_what_only_modifies_is_tagged_if_that_is_asked_for(with_modifiers, text, meant):
    [found] = with_modifiers.tag([text])
    assert [mention.surface for mention in found.mentions] == meant


def test_modifiers_only_add(tagger, with_modifiers):
    for text, _, _ in SENTENCES:
        [without], [with_them] = tagger.tag([text]), with_modifiers.tag([text])
        assert set(without.mentions) <= set(with_them.mentions)
        assert {*without.mentions, *without.not_meant} == {*with_them.mentions, *with_them.not_meant}


def test_case_does_not_matter_to_the_rules():
    rules = Tagger(VOCABULARY, "rules")
    for text, meant, _ in SENTENCES:
        [found] = rules.tag([text.upper()])
        assert [mention.surface for mention in found.mentions] == [word.upper() for word in meant], text


# The functions by themselves

MATCHER = Matcher(VOCABULARY, (), OTHER_THINGS)


def judged(text):
    """What the neighbours tell about each match."""
    words = Words(text)
    return [(words.words[match.last], english.verdict(words, match)) for match in MATCHER.find_in(words)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog on a bench", [("dog", True), ("bench", True)]),
        ("the dog.", [("dog", True)]),
        ("the dog ball", [("dog", None), ("ball", None)]),
        ("they train", [("train", False)]),
        ("train tracks", []),
        ("a statue of a dog", [("dog", False)]),
        ("dogs playing", [("dogs", None)]),
        ("a dog playing with", [("dog", True)]),
        ("the dog and the cat", [("dog", True), ("cat", True)]),
        ("the dog and cat", [("dog", None), ("cat", None)]),
        ("a bear of a problem", [("bear", None)]),
        ("people", [("people", True)]),
    ],
)
def test_neighbours_settle_it_or_they_do_not(text, expected):
    assert judged(text) == expected


def guessed(text, tag_modifiers=False):
    words = Words(text)
    matches = MATCHER.find_in(words)
    following = [*matches[1:], None]
    return [
        (words.words[match.last], english.guess(words, match, after, tag_modifiers))
        for match, after in zip(matches, following, strict=True)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("to train", [("train", False)]),
        ("next to train", [("train", True)]),
        ("cats train", [("cats", True), ("train", False)]),
        ("a cat bowl", [("cat", False), ("bowl", True)]),
        ("cats bowl", [("cats", True), ("bowl", False)]),
        ("a cat, bowl", [("cat", True), ("bowl", True)]),
        ("a bear of a problem", [("bear", False)]),
        ("a bear of an afternoon", [("bear", False)]),
        ("the bear of a zoo", [("bear", True)]),
        ("a cat lover", [("cat", False)]),
    ],
)
def test_what_rules_guess_where_neighbours_do_not_settle_it(text, expected):
    assert guessed(text) == expected


def test_no_guess_about_modifiers_where_they_are_tagged():
    assert guessed("a cat bowl", tag_modifiers=True) == [("cat", True), ("bowl", True)]
    assert guessed("a cat lover", tag_modifiers=True) == [("cat", True)]


@pytest.mark.parametrize(
    ("text", "next_is_plural", "no_verb", "expected"),
    [
        ("a cat blanket", False, False, True),
        ("a cat blankets", True, False, False),  # an article of one thing: "blankets" is a verb
        ("the cat blankets", True, False, True),
        ("the cat slurps water", True, True, False),
        ("two cat blankets", True, True, True),
        ("cats race", False, False, False),
        ("a man blanket", False, False, False),
        ("a cat sits", True, False, False),
        ("two cats sit", False, False, False),
        ("the cat blanket the", False, False, False),
    ],
)
def test_what_modifies_the_noun_behind_it(text, next_is_plural, no_verb, expected):
    words = Words(text)
    match = MATCHER.find_in(words)[0]
    assert english.modifies(words, match, next_is_plural=next_is_plural, no_verb=no_verb) == expected


@pytest.mark.parametrize(
    ("text", "expected"), [("a dog", True), ("dogs", False), ("men", False), ("a bus", True), ("buses", False),
                           ("skis", True), ("scissors", True), ("wine glasses", False), ("a hot-dog", True)],
)  # fmt: skip
def test_number(text, expected):
    words = Words(text)
    assert english.is_singular(words, MATCHER.find_in(words)[0]) == expected
