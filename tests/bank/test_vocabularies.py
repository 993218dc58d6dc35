"""The built-in vocabularies: what is in them, who gets a word, and how the labels of common detectors map."""

import pytest

from vlmixer.bank.concepts import BUILT_IN, HARDLY_VISUAL, load_vocabulary

# Ids are on disk in people's banks: a vocabulary that has been released changes only under another name.
PINNED = [
    ("coco", 80, "person", "toothbrush", "97de7bbbbf04f53090ebd1a5921312baaeaedd78f0bf672455772a5e505f701d"),
    ("lvis", 1203, "aerosol can", "zucchini", "95e864e552d60173a07dcea62c01d46b9a0a0b2419509cda911047cb77c411c3"),
    ("vg1600", 1600, "yolk", "buoy", "3f2f8aad8b99b7a5776855dc1c7e5a20ca43c6e4e3a6cfc2e109f4a4a4c94eac"),
    ("openimages", 601, "tortoise", "helmet", "18d08f65c4fdde6c06489c97808c6b589a37a9901facc33c9b40c360f1579c7c"),
]

DARKNET = (
    "person,bicycle,car,motorbike,aeroplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,"
    "bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,"
    "skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,"
    "cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,sofa,"
    "pottedplant,bed,diningtable,toilet,tvmonitor,laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,"
    "refrigerator,book,clock,vase,scissors,teddy bear,hair drier,toothbrush"
).split(",")
VOC = (
    "aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,diningtable,dog,horse,motorbike,person,pottedplant,sheep,"
    "sofa,train,tvmonitor"
).split(",")
# Concepts of COCO that have another name elsewhere.
RENAMED = {
    "coco": {},
    "lvis": {
        "car": "car (automobile)", "bus": "bus (vehicle)", "train": "train (railroad vehicle)",
        "fire hydrant": "fireplug", "tie": "necktie", "skis": "ski", "sports ball": "ball", "wine glass": "wineglass",
        "orange": "orange (fruit)", "hot dog": "sausage", "donut": "doughnut", "couch": "sofa",
        "potted plant": "flowerpot", "tv": "television set", "laptop": "laptop computer",
        "mouse": "mouse (computer equipment)", "remote": "remote control", "keyboard": "computer keyboard",
        "cell phone": "cellular telephone", "microwave": "microwave oven", "hair drier": "hair dryer",
    },
    "vg1600": {"sports ball": "ball", "potted plant": "plant", "dining table": "table", "tv": "television"},
    "openimages": {
        "cow": "cattle", "frisbee": "flying disc", "skis": "ski", "sports ball": "ball", "cup": "coffee cup",
        "donut": "doughnut", "potted plant": "houseplant", "dining table": "kitchen & dining room table",
        "tv": "television", "remote": "remote control", "keyboard": "computer keyboard", "cell phone": "mobile phone",
        "microwave": "microwave oven", "hair drier": "hair dryer",
    },
}  # fmt: skip
NOT_THERE = {"coco": [], "lvis": [], "vg1600": ["hair drier"], "openimages": []}


@pytest.fixture(scope="module", params=BUILT_IN)
def vocabulary(request):
    return load_vocabulary(request.param)


def names(vocabulary, labels):
    return [None if number is None else vocabulary.names[number] for number in vocabulary.map_labels(labels)]


@pytest.mark.parametrize(("name", "count", "first", "last", "digest"), PINNED)
def test_nobody_changes_a_vocabulary_by_accident(name, count, first, last, digest):
    vocabulary = load_vocabulary(name)
    assert (len(vocabulary.concepts), vocabulary.names[0], vocabulary.names[-1]) == (count, first, last)
    assert [concept.id for concept in vocabulary.concepts] == list(range(count))
    assert vocabulary.hash == digest


def test_all_built_in_ones_are_pinned():
    assert [name for name, *_ in PINNED] == list(BUILT_IN)


@pytest.mark.parametrize(
    ("name", "number", "concept"),
    [
        ("lvis", 2, "airplane"), ("lvis", 206, "car (automobile)"), ("lvis", 792, "person"), ("lvis", 1201, "zebra"),
        ("vg1600", 14, "toilet"), ("vg1600", 16, "stop sign"), ("openimages", 68, "person"),
        ("openimages", 5, "ambulance"), ("openimages", 543, "kitchen & dining room table"),
    ],
)  # fmt: skip
def test_concepts_have_the_ids_of_their_source_less_one(name, number, concept):
    assert load_vocabulary(name).names[number] == concept


def test_bottom_up_attentions_own_list_is_the_vocabulary(shared_data):
    lines = (shared_data / "vocab" / "vg1600_objects_vocab.txt").read_text().splitlines()
    vocabulary = load_vocabulary("vg1600")
    assert vocabulary.map_labels(lines) == list(range(1600))
    for line, concept in zip(lines, vocabulary.concepts, strict=True):
        assert (concept.name, *concept.synonyms)[: line.count(",") + 1] == tuple(line.split(","))


def test_every_file_says_where_it_is_from_and_under_which_licence(vocabulary):
    from importlib import resources

    text = resources.files("vlmixer.bank").joinpath("vocabularies", f"{vocabulary.name}.txt").read_text()
    header = " ".join(line for line in text.splitlines() if line.startswith("#"))
    assert "CC BY 4.0" in header


def test_words_are_tidy(vocabulary):
    for concept in vocabulary.concepts:
        for word in (concept.name, *concept.synonyms):
            assert word == " ".join(word.lower().replace("_", " ").split())
            assert not word.startswith("(")


def test_own_names_are_own_labels(vocabulary):
    numbers = list(range(len(vocabulary.concepts)))
    assert vocabulary.map_labels(vocabulary.names) == numbers
    assert vocabulary.map_labels([name.replace(" ", "_").title() for name in vocabulary.names]) == numbers


def test_text_can_mention_every_concept(vocabulary):
    assert vocabulary.unreachable == []


def test_the_words_that_concepts_share_and_who_gets_them():
    assert load_vocabulary("coco").shared_words == load_vocabulary("vg1600").shared_words == {}
    assert load_vocabulary("openimages").shared_words == {
        "pitcher": ["pitcher", "person"], "mouse": ["mouse", "computer mouse"],
    }  # fmt: skip
    assert load_vocabulary("lvis").shared_words == {
        "bat": ["baseball bat", "bat (animal)"],
        "batter": ["person", "batter (food)"],
        "bow": ["bow (decorative ribbons)", "bow (weapon)"],
        "cap": ["cap (headwear)", "bottle cap"],
        "tap": ["faucet", "water faucet"],
        "fish": ["fish", "fish (food)"],
        "mailbox": ["mailbox (at home)", "postbox (public)"],
        "octopus": ["octopus (animal)", "octopus (food)"],
        "pan": ["pan (for cooking)", "pan (metal container)"],
        "coach": ["person", "passenger car (part of a train)"],
        "pitcher": ["person", "pitcher (vessel for liquid)"],
        "runner": ["person", "runner (carpet)"],
        "salmon": ["salmon (fish)", "salmon (food)"],
    }


@pytest.mark.parametrize(
    ("word", "lvis", "vg1600", "openimages"),
    [
        ("bat", "baseball bat", "bat", "bat"), ("mouse", "mouse (computer equipment)", "mouse", "mouse"),
        ("crane", None, "crane", None), ("mast", "mast", "mast", None), ("seal", None, None, "harbor seal"),
        ("monitor", "monitor (computer equipment)", "monitor", "computer monitor"),
        ("glass", "glass (drink container)", "glass", None), ("glasses", "spectacles", "glasses", "glasses"),
        ("orange", "orange (fruit)", "orange", "orange"), ("ring", "ring", "ring", None),
        ("duck", "duck", "duck", "duck"), ("chicken", "chicken (animal)", "chicken", "chicken"),
        ("turkey", "turkey (food)", None, "turkey"), ("fan", "fan", "fan", "mechanical fan"),
        ("tie", "necktie", "tie", "tie"), ("keyboard", "computer keyboard", "keyboard", "computer keyboard"),
        ("pitcher", "person", "pitcher", "pitcher"), ("glove", "glove", "glove", "glove"),
        ("face", None, "face", "human face"), ("trees", None, "trees", None), ("people", None, "people", "person"),
    ],
)  # fmt: skip
def test_everyday_words(word, lvis, vg1600, openimages):
    for name, concept in (("lvis", lvis), ("vg1600", vg1600), ("openimages", openimages)):
        claims = load_vocabulary(name).claims.get(word)
        assert (claims and claims[0].name) == concept, name


def test_cocos_labels_map_to_all_vocabularies(vocabulary):
    labels = load_vocabulary("coco").names
    found = dict(zip(labels, names(vocabulary, labels), strict=True))
    expected = {label: RENAMED[vocabulary.name].get(label, label) for label in labels}
    assert found == expected | dict.fromkeys(NOT_THERE[vocabulary.name])


def test_torchvisions_labels_map_and_placeholders_do_not(vocabulary):
    models = pytest.importorskip("torchvision.models.detection")
    labels = models.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1.meta["categories"]
    unmapped = [label for label, name in zip(labels, names(vocabulary, labels), strict=True) if name is None]
    assert sorted(set(unmapped)) == sorted({"N/A", "__background__", *NOT_THERE[vocabulary.name]})


def test_darknets_and_vocs_labels_map_like_cocos(vocabulary):
    found = names(vocabulary, DARKNET)
    coco = names(vocabulary, load_vocabulary("coco").names)
    for label, here, there in zip(DARKNET, found, coco, strict=True):
        # Visual Genome has sofas and motorbikes as classes of their own.
        assert here == (label if vocabulary.name == "vg1600" and label in ("sofa", "motorbike") else there), label
    assert None not in names(vocabulary, VOC)


@pytest.mark.parametrize(
    ("label", "coco", "lvis", "vg1600", "openimages"),
    [
        ("bow_(weapon)", None, "bow (weapon)", None, None),
        ("bat_(animal)", None, "bat (animal)", None, "bat"),
        ("car_(automobile)", "car", "car (automobile)", "car", "car"),
        ("pitcher_(vessel_for_liquid)", None, "pitcher (vessel for liquid)", None, "pitcher"),
        ("batter_(food)", None, "batter (food)", None, None),
        ("runner_(carpet)", None, "runner (carpet)", None, None),
        ("mouse_(computer_equipment)", "mouse", "mouse (computer equipment)", "mouse", "computer mouse"),
        ("monitor_(computer_equipment) computer_monitor", None, "monitor (computer equipment)", None, None),
        ("wineglass", "wine glass", "wineglass", "wine glass", "wine glass"),
        ("fireplug", "fire hydrant", "fireplug", None, "fire hydrant"),
        ("stop sign,stopsign", "stop sign", "stop sign", "stop sign", "stop sign"),
        ("refrigerator,fridge", "refrigerator", "refrigerator", "refrigerator", "refrigerator"),
        ("tshirt,t-shirt,t shirt", None, "jersey", "tshirt", None),
        ("hot dogs,hotdogs", "hot dog", "sausage", "hot dogs", "hot dog"),
        ("skies", None, None, "skies", None),
        ("panes", None, None, "panes", None),
        ("dishes", None, "dish", "dishes", None),
        ("berries", None, None, "berries", None),
        ("people", "person", "person", "people", "person"),
        ("glasses", None, "spectacles", "glasses", "glasses"),
        ("knives", "knife", "knife", "knives", "knife"),
        ("Human face", None, None, None, "human face"),
        ("Light bulb", None, "lightbulb", None, "light bulb"),
        ("Kitchen & dining room table", None, "dining table", "table", "kitchen & dining room table"),
        ("Mobile phone", "cell phone", "cellular telephone", "cell phone", "mobile phone"),
        ("Organ (Musical Instrument)", None, "harmonium", None, "organ"),
        ("Drill (Tool)", None, "drill", None, "drill"),
        ("Flying disc", "frisbee", "frisbee", "frisbee", "flying disc"),
    ],
)  # fmt: skip
def test_labels_of_other_vocabularies(label, coco, lvis, vg1600, openimages):
    for name, concept in (("coco", coco), ("lvis", lvis), ("vg1600", vg1600), ("openimages", openimages)):
        assert names(load_vocabulary(name), [label]) == [concept], name


def test_homonyms_that_labels_cannot_tell_apart():
    """A plain label has no sense; where a vocabulary has the word for another thing, it means that."""
    assert names(load_vocabulary("openimages"), ["mouse"]) == ["mouse"]  # the animal, though COCO's is a computer's
    assert names(load_vocabulary("lvis"), ["bat"]) == ["bat (animal)"]  # though Visual Genome's is for baseball


def test_the_stop_list_is_in_order_and_stops_no_concept_of_coco_and_openimages():
    assert list(HARDLY_VISUAL) == sorted(set(HARDLY_VISUAL))
    assert set(HARDLY_VISUAL).isdisjoint(load_vocabulary("coco").claims)
    assert set(HARDLY_VISUAL).isdisjoint(load_vocabulary("openimages").claims)
    for word in ("top", "front", "group", "image", "number", "back", "area", "day", "line", "picture", "end", "bottom"):
        assert word in HARDLY_VISUAL
        assert word in load_vocabulary("vg1600").claims
