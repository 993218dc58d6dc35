"""Photos by the names that annotation files give them; their tags; what is read of them."""

import gzip
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from tests.model.tasks.toy import DIM, write_json, write_regions

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.image_names import ImageName
from vlmixer.model.tasks.photos import RECORD, PhotoNames, Photos, UnknownPhoto, read_tags

IMAGES = [
    ImageName("a0", "train2014/COCO_train2014_000000000009.jpg"),
    ImageName("a1", "val/COCO_val2014_000000000010.jpg"),
    ImageName("a2", "images/2354786.jpg"),
    ImageName("a3", "flickr/3416050480.jpg"),
    ImageName("a4", "nlvr2/dev-850-0-img0.png"),
    ImageName("a5", "features.tsv", "131075"),
    ImageName("a6", "left/same.jpg"),
    ImageName("a7", "right/same.jpg"),
    ImageName("a8", "images/photo v1.5"),
    ImageName("a9", "shard.tar", "000001.jpg", "http://images.cocodataset.org/train2017/000000000777.jpg"),
]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("9", 0), ("COCO_train2014_000000000009.jpg", 0), ("coco/train2014/COCO_train2014_000000000009.jpg", 0),
        ("10", 1), ("000000000010", 1), ("2354786", 2), ("2354786.jpg", 2), ("3416050480.JPG", 3),
        ("dev-850-0-img0", 4), ("131075", 5), ("COCO_train2014_000000131075.jpg", 5), ("left/same.jpg", 6),
        ("photo v1.5", 8), ("000000000777.jpg", 9), ("777", 9),
    ],
)  # fmt: skip
def test_a_photo_is_found_by_each_name_that_annotations_give_it(name, number):
    assert PhotoNames(IMAGES).find(name) == number


@pytest.mark.parametrize(
    ("name", "reason"),
    [("same.jpg", "ambiguous_photo"), ("same", "ambiguous_photo"), ("11", "missing_photo"), ("99.jpg", "missing_photo"),
     ("", "missing_photo"), ("850", "missing_photo")],
)  # fmt: skip
def test_no_photo_is_guessed(name, reason):
    with pytest.raises(UnknownPhoto) as refused:
        PhotoNames(IMAGES).find(name)
    assert refused.value.reason == reason


def test_regions_are_read_as_they_were_written(tmp_path):
    photos = Photos(write_regions(tmp_path / "regions", photos=7), "detector")
    numbers = [photos.number(name) for name in ("0.jpg", "photos/6.jpg", "3")]
    found = photos.read(numbers, 0)
    assert list(found) == [0, 3, 6]
    photo = found[6]
    assert (photo.width, photo.height, photo.concepts, photo.tags) == (100, 80, ("kite", "thing"), ("kite", "thing"))
    assert photo.boxes.tolist() == [[10, 20, 50, 60], [55, 20, 95, 60]]
    assert photo.features.shape == (2, DIM)
    assert photo.features[0].argmax() == 2
    assert photos.all_tags() == {"dog", "cat", "kite", "boat", "thing"}


def test_photos_go_to_other_processes(tmp_path):
    photos = Photos(write_regions(tmp_path / "regions", photos=2), "detector")
    with pytest.raises(UnknownPhoto):
        photos.number("absent.jpg")
    there = pickle.loads(pickle.dumps(photos))
    assert there.read([there.number("1.jpg")], 0)[1].tags == ("cat", "thing")


ROWS = [
    {"image_id": f"{0:016x}", "source": "photos/0.jpg", "width": 100, "height": 80, "reason": "", "sha256": b"0" * 32},
    {"image_id": "e", "source": "empty.jpg", "width": 60, "height": 40, "reason": "no_region", "sha256": b"1" * 32},
    {"image_id": "c", "source": "copy.jpg", "width": 0, "height": 0, "reason": "duplicate", "sha256": b"0" * 32},
    {"image_id": "b", "source": "bad.jpg", "width": 0, "height": 0, "reason": "not_an_image", "sha256": b"2" * 32},
]


def with_record(folder: Path, table: pa.Table) -> str:
    """A folder regions/ of two photos with this record of all photos."""
    write_regions(folder, photos=2)
    found = manifest.read(str(folder))
    with schemas.writing_parquet(str(folder / schemas.REGIONS_IMAGES), table.schema) as writer:
        writer.write_table(table)
    found.outputs.append(manifest.output_of(str(folder), schemas.REGIONS_IMAGES, len(table)))
    manifest.publish(str(folder), found)
    return str(folder)


def record() -> pa.Table:
    """ROWS as the stage writes them."""
    return pa.Table.from_pylist([{"key": "", "url": "", **row} for row in ROWS], RECORD)


def test_photos_without_a_region_and_copies_are_known_by_the_record(tmp_path):
    photos = Photos(with_record(tmp_path / "regions", record()), "detector")
    assert photos.number("copy.jpg") == photos.number("0.jpg") == 0
    empty = photos.read([photos.number("empty.jpg")], 0).popitem()[1]
    assert (empty.features.shape, empty.boxes.shape, empty.width, empty.tags) == ((0, DIM), (0, 4), 60, ())
    with pytest.raises(UnknownPhoto):
        photos.number("bad.jpg")


@pytest.mark.parametrize("changed", ["source", "sha256"])
def test_a_changed_record_of_photos_is_damage(tmp_path, changed):
    number = RECORD.names.index(changed)
    others = [
        record().drop_columns([changed]),
        record().set_column(number, changed, pa.array(range(4), pa.int64())),
        record().set_column(number, RECORD.field(changed).with_nullable(True), pa.nulls(4, RECORD.field(changed).type)),
    ]
    for place, table in enumerate(others):
        folder = with_record(tmp_path / str(place), table)
        with pytest.raises(UserError, match=r"images\.parquet: cannot be read"):
            Photos(folder, "detector")


@pytest.mark.parametrize(
    ("column", "values"),
    [("image_id", [7, 9]), ("image", [{"bytes": b"x", "path": "a/7.jpg"}, {"bytes": b"y", "path": "a/9.jpg"}])],
)
def test_photos_in_parquet_have_their_names_there_not_their_rows(tmp_path, column, values):
    source = tmp_path / "photos.parquet"
    with schemas.writing_parquet(
        str(source), (table := pa.table({column: values, "other": ["0", "1"]})).schema
    ) as file:
        file.write_table(table)
    regions = write_regions(tmp_path / "regions", photos=2, name=lambda photo: str(source), key=str)
    photos = Photos(regions, "detector")
    assert [photos.number(name) for name in ("7", "9.jpg")] == [0, 1]
    for row in ("0", "1"):
        with pytest.raises(UnknownPhoto):
            photos.number(row)
    # file:// stands for all URLs that are not those of an object store: no server is called because regions/ names it.
    elsewhere = write_regions(tmp_path / "elsewhere", photos=2, name=lambda photo: f"file://{source}", key=str)
    with pytest.raises(UnknownPhoto):
        Photos(elsewhere, "detector").number("7")
    source.unlink()
    with pytest.raises(UnknownPhoto):
        Photos(regions, "detector").number("1")


def test_tags_from_a_file_alone_or_with_regions(tmp_path):
    tags = tmp_path / "tags.json.gz"
    tags.write_bytes(gzip.compress(json.dumps({"0": ["sofa", "sofa", "lamp"], "1": [], "5": ["car"]}).encode()))
    alone = Photos("none", str(tags))
    assert [photo.tags for photo in alone.read([alone.number("0"), alone.number("1")], 3).values()] == [
        ("sofa", "lamp"), (),
    ]  # fmt: skip
    assert alone.read([0], 3)[0].features.shape == (0, 3)
    with pytest.raises(UnknownPhoto):
        alone.number("7")
    both = Photos(write_regions(tmp_path / "regions", photos=6), str(tags))
    found = both.read([0, 2, 5], 0)
    assert [photo.tags for photo in found.values()] == [("sofa", "lamp"), (), ("car",)]
    assert found[0].concepts == ("dog", "thing")
    lines = write_json(tmp_path / "tags.jsonl", [{"image": "0.jpg", "tags": ["tree"]}])
    assert read_tags(lines) == {"0.jpg": ("tree",)}


def test_question_only_knows_every_name(tmp_path):
    photos = Photos("none", "none")
    assert [photos.number(name) for name in ("b", "a", "b")] == [0, 1, 0]
    assert photos.read([0], 4)[0].features.shape == (0, 4)
    with pytest.raises(CallError, match=r"task.tags: detector, but task.regions is none"):
        Photos("none", "detector")


@pytest.mark.parametrize("content", ["[1]", '{"a": 1}', '{"a": [1]}', "{}", '{"image": "a"}'])
def test_other_files_of_tags_are_refused(tmp_path, content):
    (tmp_path / "tags.json").write_text(content)
    with pytest.raises(UserError, match=r"task.tags: .*Expected a JSON object of photo"):
        read_tags(str(tmp_path / "tags.json"))
