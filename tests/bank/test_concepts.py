import json

import fsspec
import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.bank import concepts
from vlmixer.bank.concepts import (
    Concept,
    Vocabulary,
    load_vocabulary,
    make_vocabulary,
    parse_data,
    parse_text,
    unqualified,
)

COCO = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,"
    "potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")


@pytest.fixture(scope="module")
def coco():
    return load_vocabulary("coco")


def test_coco_has_its_eighty_categories_in_their_order(coco):
    assert coco.names == COCO
    assert [concept.id for concept in coco.concepts] == list(range(80))
    assert coco.ids["toothbrush"] == 79


def test_no_word_of_coco_belongs_to_two_concepts(coco):
    words = [word for concept in coco.concepts for word in concept.words]
    assert len(set(words)) == len(words)
    assert all(word == word.lower().strip() for word in words)


@pytest.mark.parametrize(
    ("label", "concept"),
    [
        ("tvmonitor", "tv"), ("sofa", "couch"), ("pottedplant", "potted plant"), ("aeroplane", "airplane"),
        ("diningtable", "dining table"), ("motorbike", "motorcycle"), ("stop sign,stopsign", "stop sign"),
        ("Potted-Plant", "potted plant"), ("hot_dog", "hot dog"), ("no such,kite,dog", "kite"),
        ("__background__", None), ("N/A", None), ("", None), (",", None), ("street sign", None),
    ],
)  # fmt: skip
def test_labels_of_detectors_map_to_concepts(coco, label, concept):
    assert coco.map_labels([label]) == [None if concept is None else coco.ids[concept]]


def test_a_label_that_is_one_concepts_name_and_anothers_synonym_means_the_name():
    vocabulary = make_vocabulary("v", [["animal", "dog"], ["dog"]])
    assert vocabulary.map_labels(["dog", "animal"]) == [1, 0]


def test_darknets_labels_map_to_eighty_distinct_concepts(coco, shared_data):
    labels = (shared_data / "detectors" / "coco_classes.txt").read_text().splitlines()
    assert coco.map_labels(labels) == list(range(80))


def test_torchvisions_labels_map_to_eighty_distinct_concepts(coco):
    models = pytest.importorskip("torchvision.models.detection")
    labels = models.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.DEFAULT.meta["categories"]
    found = [number for number in coco.map_labels(labels) if number is not None]
    assert found == list(range(80))


def test_a_text_file_has_a_concept_a_line():
    vocabulary = parse_text("v", "# animals\n dog , Puppy ,,hound\n\nhot   dog\r\n")
    assert vocabulary.concepts == (Concept(0, "dog", ("puppy", "hound")), Concept(1, "hot dog"))
    assert vocabulary.concepts[0].words == ("dog", "puppy", "hound")


@pytest.mark.parametrize(
    "data",
    [
        [["dog", "puppy"], "cat"],
        [["Dog", "puppy", "dog", "puppy"], ["cat"]],
        {"dog": ["puppy"], "cat": None},
        {"dog": "puppy", "cat": []},
    ],
)
def test_lists_and_mappings(data):
    assert parse_data("v", data).concepts == (Concept(0, "dog", ("puppy",)), Concept(1, "cat"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("dog", "v: expected a list of concepts or a mapping"),
        (None, "v: expected a list of concepts or a mapping"),
        ([], "v: the vocabulary holds no concept"),
        ([[], ["", " "]], "v: the vocabulary holds no concept"),
        (["dog", "cat", "Dog "], "v: the concept 'dog' occurs twice. The first one is number 0"),
        ([{"name": "dog"}], r"v: concept 0 is \[\{'name': 'dog'\}\]; expected words"),
        (["dog", None], r"v: concept 1 is \[None\]; expected words"),
        ({"dog": 5}, r"v: concept 0 is \['dog', 5\]; expected words"),
        ({"dog": {"a": 1}}, "v: concept 0 is .*; expected words"),
        ([["dog", ["puppy", "pup"]]], r"v: concept 0 is \['dog', \['puppy', 'pup'\]\]; expected words"),
        ([["dog", *range(9999)]], r"v: concept 0 is \['dog', 0, 1, 2, 3, 4, ...\]; expected words"),
        (["cat", ["", "dog"]], "v: the concept of dog has no name: its first word is empty"),
        ({"": "dog"}, "v: the concept of dog has no name"),
        (["bow (weapon", "dog"], r"v: 'bow \(weapon' has an unbalanced parenthesis"),
        (["dog, puppy (a, b), pup)"], r"v: 'pup\)' has an unbalanced parenthesis"),
        (["bow weapon)"], r"v: 'bow weapon\)' has an unbalanced parenthesis"),
        ({False: ["x"]}, r"v: concept 0 is \[False, 'x'\]; expected words"),
    ],
)
def test_data_that_is_no_vocabulary(data, message):
    with pytest.raises(CallError, match=message):
        parse_data("v", data)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.txt", "dog, puppy\nhot dog\n"),
        ("v.TXT", "\ufeffdog, puppy\nhot dog"),
        ("v.yaml", "- [dog, puppy]\n- hot dog\n"),
        ("v.yml", "dog: [puppy]\nhot dog:\n"),
        ("v.json", json.dumps({"dog": ["puppy"], "hot dog": []})),
        ("v.json", "\ufeff" + json.dumps([["dog", "puppy"], "hot dog"])),
        ("v.json", json.dumps(["dog,puppy", "hot_dog"])),
        ("v.txt", "\ufeff# animals\r\n\r\nDog, puppy, PUPPY, dog\r\nhot   dog,\r\n"),
        ("v.yaml", "dog: puppy, puppy\r\n'hot dog': []\r\n"),
    ],
)
def test_files(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8")
    found = load_vocabulary(str(tmp_path / name))
    assert found.concepts == (Concept(0, "dog", ("puppy",)), Concept(1, "hot dog"))
    assert found.name == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("v.json", b"{", r"v\.json: not readable as json"),
        ("v.yaml", b"a: [", r"v\.yaml: not readable as yaml"),
        ("v.yaml", b"- dog\n- no\n", r"v\.yaml: concept 1 is \[False\]; expected words, quoted where YAML would read"),
        ("v.yaml", b"on: [switch]\n", r"v\.yaml: concept 0 is \[True, 'switch'\]; expected words, quoted"),
        ("v.yaml", b"dog: [101]\n", r"v\.yaml: concept 0 is \['dog', 101\]; expected words, quoted"),
        ("v.yaml", b"- {dog: puppy}\n", r"v\.yaml: concept 0 is \[\{'dog': 'puppy'\}\]; expected words"),
        ("v.yaml", b"dog: [puppy]\ncat:\ndog: [hound]\n", r"v\.yaml: not readable as yaml: the key 'dog' occurs twice"),
        ("v.yaml", b"!!python/object/apply:os.getcwd []\n", r"v\.yaml: not readable as yaml"),
        ("v.yaml", b"", r"v\.yaml: expected a list of concepts or a mapping"),
        ("v.yaml", b"[]", r"v\.yaml: the vocabulary holds no concept"),
        ("v.json", b"[" * 100_000, r"v\.json: not readable as json"),
        ("v.json", b'{"dog": [], "dog": ["hound"]}', r"v\.json: not readable as json: the key 'dog' occurs twice"),
        ("v.json", b'"dog"', r"v\.json: expected a list of concepts or a mapping"),
        ("v.json", b"", r"v\.json: not readable as json"),
        ("v.txt", "dog\ncat\n".encode("utf-16"), r"v\.txt: expected UTF-8 text"),
        ("v.txt", b"# nothing\n\n , \n", r"v\.txt: the vocabulary holds no concept"),
        ("v.txt", b"dog\ncat\nDOG\n", r"v\.txt: the concept 'dog' occurs twice. The first one is number 0"),
        ("v.txt", b"caf\xe9", r"v\.txt: expected UTF-8 text"),
        ("v.txt", b"", r"v\.txt: the vocabulary holds no concept"),
        ("v.txt", None, r"vocabulary: no such file: .*v\.txt"),
        ("v.csv", b"dog", "is neither built in .coco, lvis, vg1600, openimages. nor a .txt, .yaml or .json file"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CallError, match=message):
        load_vocabulary(str(tmp_path / name))


def test_a_folder_is_no_vocabulary(tmp_path):
    (tmp_path / "v.txt").mkdir()
    with pytest.raises(CallError, match=r"vocabulary: cannot read .*v\.txt: Is a directory"):
        load_vocabulary(str(tmp_path / "v.txt"))


def test_a_vocabulary_may_be_a_url():
    with fsspec.open("memory://words/v.txt", "wb") as file:
        file.write(b"dog, puppy\n")
    assert load_vocabulary("memory://words/v.txt").concepts == (Concept(0, "dog", ("puppy",)),)
    with pytest.raises(CallError, match=r"vocabulary: no such file: memory://words/other\.txt"):
        load_vocabulary("memory://words/other.txt")


def test_an_unknown_name_names_the_built_in_ones():
    with pytest.raises(CallError, match=r"vocabulary: 'cocoa' is neither built in \(coco, lvis, vg1600, openimages\)"):
        load_vocabulary("cocoa")


def test_the_hash_tells_words_and_their_order_apart_and_nothing_else():
    one = make_vocabulary("one", [["dog", "puppy"], ["cat"]])
    assert one.hash == make_vocabulary("two", [["Dog", "puppy"], ["cat "]]).hash
    others = [[["cat"], ["dog", "puppy"]], [["dog"], ["puppy", "cat"]], [["dog", "puppy"]], [["dog", "cat"], ["puppy"]]]
    assert len({make_vocabulary("v", entries).hash for entries in others} | {one.hash}) == 5


BOWS = [
    ["Bow_(weapon)"],
    ["bow (decorative, ribbons)", "bow", "knot"],
    ["cap (headwear)"],
    ["lid", "cap (of a bottle)"],
]


def test_a_qualifier_belongs_to_the_name_and_is_no_word():
    vocabulary = make_vocabulary("v", BOWS)
    assert vocabulary.names == ["bow (weapon)", "bow (decorative, ribbons)", "cap (headwear)", "lid"]
    assert [concept.words for concept in vocabulary.concepts] == [("bow",), ("bow", "knot"), ("cap",), ("lid", "cap")]
    assert unqualified("bow (a) and arrow (b)") == "bow and arrow"
    assert unqualified("(weapon)") == "(weapon)"


def test_a_comma_in_parentheses_parts_nothing():
    assert parse_text("v", "bow (decorative, ribbons), knot, tie (a, b)").concepts == (
        Concept(0, "bow (decorative, ribbons)", ("knot", "tie (a, b)")),
    )


def test_a_shared_word_goes_to_its_name_then_to_a_synonym_then_to_a_qualified_one_then_by_number():
    vocabulary = make_vocabulary(
        "v", [["x (1)", "b (1)"], ["x (2)", "c"], ["m", "a", "x"], ["a"], ["n", "b", "c"], ["y (1)"], ["y (2)"]]
    )
    assert {word: [concept.name for concept in claims] for word, claims in vocabulary.claims.items()} == {
        "x": ["m", "x (1)", "x (2)"], "b": ["n", "x (1)"], "c": ["x (2)", "n"], "m": ["m"], "a": ["a", "m"], "n": ["n"],
        "y": ["y (1)", "y (2)"],
    }  # fmt: skip
    assert vocabulary.shared_words == {
        "x": ["m", "x (1)", "x (2)"], "b": ["n", "x (1)"], "c": ["x (2)", "n"], "a": ["a", "m"], "y": ["y (1)", "y (2)"]
    }  # fmt: skip
    assert vocabulary.unreachable == ["x (1)", "y (2)"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("bow_(weapon)", "bow (weapon)"), ("Bow (Decorative, Ribbons)", "bow (decorative, ribbons)"),
        ("bow", "bow (decorative, ribbons)"), ("cap", "cap (headwear)"), ("cap_(headwear)", "cap (headwear)"),
        ("lid_(of_a_pot)", "lid"), ("cap_(of_a_bottle)", "lid"),
        ("bow_(of_a_ship)", None), ("cap_(mushroom)", None), ("(weapon)", None),
    ],
)  # fmt: skip
def test_labels_with_qualifiers(label, name):
    vocabulary = make_vocabulary("v", BOWS)
    assert vocabulary.map_labels([label]) == [None if name is None else vocabulary.ids[name]]


def test_a_synonym_with_a_qualifier_is_for_text_and_not_for_plain_labels():
    vocabulary = make_vocabulary("v", [["person", "pitcher (baseball)"]])
    assert vocabulary.map_labels(["pitcher", "pitcher_(vessel)", "pitcher (baseball)"]) == [None, None, 0]
    assert vocabulary.claims["pitcher"][0].name == "person"


def test_words_without_letters_match_no_label():
    vocabulary = make_vocabulary("v", [["!!!", "???"], ["dog"]])
    assert vocabulary.map_labels(["...", "!!!", "", " , ", "(x)", "dogs"]) == [None, 0, None, None, None, 1]


def test_names_that_differ_in_spacing_alone_keep_their_labels():
    vocabulary = make_vocabulary("v", [["head band"], ["headband"], ["Head-Board"]])
    assert vocabulary.map_labels(["headband", "head_band", "HeadBand", "Head Band", "headboard"]) == [1, 0, 1, 0, 2]


def test_a_vocabulary_of_too_many_words_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concepts, "MAX_ALL_WORDS", 5)
    assert len(make_vocabulary("v", [["dog", "puppy"], ["cat", "kitten"], ["bird"]]).concepts) == 3
    with pytest.raises(CallError, match=r"^v: the vocabulary has more than 5 words\. Leave out concepts\.$"):
        make_vocabulary("v", [["dog", "puppy"], ["cat", "kitten"], ["bird", "crow"]])


def test_a_concept_of_very_many_words_takes_no_longer_for_each() -> None:
    words = tuple(f"word {number}" for number in range(100_000))
    claims = Vocabulary("v", (Concept(0, "dog", words), Concept(1, "cat", ("word 3",)))).claims
    assert [concept.name for concept in claims["word 3"]] == ["dog", "cat"]
    assert len(claims) == 100_002
