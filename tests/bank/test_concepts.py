import json

import pytest

from artifacts.errors import CallError
from bank.concepts import Concept, load_vocabulary, make_vocabulary, parse_data, parse_text

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
        (["dog", "cat", "Dog "], "v: the concept 'dog' stands twice, as number 0 and again"),
        ([{"name": "dog"}], r"v: concept 0 is \[\{'name': 'dog'\}\]; expected words"),
        (["dog", None], r"v: concept 1 is \[None\]; expected words"),
        ({"dog": 5}, r"v: concept 0 is \['dog', 5\]; expected words"),
        ({"dog": {"a": 1}}, "v: concept 0 is .*; expected words"),
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
        ("v.txt", b"caf\xe9", r"v\.txt: expected UTF-8 text"),
        ("v.txt", b"", r"v\.txt: the vocabulary holds no concept"),
        ("v.txt", None, r"vocabulary: no such file: .*v\.txt"),
        ("v.csv", b"dog", "is neither built in .coco. nor a .txt, .yaml or .json file"),
    ],
)
def test_files_that_are_no_vocabulary(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CallError, match=message):
        load_vocabulary(str(tmp_path / name))


def test_an_unknown_name_names_the_built_in_ones():
    with pytest.raises(CallError, match=r"vocabulary: 'cocoa' is neither built in \(coco\)"):
        load_vocabulary("cocoa")


def test_the_hash_tells_words_and_their_order_apart_and_nothing_else():
    one = make_vocabulary("one", [["dog", "puppy"], ["cat"]])
    assert one.hash == make_vocabulary("two", [["Dog", "puppy"], ["cat "]]).hash
    others = [[["cat"], ["dog", "puppy"]], [["dog"], ["puppy", "cat"]], [["dog", "puppy"]], [["dog", "cat"], ["puppy"]]]
    assert len({make_vocabulary("v", entries).hash for entries in others} | {one.hash}) == 5
