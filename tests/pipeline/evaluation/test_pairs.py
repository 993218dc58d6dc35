"""Lists of images and captions, in the layouts that people have."""

import gzip
import json
import os
from dataclasses import replace

import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.evaluation.foils import read_foils
from vlmixer.pipeline.evaluation.pairs import ListCounts, read_pairs


@pytest.fixture
def photos(tmp_path):
    """Two photos in images/."""
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / "images" / name).write_bytes(name.encode())
    return tmp_path


def write(folder, name, content):
    text = content if isinstance(content, str) else "".join(f"{json.dumps(line)}\n" for line in content)
    (folder / name).write_text(text)
    return str(folder / name)


def short(pairs, folder):
    return {os.path.relpath(path, folder): captions for path, captions in pairs.captions.items()}


def test_one_line_per_caption_and_several_spellings_of_a_path_are_one_image(photos):
    os.symlink("images/a.jpg", photos / "linked.jpg")
    lines = [{"image": "images/a.jpg", "caption": "one"}, {"image": "images/b.jpg", "captions": "two"},
             {"image": "./a.jpg", "caption": ["three"]}, {"image": "images/../images/a.jpg", "captions": ["four"]},
             {"image": "linked.jpg", "caption": "five"}, {"image": str(photos / "images/a.jpg"), "caption": "six"},
             {"image": "images/b.jpg", "caption": "seven"}]  # fmt: skip
    pairs = read_pairs(write(photos, "list.jsonl", lines))
    assert short(pairs, photos) == {
        "images/a.jpg": ["one", "three", "four", "five", "six"],
        "images/b.jpg": ["two", "seven"],
    }
    assert pairs.counts == ListCounts(records=7, images=2, captions=7, respelled=4)
    assert "4 records name an image by another path" in pairs.counts.describe()


def test_blank_captions_and_images_without_captions_are_counted(photos):
    lines = [{"image": "a.jpg", "captions": ["one", "", " \u00a0", "two"]}, {"image": "b.jpg", "captions": []}]
    pairs = read_pairs(write(photos, "list.jsonl", lines))
    assert short(pairs, photos) == {"images/a.jpg": ["one", "two"], "images/b.jpg": []}
    assert pairs.counts == ListCounts(records=2, images=2, captions=2, without_captions=1, blank_captions=2)
    assert pairs.counts.describe() == (
        "2 records, 2 images, 2 captions; 1 images without a caption, which stay in the gallery; "
        "2 blank captions left out"
    )


def test_a_json_list_a_single_line_and_lines_with_any_separator_inside(photos):
    entries = [{"image": "a.jpg", "caption": ["one", "two"]}, {"image": "b.jpg", "caption": "thr\u2028ee"}]
    expected = {"images/a.jpg": ["one", "two"], "images/b.jpg": ["thr\u2028ee"]}
    for name, content in {
        "list.json": json.dumps(entries, indent=1),
        "lines.json": "".join(f"{json.dumps(entry, ensure_ascii=False)}\n" for entry in entries),
        "bom.jsonl": "\ufeff" + "\n".join(json.dumps(entry) for entry in entries),
    }.items():
        assert short(read_pairs(write(photos, name, content)), photos) == expected, name
    (photos / "list.json.gz").write_bytes(gzip.compress(json.dumps(entries).encode()))
    assert short(read_pairs(str(photos / "list.json.gz")), photos) == expected
    single = read_pairs(write(photos, "single.json", json.dumps(entries[0])))
    assert short(single, photos) == {"images/a.jpg": ["one", "two"]}


def coco(photos):
    return {
        "info": {"year": 2014},
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 7, "id": 1, "caption": "one"},
            {"image_id": 7, "id": 2, "caption": " "},
            {"image_id": 7, "id": 3, "caption": "two\n"},
            {"image_id": 8, "id": 4, "caption": "of nothing"},
        ],
    }


def test_coco_captions(photos):
    pairs = read_pairs(write(photos, "captions_val2014.json", json.dumps(coco(photos))))
    assert short(pairs, photos) == {"images/a.jpg": ["one", "two\n"], "images/b.jpg": []}
    counts = ListCounts(records=2, images=2, captions=2, without_captions=1, blank_captions=1, unknown=1)
    assert pairs.counts == counts
    content = coco(photos)
    content["annotations"][2] = {"image_id": 7, "id": 3, "bbox": [0, 0, 1, 1]}
    with pytest.raises(CallError, match=r"annotations\[2\]: no caption. Give COCO's captions_"):
        read_pairs(write(photos, "instances_val2014.json", json.dumps(content)))


def test_karpathys_file_and_its_splits(photos):
    (photos / "val2014").mkdir()
    (photos / "val2014" / "c.jpg").write_bytes(b"c")
    images = [
        {"filepath": "val2014", "filename": "c.jpg", "split": "test", "sentences": [{"raw": "one"}, {"raw": "two"}]},
        {"filename": "a.jpg", "split": "test", "sentences": [{"raw": "three", "tokens": ["three"]}]},
        {"filepath": "val2014", "filename": "b.jpg", "split": "restval", "sentences": [{"raw": "four"}]},
    ]
    path = write(photos, "dataset_coco.json", json.dumps({"images": images, "dataset": "coco"}))
    pairs = read_pairs(path)
    assert short(pairs, photos) == {"val2014/c.jpg": ["one", "two"], "images/a.jpg": ["three"]}
    assert pairs.counts == ListCounts(records=3, images=2, captions=3, other_splits=1, split="test")
    # The folder of the list may hold the photos without the folders that the file names.
    assert short(read_pairs(path, split="restval"), photos) == {"images/b.jpg": ["four"]}
    assert list(read_pairs(path, folder="/photos").captions) == ["/photos/val2014/c.jpg", "/photos/a.jpg"]
    with pytest.raises(CallError, match=r"no record of the split 'val'. Splits in it: restval \(1\), test \(2\)"):
        read_pairs(path, split="val")


def test_lines_with_splits_are_all_read_unless_one_is_named(photos):
    lines = [{"image": "a.jpg", "caption": "one", "split": "val"}, {"image": "b.jpg", "caption": "two"}]
    path = write(photos, "list.jsonl", lines)
    assert read_pairs(path).counts.images == 2
    assert read_pairs(path, split="val").counts == replace(ListCounts(1, 1, 1), records=2, other_splits=1, split="val")


@pytest.mark.parametrize(
    ("name", "content"),
    [("results_20130124.token", "a.jpg#0\tone\na.jpg#1\ttwo, or more\n\nb.jpg#0\tthree\r\n"),
     ("captions.txt", 'image,caption\na.jpg,one\n \n\na.jpg,"two, or more"\nb.jpg,three\n'),
     ("results.csv", "image_name| comment_number| comment\na.jpg| 0| one\na.jpg| 1| two, or more\nb.jpg| 0| three\n"),
     ("flickr.csv", '\ufeffraw,sentids,split,filename\n"[""one"", ""two, or more""]","[0, 1]",test,a.jpg\n'
                    '"[""three""]",[2],test,b.jpg\n')],
)  # fmt: skip
def test_tables(photos, name, content):
    assert short(read_pairs(write(photos, name, content)), photos) == {
        "images/a.jpg": ["one", "two, or more"],
        "images/b.jpg": ["three"],
    }


def test_a_split_of_a_table(photos):
    path = write(photos, "flickr.csv", "image,caption,split\na.jpg,one,train\nb.jpg,two,test\n")
    pairs = read_pairs(path, split="test")
    assert short(pairs, photos) == {"images/b.jpg": ["two"]}
    assert pairs.counts.other_splits == 1


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("list.token", "a.jpg#0\tone\nb.jpg two", "list.token, line 2: expected NAME#NUMBER"),
     ("list.csv", "image,caption\na.jpg,one\nb.jpg", "list.csv, row 2: 1 cells, expected the name of an image and"),
     ("list.csv", "image,caption\n,one", "list.csv, row 1: 2 cells"),
     ("list.jsonl", '{"image": "a.jpg", "captions": [7]}', r"list.jsonl, line 1: expected \{\"image\": name"),
     ("list.jsonl", "\n[1]", "line 2: expected .*, found list"),
     ("list.jsonl", " \n" * 9999 + "[1]", "line 10000: expected .*, found list"),
     ("list.jsonl", "\n" + "x" * 2_000_000, "line 2: expected .*, found more than 1,048,576 bytes"),
     ("list.token", "a.jpg#0\tone\n" + "b" * 2_000_000, "line 2: not a row of a table: a line of more than 1,048"),
     ("list.csv", "image,caption\na.jpg," + "b" * 2_000_000, "line 2: not a row of a table: a line of more than 1,048"),
     ("list.txt", "a.jpg\ta dog", "list.txt, line 1: expected"),
     ("list.json", '[{"image": "a.jpg", "caption": "one"}, {"image": "b.jpg"}]', "item 1: expected"),
     ("list.json", '["a.jpg"]', "item 0: expected"),
     ("list.json", '{"images": [{"id": 1, "file_name": "a.jpg"}]', "not valid JSON, or no list: the file breaks off"),
     ("list.json", '{"images": [{"sentences": []}]}', r"images\[0\]: expected filename, split"),
     ("list.json", '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": []}', "no image with captions"),
     ("list.jsonl", '{"image": "a.jpg", "captions": [" "]}', "no image with captions. Expected lines of"),
     ("list.jsonl", "", "no image with captions")],
)  # fmt: skip
def test_lists_that_cannot_be_read(photos, name, content, said):
    with pytest.raises(CallError, match=said):
        read_pairs(write(photos, name, content))


def test_foils_without_text_are_counted_out(photos):
    lines = [{"image": "a.jpg", "caption": "one", "foils": ["two", " "]},
             {"image": "./a.jpg", "caption": "", "foils": ["x"]},
             {"image": "b.jpg", "caption": "three", "foils": [""]}]  # fmt: skip
    listed = read_foils(write(photos, "foils.jsonl", lines))
    assert [(case.caption, case.foils) for case in listed.cases] == [("one", ("two",))]
    assert listed.blank == 4
    assert listed.describe() == "1 captions with foils, 1 images; 4 blank captions or foils left out"
