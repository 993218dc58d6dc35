import logging

import pytest

from artifacts.errors import CallError
from artifacts.samples import Mention
from bank.concepts import load_vocabulary, make_vocabulary
from pipeline.text import tagger as tagging
from pipeline.text.tagger import Tagger, describe_model, load_spacy

VOCABULARY = make_vocabulary("v", [["dog", "puppy"], ["bear"], ["train"], ["park"], ["bed"], ["person", "man"]])


@pytest.fixture(scope="module")
def rules():
    return Tagger(VOCABULARY, "rules")


def surfaces(tagger, *texts):
    return [[mention.surface for mention in mentions] for mentions in tagger.tag_texts(list(texts))]


def test_a_mention_tells_where_what_and_which_word(rules):
    assert rules.tag_texts(["Two puppies 🐕 and a dog"]) == [
        (Mention(4, 11, "dog", "puppies", "puppy"), Mention(20, 23, "dog", "dog", "dog"))
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a man and a dog in a park", ["man", "dog", "park"]),
        ("they train hard", []),
        ("They TRAIN hard", []),
        ("we park near the park", ["park"]),
        ("he can park", []),
        ("they don't train", []),
        ("they won’t train", []),
        ("she'll train the dog", ["dog"]),
        ("to train a dog", ["dog"]),
        ("a dog bed", ["bed"]),
        ("a dog, bed", ["dog", "bed"]),
        ("a bear of a problem", []),
        ("a bear of the woods", ["bear"]),
        ("train", ["train"]),
        ("nothing here", []),
    ],
)
def test_rules(rules, text, expected):
    assert surfaces(rules, text) == [expected]


def test_items_come_back_with_their_mentions_in_order(rules, monkeypatch):
    monkeypatch.setattr(tagging, "CHUNK", 2)
    items = [(number, text) for number, text in enumerate(["a dog", "", "a bear", "no", "a train"])]
    found = list(rules.tag(iter(items), lambda item: item[1]))
    assert [item for item, _ in found] == items
    assert [[mention.concept for mention in mentions] for _, mentions in found] == [
        ["dog"],
        [],
        ["bear"],
        [],
        ["train"],
    ]


def test_no_more_than_a_chunk_is_read_ahead(rules, monkeypatch):
    monkeypatch.setattr(tagging, "CHUNK", 3)
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield "a dog"

    next(rules.tag(endless(), str))
    assert len(taken) == 3


def test_stop_words_are_passed_on():
    assert surfaces(Tagger(VOCABULARY, "rules", ["dog"]), "a dog, a puppy") == [["puppy"]]


def test_auto_without_the_usual_pipeline_says_that_rules_decide(monkeypatch, caplog):
    monkeypatch.setattr(tagging, "DEFAULT_MODEL", "no_such_pipeline")
    with caplog.at_level(logging.WARNING):
        assert load_spacy("auto") is None
    assert "built-in rules decide" in caplog.text
    assert "python -m spacy download no_such_pipeline" in caplog.text


def test_rules_describe_themselves(rules):
    assert rules.description == describe_model(None) == "rules"


def test_a_pipeline_that_is_not_there(tmp_path):
    pytest.importorskip("spacy")
    for name in ("no_such_pipeline", str(tmp_path), str(tmp_path / "absent")):
        with pytest.raises(CallError, match=r"text\.spacy_model: cannot load .*Expected the name of an installed"):
            load_spacy(name)


def test_a_pipeline_without_parts_of_speech(tmp_path):
    spacy = pytest.importorskip("spacy")
    blank = spacy.blank("en")
    blank.to_disk(tmp_path / "blank")
    blank.add_pipe("sentencizer")
    blank.to_disk(tmp_path / "sentencizer")
    with pytest.raises(CallError, match=r"blank' has no part-of-speech component \(found: none\)"):
        load_spacy(str(tmp_path / "blank"))
    with pytest.raises(CallError, match=r"\(found: sentencizer\)\. Use a pipeline with a tagger or morphologizer"):
        load_spacy(str(tmp_path / "sentencizer"))


@pytest.fixture(scope="module")
def statistical(shared_data):
    pytest.importorskip("spacy")
    return Tagger(load_vocabulary("coco"), str(shared_data / "spacy" / "en_ewt_sm"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("they park the car", ["car"]),
        ("a bear market", []),
        ("a bus stop", []),
        ("an orange shirt", []),
        ("they train dogs", ["dogs"]),
        ("people book a train", ["people", "train"]),
        ("a stop sign", ["stop sign"]),
        ("a dog's bowl", ["dog", "bowl"]),
        ("a man holding two kites", ["man", "kites"]),
        ("nothing of the kind", []),
    ],
)
def test_part_of_speech_decides(statistical, text, expected):
    assert surfaces(statistical, text) == [expected]


def test_sentences_without_candidates_never_reach_the_pipeline(statistical, monkeypatch):
    seen = []
    pipe = statistical._nlp.pipe
    monkeypatch.setattr(
        type(statistical._nlp), "pipe", lambda self, texts, **options: pipe([seen.append(t) or t for t in texts])
    )
    assert surfaces(statistical, "nothing here", "a dog", "", "a cat") == [[], ["dog"], [], ["cat"]]
    assert seen == ["a dog", "a cat"]


def test_awkward_text_keeps_its_offsets(statistical):
    texts = ["🐕\u200d🦺 the dog\u00a0ran", "a\0dog", "the cat...dog", "שלום the dog", "dog " * 300, "  a   dog  "]
    for text, mentions in zip(texts, statistical.tag_texts(texts), strict=True):
        assert all(text[mention.start : mention.end] == mention.surface for mention in mentions)


def test_a_sentence_alone_is_tagged_as_in_a_batch(statistical):
    texts = ["they park the car", "a man rides a horse", "an orange on the table", "they surf on a board"] * 40
    together = statistical.tag_texts(texts)
    assert together[:4] == [statistical.tag_texts([text])[0] for text in texts[:4]]


def test_the_pipeline_describes_itself(statistical):
    assert statistical.description.startswith("en_")
