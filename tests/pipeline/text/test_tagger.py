"""The tagger: what it gives back, when it asks a pipeline, and pipelines of other kinds and languages."""

import copy
import logging
import random

import pytest
import spacy
from spacy.language import Language
from spacy.lookups import Lookups
from spacy.training import Example

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.samples import Mention
from vlmixer.bank.concepts import load_vocabulary, make_vocabulary
from vlmixer.pipeline.text import tagger as tagging
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES
from vlmixer.pipeline.text.tagger import (
    Tagged,
    Tagger,
    describe_model,
    language_of,
    load_spacy,
    make_matcher,
    resolve_model,
)

VOCABULARY = make_vocabulary("v", [["dog", "puppy"], ["bear"], ["train"], ["park"], ["bed"], ["person", "man"]])


@pytest.fixture(scope="module")
def rules():
    return Tagger(VOCABULARY, "rules")


def surfaces(tagger, *texts):
    return [[mention.surface for mention in found.mentions] for found in tagger.tag(list(texts))]


def test_a_mention_tells_where_what_and_which_word(rules):
    assert rules.tag(["Two puppies 🐕 and a dog"]) == [
        Tagged((Mention(4, 11, "dog", "puppies", "puppy"), Mention(20, 23, "dog", "dog", "dog")), ())
    ]
    assert rules.tag(["they train puppies"]) == [
        Tagged((Mention(11, 18, "dog", "puppies", "puppy"),), (Mention(5, 10, "train", "train", "train"),))
    ]


def test_every_text_gets_an_answer_in_order(rules):
    texts = ["a dog", "", "a bear", "no", "a train"]
    assert surfaces(rules, *texts) == [["dog"], [], ["bear"], [], ["train"]]
    assert rules.tag([]) == []


def test_stop_words_are_passed_on():
    tagger = Tagger(VOCABULARY, "rules", ["dog"])
    assert tagger.tag(["a dog, a puppy"]) == [Tagged((Mention(9, 14, "dog", "puppy", "puppy"),), ())]


def test_a_matcher_that_is_at_hand_is_used(rules):
    matcher = make_matcher(VOCABULARY, ["dog"], None)
    given = Tagger(VOCABULARY, "rules", matcher=copy.deepcopy(matcher))
    assert surfaces(given, "a dog, a puppy") == [["puppy"]]


def test_offsets_are_those_of_the_stored_text(rules):
    texts = ["🐕\u200d🦺 the dog\u00a0ran", "e\u0301 the ｄｏｇ", "שלום the d\u00adog", "ﬁ dog " * 50, "  a   dog  "]
    for text, [mention, *_] in zip(texts, (found.mentions for found in rules.tag(texts)), strict=True):
        assert text[mention.start : mention.end] == mention.surface
        assert mention.concept == "dog"


def test_auto_without_the_usual_pipeline_says_that_rules_decide(monkeypatch, caplog):
    monkeypatch.setattr(tagging, "DEFAULT_MODEL", "no_such_pipeline")
    with caplog.at_level(logging.WARNING):
        assert resolve_model("auto") == "rules"
        assert load_spacy("rules") is None
    assert "built-in rules decide" in caplog.text
    assert "python -m spacy download no_such_pipeline" in caplog.text


def test_rules_describe_themselves(rules):
    assert rules.description == describe_model(None) == "rules"
    assert language_of(None) == "en"


def test_a_pipeline_that_is_not_there(tmp_path):
    for name in ("no_such_pipeline", str(tmp_path), str(tmp_path / "absent")):
        with pytest.raises(CallError, match=r"text\.spacy_model: cannot load .*Expected the name of an installed"):
            load_spacy(name)


def test_a_pipeline_without_parts_of_speech(tmp_path):
    blank = spacy.blank("en")
    blank.to_disk(tmp_path / "blank")
    blank.add_pipe("attribute_ruler")
    blank.to_disk(tmp_path / "ruler")
    with pytest.raises(CallError, match=r"blank' has no part-of-speech component \(found: none\)"):
        load_spacy(str(tmp_path / "blank"))
    with pytest.raises(CallError, match=r"\(found: attribute_ruler\)\. Use a pipeline with a tagger or morphologizer"):
        load_spacy(str(tmp_path / "ruler"))


# A statistical pipeline for English


@pytest.fixture(scope="module")
def statistical(shared_data):
    return Tagger(load_vocabulary("coco"), str(shared_data / "spacy" / "en_ewt_sm"))


@pytest.fixture
def seen(statistical, monkeypatch):
    """The texts that reach the pipeline."""
    texts: list[str] = []
    pipe = statistical._nlp.pipe
    monkeypatch.setattr(
        statistical._nlp,
        "pipe",
        lambda given, **options: pipe([texts.append(text) or text for text in given], **options),
    )
    return texts


def test_only_sentences_with_a_word_left_open_reach_the_pipeline(statistical, seen):
    texts = ["nothing here", "a dog on a bench", "a cat bowl", "they park", "a statue of a man", "dogs playing", ""]
    assert surfaces(statistical, *texts)[1] == ["dog", "bench"]
    assert seen == ["a cat bowl", "dogs playing"]


def test_the_pipeline_never_overrules_the_neighbours(statistical, monkeypatch):
    monkeypatch.setattr(tagging, "meant", lambda *arguments: False)
    assert surfaces(statistical, "a dog on a bench by dogs playing") == [["dog", "bench"]]
    monkeypatch.setattr(tagging, "meant", lambda *arguments: True)
    assert surfaces(statistical, "they park dogs playing") == [["dogs"]]


def test_awkward_text_keeps_its_offsets(statistical):
    texts = [
        "🐕\u200d🦺 dogs\u00a0ran",
        "a\0dog",
        "the cat...dog",
        "שלום dogs",
        "dog " * 300,
        "  dogs   dog  ",
        "ﬁ dogs run",
    ]
    for text, found in zip(texts, statistical.tag(texts), strict=True):
        assert all(
            text[mention.start : mention.end] == mention.surface for mention in (*found.mentions, *found.not_meant)
        )
        assert found.mentions or found.not_meant


def test_a_sentence_alone_is_tagged_as_in_a_batch(statistical):
    texts = ["they park the car", "a man rides a horse", "an orange on the table", "they surf on a board", "dogs race"]
    together = statistical.tag(texts * 60)
    assert together == [statistical.tag([text])[0] for text in texts] * 60


def test_the_pipeline_describes_itself(statistical):
    assert statistical.description.startswith("en_")


WORDS = [
    "a", "the", "two", "of", "and", "in", "to", "her", "red", "orange", "statue", "sits", "stop", "bowl", "dog", "dogs",
    "man", "skis", "park", "train", "baby", "elephant", "hot dog", "teddy bear", "stop sign", "🐕\u200d🦺", "e\u0301",
    "ﬁ", "\u00ad", "'s", "n't", "-", ",", "…", "שלום", "\u200b", "İ", "ß",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["rules", "pipeline"])
def test_no_heap_of_words_breaks_it(kind, request):
    tagger = request.getfixturevalue("statistical") if kind == "pipeline" else Tagger(load_vocabulary("coco"), "rules")
    chance = random.Random(0)
    texts = [
        chance.choice([" ", " ", "", "-"]).join(chance.choice(WORDS) for _ in range(chance.randrange(14)))
        for _ in range(1500)
    ]
    for text, found in zip(texts, tagger.tag(texts), strict=True):
        at = 0
        for mention in sorted((*found.mentions, *found.not_meant), key=lambda mention: mention.start):
            assert at <= mention.start < mention.end <= len(text), text
            assert text[mention.start : mention.end] == mention.surface
            at = mention.end
        assert tagger.finds(text) == bool(found.mentions or found.not_meant), text
        assert tagger._matcher.may_find(text) or not tagger.finds(text), text


# Pipelines made here: what is kept of them, and other languages


def trained(nlp, sentences, tagged_by):
    """Teach the component the parts of speech of a few sentences."""
    spacy.util.fix_random_seed(0)
    examples = []
    for text, tags in sentences:
        doc = nlp.make_doc(text)
        names = {"morphologizer": {"pos": tags.split(), "morphs": [""] * len(doc)}}
        examples.append(Example.from_dict(doc, names.get(tagged_by, {"tags": tags.split()})))
    for name in nlp.pipe_names:
        if name in ("tok2vec", tagged_by):
            nlp.get_pipe(name).initialize(lambda: examples, nlp=nlp)
    optimizer = nlp.create_optimizer()
    for _ in range(30):
        nlp.update(examples, sgd=optimizer)


def add_lemmas(nlp, lemmas):
    tables = Lookups()
    tables.add_table("lemma_lookup", lemmas)
    nlp.add_pipe("lemmatizer", config={"mode": "lookup"}).initialize(lookups=tables)


GERMAN = [
    ("Zwei Hunde laufen", "NUM NOUN VERB"), ("Der Hund bellt", "DET NOUN VERB"), ("Die Katzen jagen", "DET NOUN VERB"),
    ("Wir fliegen weit", "PRON VERB ADV"), ("Die Fliegen summen", "DET NOUN VERB"),
    ("Ein rotes Fahrrad steht da", "DET ADJ NOUN VERB ADV"), ("Ein T-Shirt liegt da", "DET NOUN VERB ADV"),
    ("Am roten Kreuz warten wir", "ADP ADJ NOUN VERB PRON"), ("Er trägt zwei T-Shirts", "PRON VERB NUM NOUN"),
]  # fmt: skip


@pytest.fixture(scope="module")
def german(tmp_path_factory):
    """A German pipeline that has learnt a few sentences, as a folder."""
    nlp = spacy.blank("de")
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("morphologizer")
    add_lemmas(nlp, {"Hunde": "Hund", "Katzen": "Katze", "Fliegen": "Fliege", "roten": "rot", "rote": "rot",
                     "Räder": "Rad", "T-Shirts": "T-Shirt"})  # fmt: skip
    trained(nlp, GERMAN, "morphologizer")
    nlp.meta.update(name="tiny", version="1.2.3")
    folder = str(tmp_path_factory.mktemp("pipelines") / "german")
    nlp.to_disk(folder)
    return Tagger(
        make_vocabulary(
            "v", [["hund"], ["katze", "kater"], ["fliege"], ["fahrrad", "rad"], ["rotes kreuz"], ["t-shirt"]]
        ),
        folder,
    )


def german_folder(german):
    """Where its pipeline lies."""
    return str(german._nlp.path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zwei Hunde laufen", [("Hunde", "hund")]),
        ("Der HUND bellt", [("HUND", "hund")]),
        ("Die Katzen jagen", [("Katzen", "katze")]),
        ("Die Fliegen summen", [("Fliegen", "fliege")]),
        ("Wir fliegen weit", []),
        ("Ein rotes Fahrrad steht da", [("Fahrrad", "fahrrad")]),
        ("Am rotes Kreuz warten wir", [("rotes Kreuz", "rotes kreuz")]),
        ("Ein T-Shirt liegt da", [("T-Shirt", "t-shirt")]),
        ("Er trägt zwei T-Shirts", [("T-Shirts", "t-shirt")]),
        ("Nichts davon", []),
        ("", []),
    ],
)
def test_another_language_is_tagged_by_form_or_lemma_and_part_of_speech(german, text, expected):
    [found] = german.tag([text])
    assert [(mention.surface, mention.concept) for mention in found.mentions] == expected
    assert all(text[mention.start : mention.end] == mention.surface for mention in found.mentions)


def test_a_verb_of_another_language_only_looks_like_the_concept(german):
    assert german.tag(["Wir fliegen weit"])[0] == Tagged((), ())
    tagger = Tagger(make_vocabulary("v", [["fliegen"], ["hund"]]), german_folder(german))
    [found] = tagger.tag(["Wir fliegen weit"])
    assert found == Tagged((), (Mention(4, 11, "fliegen", "fliegen", "fliegen"),))


def test_another_language_knows_nothing_of_english(german):
    assert language_of(german._nlp) == "de"
    assert german.description == "de_tiny 1.2.3"
    assert surfaces(german, "Zwei hunds laufen") == [[]]


def test_stop_words_of_another_language_in_any_form(german):
    tagger = Tagger(make_vocabulary("v", [["hund"], ["katze"]]), german_folder(german), ["hund"])
    assert surfaces(tagger, "Zwei Hunde laufen", "Der Hund bellt", "Die Katzen jagen") == [[], [], ["Katzen"]]


def test_another_language_keeps_what_it_needs(german):
    assert german._nlp.pipe_names == ["morphologizer", "lemmatizer"]


CHINESE = [
    ("一只狗", "NUM NUM NOUN"), ("一辆自行车", "NUM NUM NOUN NOUN NOUN"), ("他自行去", "PRON ADV ADV VERB"),
    ("车来了", "NOUN VERB PART"), ("我狗去", "PRON NOUN VERB"),
]  # fmt: skip


def test_a_language_without_blanks(tmp_path):
    nlp = spacy.blank("zh")
    nlp.add_pipe("morphologizer")
    trained(nlp, CHINESE, "morphologizer")
    nlp.to_disk(tmp_path / "chinese")
    tagger = Tagger(make_vocabulary("v", [["狗"], ["自行车"], ["车"]]), str(tmp_path / "chinese"))
    for text, expected in (("一只狗", ["狗"]), ("一辆自行车", ["自行车"]), ("车来了", ["车"]), ("他自行去", [])):
        assert surfaces(tagger, text) == [expected]


ENGLISH = [
    ("two dogs run", "CD NNS VBP"), ("the dog runs", "DT NN VBZ"), ("we dog people", "PRP VBP NNS"),
    ("a park there", "DT NN RB"), ("dogs park cars", "NNS VBP NNS"),
]  # fmt: skip


@Language.component("passes_on")
def passes_on(doc):
    """Stands for a transformer."""
    return doc


@pytest.fixture(scope="module")
def english_pipeline():
    """With everything that larger pipelines have, the tagger listening to vectors that others share."""
    nlp = spacy.blank("en")
    nlp.add_pipe("tok2vec")
    listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "*"}
    nlp.add_pipe("tagger", config={"model": {"@architectures": "spacy.Tagger.v2", "tok2vec": listener}})
    trained(nlp, ENGLISH, "tagger")
    nlp.add_pipe("passes_on", name="transformer", first=True)
    nlp.add_pipe("sentencizer")
    nlp.add_pipe("attribute_ruler").add([[{"TAG": "NN"}]], {"POS": "NOUN"})
    add_lemmas(nlp, {"dogs": "dog"})
    return nlp


def test_an_english_pipeline_of_penn_tags_is_left_with_its_tagger_and_what_feeds_it(english_pipeline, tmp_path):
    english_pipeline.to_disk(tmp_path / "english")
    nlp = load_spacy(str(tmp_path / "english"))
    assert nlp
    assert nlp.pipe_names == ["transformer", "tok2vec", "tagger"]
    assert [token.tag_ for token in nlp("the dog runs")] == ["DT", "NN", "VBZ"]
    assert surfaces(Tagger(VOCABULARY, str(tmp_path / "english")), "two dogs run") == [["dogs"]]


def test_an_english_pipeline_of_other_tags_keeps_what_maps_them(tmp_path):
    nlp = spacy.blank("en")
    nlp.add_pipe("tagger")
    trained(nlp, [("two dogs run", "m n v"), ("the dog runs", "d n v"), ("dogs park cars", "n v n")], "tagger")
    nlp.add_pipe("attribute_ruler").add([[{"TAG": "n"}]], {"POS": "NOUN"})
    nlp.to_disk(tmp_path / "other")
    loaded = load_spacy(str(tmp_path / "other"))
    assert loaded
    assert loaded.pipe_names == ["tagger", "attribute_ruler"]
    assert surfaces(Tagger(VOCABULARY, str(tmp_path / "other")), "two dogs run", "dogs park cars") == [
        ["dogs"],
        ["dogs"],
    ]


def test_a_pipeline_takes_texts_as_long_as_any_that_is_read(german):
    assert german._nlp.max_length >= MAX_LINE_BYTES
