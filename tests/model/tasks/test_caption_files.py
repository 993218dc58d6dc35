"""Photos and captions from the files that captioning and retrieval are distributed in."""

import gzip
import json

import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.tasks.caption_files import TRAINING_SPLITS, read_captions

COCO = {
    "info": {"year": 2014},
    "images": [
        {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "width": 640},
        {"id": 25, "file_name": "COCO_val2014_000000000025.jpg"},
    ],
    "licenses": [{"id": 1, "name": "Attribution"}],
    "annotations": [
        {"image_id": 9, "id": 661, "caption": "A dog.\n"},
        {"image_id": 25, "id": 17, "caption": "A giraffe  eats"},
        {"image_id": 9, "id": 662, "caption": "The dog runs"},
    ],
}


def karpathy(split, number, sentences=("A cat",), **more):
    return {
        "filepath": "val2014",
        "filename": f"COCO_val2014_{number:012d}.jpg",
        "cocoid": number,
        "imgid": 0,
        "split": split,
        "sentids": [],
        "sentences": [
            {"raw": raw, "tokens": [], "imgid": 0, "sentid": 10 * number + n} for n, raw in enumerate(sentences)
        ],
        **more,
    }


@pytest.fixture
def read(tmp_path):
    def read(content, name="captions.json", splits=("test",), single=False):
        path = tmp_path / name
        if isinstance(content, list) and name.endswith("l"):
            path.write_text("".join(json.dumps(row) + "\n" for row in content))
        elif name.endswith(".gz"):
            path.write_bytes(gzip.compress(json.dumps(content).encode()))
        else:
            path.write_text(json.dumps(content))
        log = RejectLog("finetune")
        examples, count = read_captions([str(path)], splits, log, single)
        assert count == len(examples) + log.total
        return examples, log

    return read


def keys(examples):
    return [(example.key, example.images, example.text, example.answers) for example in examples]


@pytest.mark.parametrize("name", ["captions_val2014.json", "captions_val2014.json.gz"])
@pytest.mark.parametrize("turned", [False, True])
def test_coco(read, name, turned):
    """Also with the photos after the captions."""
    examples, log = read(dict(reversed(COCO.items())) if turned else COCO, name)
    assert keys(examples) == [
        ("9", ("COCO_val2014_000000000009.jpg",), "", ("A dog.", "The dog runs")),
        ("25", ("COCO_val2014_000000000025.jpg",), "", ("A giraffe eats",)),
    ]
    assert log.counts() == {}


def test_each_caption_is_an_example_in_training(read):
    examples, _ = read(COCO, single=True)
    dog = ("A dog.", "The dog runs")
    assert keys(examples) == [
        ("661", ("COCO_val2014_000000000009.jpg",), "A dog.", dog),
        ("662", ("COCO_val2014_000000000009.jpg",), "The dog runs", dog),
        ("17", ("COCO_val2014_000000000025.jpg",), "A giraffe eats", ("A giraffe eats",)),
    ]


def test_karpathy_splits(read):
    content = {
        "images": [karpathy("train", 1), karpathy("restval", 2), karpathy("val", 3), karpathy("test", 4, ("A", "B"))],
        "dataset": "coco",
    }
    examples, _ = read(content)
    assert keys(examples) == [("4", ("COCO_val2014_000000000004.jpg",), "", ("A", "B"))]
    examples, _ = read(content, splits=TRAINING_SPLITS, single=True)
    assert [(example.key, example.text) for example in examples] == [("10", "A cat"), ("20", "A cat")]


def test_karpathy_without_coco_ids(read):
    row = karpathy("test", 7, filename="1007129816.jpg")
    del row["cocoid"]
    examples, _ = read({"images": [row], "dataset": "flickr30k"})
    assert keys(examples) == [("0", ("1007129816.jpg",), "", ("A cat",))]


def test_lines(read):
    rows = [{"image": "a/b.jpg", "captions": ["One", "Two"]}, {"image": "c.jpg", "caption": "Three"}]
    rows += [{"image": "c.jpg", "caption": "Four"}]
    examples, _ = read(rows, "captions.jsonl")
    assert keys(examples) == [
        ("a/b.jpg", ("a/b.jpg",), "", ("One", "Two")),
        ("c.jpg", ("c.jpg",), "", ("Three", "Four")),
    ]
    examples, _ = read(rows, "captions.jsonl", single=True)
    assert [example.key for example in examples] == ["a/b.jpg#0", "a/b.jpg#1", "c.jpg#0", "c.jpg#1"]


def test_bad_captions_are_counted(read):
    content = {
        "images": [],
        "annotations": [
            {"image_id": 9, "id": 1, "caption": "  "},
            {"image_id": 9, "id": 2, "caption": "A dog"},
            {"image_id": 9, "id": 2, "caption": "The same id"},
            {"image_id": 9, "id": 3, "caption": None},
            {"image_id": 10, "id": 4, "caption": ""},
        ],
    }
    examples, log = read(content)
    assert keys(examples) == [("9", ("9",), "", ("A dog",))]
    assert log.counts() == {"duplicate_id": 1, "empty_answer": 3, "no_answer": 1}


def test_photos_without_captions(tmp_path):
    """As of COCO's test server: they are captioned, not scored."""
    path = tmp_path / "image_info_test2014.json"
    path.write_text(json.dumps({"images": COCO["images"]}))
    examples, count = read_captions([str(path)], ("test",), RejectLog("eval"), single=False, uncaptioned=True)
    assert count == 2
    assert keys(examples)[0] == ("9", ("COCO_val2014_000000000009.jpg",), "", ())


def test_a_photo_that_occurs_twice(read):
    rows = [{"image": "a.jpg", "captions": ["One"]}, {"image": "a.jpg", "captions": ["Two"]}]
    examples, log = read(rows, "captions.jsonl")
    assert keys(examples) == [("a.jpg", ("a.jpg",), "", ("One",))]
    assert log.counts() == {"duplicate_id": 1}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"annotations": [{"image_id": 1, "id": 2, "bbox": [1, 2, 3, 4]}]}, "entry 1 of 'annotations': not a caption"),
        ({"annotations": [{"id": 2, "caption": "A dog"}]}, "not a caption"),
        ({"questions": [{"image_id": 1, "question": "Why?", "question_id": 2}]}, "not a caption"),
        ({"info": {}, "images": []}, "no captions in it"),
        ({"images": COCO["images"]}, "photos without captions. Name the file with the captions, too"),
        ({"images": [karpathy("val", 3)]}, "no photo is of the split test. Splits in it: val. Set task.split"),
        (
            {"images": [karpathy("a\nerror: b\x1b[2J", 3)]},
            r"Splits in it: a\\nerror: b\\x1b\[2J. Set task",
        ),
        ([1, 2], "no captions in it"),
    ],
)
def test_other_files(read, content, message):
    with pytest.raises(UserError, match=message):
        read(content)
