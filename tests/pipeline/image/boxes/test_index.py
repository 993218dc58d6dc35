"""Which photo a box belongs to, what is in doubt, and that every box is accounted for."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.image.boxes.box_files import box, image, sample, write_coco, write_samples

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.boxes.index import BoxIndex, match, write_index
from vlmixer.pipeline.image.boxes.reading import BoxFiles, read_boxes
from vlmixer.pipeline.image.readers.base import ImageRef


def ref(source, key="", *, content="", **more) -> ImageRef:
    """A photo whose bytes are `content`; without, no other has them."""
    digest = hashlib.blake2b((content or source + key).encode(), digest_size=16).digest()
    return ImageRef(source, key, digest=digest, **more)


def indexed(path, refs, tmp_path, **options):
    """The index over these photos, and what became of the boxes."""
    boxes = read_boxes(BoxFiles(str(path)))
    matched = match(boxes, refs, all_rejects=False, **options)
    write_index(str(tmp_path / "index"), boxes, matched)
    return BoxIndex(str(tmp_path / "index")), matched


def found(path, refs, tmp_path, **options):
    """By photo, its boxes' left edges, "-" for a photo that is in no file, or why it is in doubt; the counts."""
    index, matched = indexed(path, refs, tmp_path, **options)
    assert matched.counts.add_up()
    assert sum(reject.number for reject in matched.rejects) == sum(matched.counts.rejected.values())
    photos = {one.name: index.find(one.digest) for one in refs}
    texts = {
        name: "-" if one is None else one.doubt or one.boxes[:, 0].astype(int).tolist() for name, one in photos.items()
    }
    return texts, (matched.counts.read, matched.counts.written, matched.counts.rejected)


def test_boxes_of_photos_in_pixels(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(8, (1, 2, 3, 4), 2, score=0.5), box(7), box(8, category=9)])
    index, _ = indexed(path, [ref("d/000000000007.jpg"), ref("d/000000000008.jpg")], tmp_path)
    one = index.find(ref("d/000000000008.jpg").digest)
    assert one is not None
    assert (one.name, one.width, one.height) == ("000000000008.jpg", 100, 50)
    assert one.in_pixels(100, 50).tolist() == [[1, 2, 4, 6], [10, 20, 40, 30]]
    assert [index.classes[label] for label in one.labels] == ["cat", "zebra crossing"]
    assert one.scores.tolist() == [0.5, 1.0]
    assert one.boxes.dtype == np.float32
    assert one.labels.dtype == np.int64


def test_boxes_of_fiftyone_are_fractions_of_the_photo(tmp_path):
    path = write_samples(tmp_path / "s.json", sample("data/a.jpg", ("dog", (0.25, 0.5, 0.5, 0.25))))
    index, _ = indexed(path, [ref("elsewhere/a.jpg")], tmp_path)
    one = index.find(ref("elsewhere/a.jpg").digest)
    assert one is not None
    assert one.in_pixels(200, 100).tolist() == [[50, 50, 150, 75]]


@pytest.mark.parametrize(
    ("named", "photo"),
    [
        ("000000000007.jpg", ref("photos/000000000007.jpg")),
        ("train/x.jpg", ref("/data/train/x.jpg")),
        ("/home/me/train/x.jpg", ref("train/x.jpg")),
        ("C:\\data\\x.jpg", ref("photos/x.jpg")),
        ("data/x.jpg", ref("photos/x.jpg")),
        ("x.jpg", ref("photos/x.webp")),
        ("X.JPG", ref("photos/x.jpg")),
        ("x", ref("photos/x.jpg")),
        ("COCO_val2014_000000000007.jpg", ref("photos/000000000007.jpg")),
        ("000000000007.jpg", ref("photos/COCO_train2014_000000000007.png")),
        ("a/x.jpg", ref("shard.tar", "a/x.jpg", format="tar")),
        ("x.jpg", ref("https://images.example/a/x.jpg")),
        ("x.jpg", ref("shard.tar", "000000012.jpg", format="tar", url="https://images.example/x.jpg")),
    ],
)
def test_a_photo_is_found_by_what_the_file_calls_it(named, photo, tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7)], [image(7, named)])
    assert found(path, [photo], tmp_path) == ({photo.name: [10]}, (1, 1, {}))


def test_a_row_of_parquet_is_called_as_its_file_says(tmp_path):
    rows = [{"bytes": b"", "path": "x.jpg"}, {"bytes": b"", "path": "000000000007.jpg"}]
    pq.write_table(pa.table({"image": rows}), tmp_path / "p.parquet")
    pq.write_table(pa.table({"image": [b""], "cocoid": [8]}), tmp_path / "q.parquet")
    refs = [
        ref(str(tmp_path / name), str(row), position=row, format="parquet")
        for name, row in (("p.parquet", 0), ("p.parquet", 1), ("q.parquet", 0))
    ]
    path = write_coco(tmp_path / "a.json", [box(7), box(8, (1, 1, 5, 5))])
    assert list(found(path, refs, tmp_path)[0].values()) == ["-", [10], [1]]


def test_photos_of_the_same_name_are_told_apart_by_their_folders(tmp_path):
    images = [image(7, "a/1.jpg"), image(8, "b/1.jpg")]
    path = write_coco(tmp_path / "a.json", [box(7), box(8, (1, 1, 5, 5))], images)
    texts, counts = found(path, [ref("d/a/1.jpg"), ref("d/b/1.jpg"), ref("d/c/2.jpg")], tmp_path)
    assert texts == {"d/a/1.jpg": [10], "d/b/1.jpg": [1], "d/c/2.jpg": "-"}
    assert counts == (2, 2, {})


def test_photos_of_the_same_name_that_a_file_does_not_tell_apart_get_no_boxes(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7), box(7), box(8)], [image(7, "1.jpg"), image(8, "2.jpg")])
    texts, counts = found(path, [ref("d/a/1.jpg"), ref("d/b/1.jpg"), ref("d/2.jpg")], tmp_path)
    doubt = "1.jpg could be d/a/1.jpg or d/b/1.jpg"
    assert texts == {"d/a/1.jpg": doubt, "d/b/1.jpg": doubt, "d/2.jpg": [10]}
    assert counts == (3, 1, {"ambiguous_photo": 2})


def test_one_photo_and_two_that_the_file_calls_so(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7), box(8)], [image(7, "a/1.jpg"), image(8, "b/1.jpg")])
    texts, counts = found(path, [ref("d/1.jpg")], tmp_path)
    assert texts == {"d/1.jpg": "its boxes could be those of a/1.jpg or b/1.jpg"}
    assert counts == (2, 0, {"ambiguous_photo": 2})
    texts, counts = found(path, [ref("d/1.jpg"), ref("d/a/1.jpg")], tmp_path)
    assert texts == {"d/1.jpg": "its boxes could be those of a/1.jpg or b/1.jpg", "d/a/1.jpg": [10]}
    assert counts == (2, 1, {"ambiguous_photo": 1})


def test_the_better_name_wins(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7)])
    refs = [ref("d/COCO_val2014_000000000007.jpg"), ref("d/000000000007.png"), ref("d/000000000007.jpg")]
    assert list(found(path, refs, tmp_path)[0].values()) == ["-", "-", [10]]


def test_the_same_photo_under_two_names_has_the_boxes_of_both(tmp_path):
    images = [image(7, "a.jpg"), image(8, "b.jpg")]
    path = write_coco(tmp_path / "a.json", [box(7), box(8), box(8, (1, 1, 5, 5))], images)
    refs = [ref("d/a.jpg", content="same"), ref("d/b.jpg", content="same"), ref("d/c.jpg", content="same")]
    texts, counts = found(path, refs, tmp_path)
    assert texts == {f"d/{letter}.jpg": [10, 1] for letter in "abc"}
    assert counts == (3, 2, {"duplicate": 1})


def test_of_equal_boxes_the_best_stays(tmp_path):
    boxes = [box(7, score=0.25), box(7, score=0.75), box(7, category=2), box(7, score=0.5)]
    index, matched = indexed(write_coco(tmp_path / "a.json", boxes), [ref("000000000007.jpg")], tmp_path)
    one = index.find(ref("000000000007.jpg").digest)
    assert one is not None
    assert list(zip(one.labels, one.scores, strict=True)) == [(0, 0.75), (1, 1.0)]
    assert matched.counts.rejected == {"duplicate": 2}


def test_absent_photos_and_photos_without_boxes(tmp_path):
    images = [image(7), image(8), image(9), *(image(number) for number in range(100, 210))]
    boxes = [box(7), *[box(9)] * 2, *[box(number) for number in range(100, 210)]]
    path = write_coco(tmp_path / "a.json", boxes, images)
    refs = [ref("000000000007.jpg"), ref("000000000008.jpg"), ref("other.jpg")]
    texts, counts = found(path, refs, tmp_path)
    assert texts == {"000000000007.jpg": [10], "000000000008.jpg": [], "other.jpg": "-"}
    assert counts == (113, 1, {"absent_photo": 112})
    _, matched = indexed(path, refs, tmp_path)
    listed = [(reject.key, reject.number) for reject in matched.rejects]
    assert listed[:2] == [("000000000009.jpg", 2), ("000000000100.jpg", 1)]
    assert (len(listed), listed[-1]) == (101, ("", 11))
    assert matched.absent == 111


def test_a_file_of_other_photos_is_one_message(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7)])
    with pytest.raises(UserError, match=r"none of the 2 photos of images\.inputs \(d/x\.jpg, …\) is one of the 2 that"):
        indexed(path, [ref("d/x.jpg"), ref("d/y.jpg")], tmp_path)
    index, matched = indexed(path, [ref("d/x.jpg")], tmp_path, may_be_empty=True)
    assert (index.find(ref("d/x.jpg").digest), matched.counts.rejected) == (None, {"absent_photo": 1})
