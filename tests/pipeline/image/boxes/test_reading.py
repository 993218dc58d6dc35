"""Files of boxes are read as they are meant; what cannot be right is counted, or is one message."""

import gzip
import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from tests.pipeline.image.boxes.box_files import box, image, sample, write_coco, write_results, write_samples

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.pipeline.image.boxes.reading import Boxes, BoxFiles, read_boxes

SIZE: dict[str, Any] = {"metadata": {"_cls": "ImageMetadata", "width": 100, "height": 50}}


def read(path, **options) -> Boxes:
    return read_boxes(BoxFiles.of(str(path), {key: str(value) for key, value in options.items()}))


def rows(found: Boxes):
    """(photo, class, box, score) of each box."""
    return [
        (found.photos[photo].name, found.names[label], tuple(map(float, one)), round(float(score), 4))
        for photo, label, one, score in zip(found.photo, found.label, found.boxes, found.scores, strict=True)
    ]


def details(found: Boxes):
    return [f"{reject.reason} {reject.key}: {reject.detail}" for reject in found.rejected.rows()]


def test_annotations(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(8, (1.5, 2, 3, 4), 2), box(7, score=0.25), box(8, iscrowd=0)])
    found = read(path)
    assert rows(found) == [
        ("000000000008.jpg", "cat", (1.5, 2.0, 4.5, 6.0), 1.0),
        ("000000000007.jpg", "dog", (10.0, 20.0, 40.0, 30.0), 0.25),
        ("000000000008.jpg", "dog", (10.0, 20.0, 40.0, 30.0), 1.0),
    ]
    assert (found.read, found.rejected.counts(), found.relative.tolist()) == (3, {}, [False] * 3)
    assert found.names == ("cat", "dog", "zebra crossing")  # also those without a box
    assert found.photos[0].width, found.photos[0].height == (100, 50)


def test_results_with_the_file_that_names_images_and_classes(tmp_path):
    named = write_coco(tmp_path / "named.json", [box(7), box(8)])
    path = write_results(tmp_path / "results.json", [box(8, score=0.5), box(8, score=0.125, category=2)])
    assert rows(read(path, annotations=named)) == [
        ("000000000008.jpg", "dog", (10.0, 20.0, 40.0, 30.0), 0.5),
        ("000000000008.jpg", "cat", (10.0, 20.0, 40.0, 30.0), 0.125),
    ]


def test_samples_of_fiftyone(tmp_path):
    scored = {"label": "cat", "bounding_box": [0, 0, 1, 0.5], "confidence": 0.75}
    one = sample("/home/x/a.jpg", ("dog", (0.1, 0.2, 0.3, 0.4)), scored, **SIZE)
    path = write_samples(tmp_path / "samples.json", one, sample("b.jpg"), sample("c.jpg", ground_truth=None))
    found = read(path)
    assert [(*row[:2], row[3]) for row in rows(found)] == [
        ("/home/x/a.jpg", "dog", 1.0), ("/home/x/a.jpg", "cat", 0.75)
    ]  # fmt: skip
    np.testing.assert_array_equal(found.boxes, np.array([[0.1, 0.2, 0.4, 0.6], [0, 0, 1, 0.5]], np.float32))
    assert [photo.name for photo in found.photos] == ["/home/x/a.jpg", "b.jpg", "c.jpg"]
    assert found.relative.all()


def test_a_field_of_fiftyone_is_named_if_there_are_several(tmp_path):
    both = sample("a.jpg", ("dog", (0, 0, 1, 1)), predictions={"detections": [{"label": "cat", "confidence": 0.5}]})
    both["predictions"]["detections"][0]["bounding_box"] = [0, 0, 0.5, 0.5]
    both["one"] = {"_cls": "Detection", "label": "cat", "bounding_box": [0, 0, 0.25, 0.25]}
    path = write_samples(tmp_path / "samples.json", both)
    with pytest.raises(CallError, match=r"field: .* has boxes in ground_truth and predictions\. Name one of them\."):
        read(path)
    assert rows(read(path, field="predictions")) == [("a.jpg", "cat", (0.0, 0.0, 0.5, 0.5), 0.5)]
    assert rows(read(path, field="one")) == [("a.jpg", "cat", (0.0, 0.0, 0.25, 0.25), 1.0)]
    with pytest.raises(CallError, match="no boxes in 'gold', but in ground_truth and predictions and one"):
        read(path, field="gold")


def test_several_files_of_which_one_is_packed(tmp_path):
    write_coco(tmp_path / "i-a.json", [box(7)])
    plain = write_coco(tmp_path / "b.json", [box(7, category=3)], [image(7, "other.jpg")], {3: "dog", 4: "bird"})
    (tmp_path / "i-b.json.gz").write_bytes(gzip.compress(plain.read_bytes()))
    found = read(tmp_path / "i-*")
    assert [row[:2] for row in rows(found)] == [("000000000007.jpg", "dog"), ("other.jpg", "dog")]
    assert found.names == ("dog", "cat", "zebra crossing", "bird")


def test_ids_may_be_texts_and_numbers_of_any_length(tmp_path):
    long = 10**17 + 1
    images = [image("a", "a.jpg"), image(long, "b.jpg"), image(long + 1, "c.jpg"), image(5.0, "d.jpg")]
    boxes = [box("a"), box(long), box(long + 1), box("5"), box(5)]
    found = read(write_coco(tmp_path / "a.json", boxes, images))
    assert [row[0] for row in rows(found)] == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "d.jpg"]


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (box(99), "bad_box image 99: image 99, which no entry of images has"),
        (box(7, category=99), "bad_box 000000000007.jpg: category 99, which no entry of categories has"),
        (box(7, (100, 0, 5, 5)), "000000000007.jpg: (100, 0, 105, 5) is outside the photo of 100×50"),
        (box(7, (-5, -5, 5, 5)), "(-5, -5, 0, 0) is outside the photo of 100×50"),
        (box(7, (1, 1, 0, 5)), "box 1: bbox [1, 1, 0, 5]: its width or height is not above 0"),
        (box(7, (9, 9, -5, 5)), "its width or height is not above 0"),
        (box(7, (math.nan, 1, 2, 3)), "bbox [nan, 1, 2, 3], expected four numbers"),
        (box(7, (1, 1, math.inf, 3)), "expected four numbers"),
        (box(7, (1, 1, "2", 3)), "expected four numbers"),
        (box(7, (1, 1, True, 3)), "expected four numbers"),
        (box(7, (1, 2, 3)), "expected four numbers"),
        (box(7, (1, 2, 10**40, 3)), "expected four numbers"),
        (box(7, None), "no bbox"),
        (box(10**400), "bad_box image 1000000"),
        (box(math.inf), "no image_id"),
        (box(None), "no image_id"),
        (box(True), "no image_id"),
        (box(7, category=[]), "no category_id"),
        (box(7, score=87), "score 87, expected 0 to 1"),
        (box(7, score=math.nan), "score nan, expected 0 to 1"),
        (box(7, score="high"), "score high, expected 0 to 1"),
        ("dog", "bad_box box 1: not an object"),
        (box(7, iscrowd=1, segmentation={"counts": [1], "size": [5, 5]}), "crowd box 1: "),
    ],
)  # fmt: skip
def test_an_annotation_that_cannot_be_used_is_counted(bad, detail, tmp_path):
    found = read(write_coco(tmp_path / "a.json", [bad, box(8)]))
    assert [row[0] for row in rows(found)] == ["000000000008.jpg"]
    (line,) = details(found)
    assert detail in line
    assert (found.read, found.rejected.total) == (2, 1)


def test_a_detection_without_a_score_is_counted_and_an_annotation_without_one_is_certain(tmp_path):
    named = write_coco(tmp_path / "named.json", [])
    results = write_results(tmp_path / "r.json", [box(7), box(7, score=0.5)])
    found = read(results, annotations=named)
    assert (len(found.scores), details(found)) == (1, ["bad_box box 1: no score"])


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        (("dog", (0.5, 0.5, 30, 40)), "expected fractions of the photo's width and height"),
        (("dog", (1, 0, 0.1, 0.1)), "(1, 0, 1.1, 0.1) is outside the photo"),
        (("dog", (0.1, 0.1, 0.2, 0)), "its width or height is not above 0"),
        (("", (0.1, 0.1, 0.2, 0.1)), "no label"),
        ((3, (0.1, 0.1, 0.2, 0.1)), "no label"),
        ({"label": "dog"}, "no bounding_box"),
        ({"label": "dog", "bounding_box": [0, 0, 1, 1], "confidence": -1}, "score -1, expected 0 to 1"),
        ({"label": "dog", "bounding_box": [0, 0, 1, 1], "iscrowd": True}, "crowd a.jpg"),
    ],
)
def test_a_box_of_fiftyone_that_cannot_be_used_is_counted(bad, detail, tmp_path):
    found = read(write_samples(tmp_path / "samples.json", sample("a.jpg", bad, ("cat", (0.5, 0.5, 0.52, 0.5)))))
    assert [row[1] for row in rows(found)] == ["cat"]
    (line,) = details(found)
    assert detail in line


def test_boxes_of_an_id_that_two_photos_have_are_nobodys(tmp_path):
    images = [image(7, "a.jpg"), image(7, "b.jpg"), image(8, "c.jpg"), image(8, "c.jpg")]
    found = read(write_coco(tmp_path / "a.json", [box(7), box(8)], images))
    assert [row[0] for row in rows(found)] == ["c.jpg"]
    assert details(found) == ["bad_box image 7: image 7, which is a.jpg and b.jpg"]
    assert [photo.name for photo in found.photos] == ["c.jpg"]


def test_boxes_of_an_id_that_two_classes_have_are_of_no_class(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7, category=1), box(7, category=2)])
    content = json.loads(path.read_text())
    content["categories"] += [{"id": 1, "name": "wolf"}, {"id": 2, "name": "cat"}]
    path.write_text(json.dumps(content))
    found = read(path)
    assert [row[1] for row in rows(found)] == ["cat"]
    assert details(found) == ["bad_box 000000000007.jpg: category 1, which is dog and wolf"]
    assert found.names == ("cat", "zebra crossing")


def test_equal_ids_of_annotations_are_in_order(tmp_path):
    found = read(write_coco(tmp_path / "a.json", [box(7, id=1), box(7, (0, 0, 9, 9), id=1)]))
    assert (len(found.scores), found.rejected.total) == (2, 0)


def test_entries_without_an_id_or_a_name_are_as_good_as_missing(tmp_path):
    images = [{"id": 1}, {"file_name": "x.jpg"}, 5, {"id": 2, "file_name": 3}, image(7, width="wide", height=-1)]
    found = read(write_coco(tmp_path / "a.json", [box(7, (500, 500, 9, 9)), box(1)], images))
    assert [(one.name, one.width, one.height) for one in found.photos] == [("000000000007.jpg", 0, 0)]
    assert len(found.scores) == 1  # nothing says that it is outside


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not JSON", r"cannot be read as JSON \(.*\)\. Expected COCO annotations"),
        ('{"annotations": [{"image_id": 1, ', r"cannot be read as JSON"),
        ("[1, 2", "cannot be read as JSON"),
        ("7", "cannot be read as JSON"),
        ("{}", "has no list of boxes"),
        ("[]", "has no list of boxes"),
        ('{"annotations": []}', "has no list of boxes"),
        ('{"images": [], "categories": []}', "has no list of boxes"),
        ('{"labels": {"a": []}}', "has no list of boxes"),
        ('{"samples": [{"filepath": "a.jpg", "ground_truth": {"label": "dog"}}]}', "none of 0 boxes can be used"),
        ("[" * 100_000, "cannot be read as JSON"),
        ('{"annotations": [{"id": ' + "9" * 5000 + "}]}", "cannot be read as JSON"),
    ],
)
def test_a_file_of_another_shape_is_one_message(content, message, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=message) as error:
        read(tmp_path / "a.json")
    assert str(error.value).startswith(f"images.detector: boxes: {tmp_path}/a.json: ")


def test_a_packed_file_that_breaks_off_is_one_message(tmp_path):
    whole = gzip.compress(write_coco(tmp_path / "a.json", [box(7)]).read_bytes())
    (tmp_path / "a.json.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"a\.json\.gz: cannot be read \(Compressed file ended before"):
        read(tmp_path / "a.json.gz")


def test_captions_are_no_boxes(tmp_path):
    captions = [{"image_id": 7, "id": 1, "caption": "a dog"}] * 3
    path = tmp_path / "captions.json"
    path.write_text(json.dumps({"images": [image(7)], "annotations": captions, "categories": [{"id": 1, "name": "x"}]}))
    with pytest.raises(UserError, match=r"none of 3 boxes can be used; the first: box 1: no bbox\. Expected COCO"):
        read(path)
    path.write_text(json.dumps({"images": [image(7)], "annotations": captions}))
    with pytest.raises(UserError, match=r"captions\.json: has no usable categories"):
        read(path)


def test_annotations_may_be_named_twice(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7)])
    assert rows(read(path, annotations=path)) == rows(read(path))


def test_results_alone_say_what_is_missing(tmp_path):
    path = write_results(tmp_path / "results.json", [box(7, score=1)])
    with pytest.raises(CallError, match=r"annotations: .*results\.json has images and classes by number\. Give the"):
        read(path)
    with pytest.raises(CallError, match=r"annotations: no such file: .*x\.json"):
        read(path, annotations=tmp_path / "x.json")
    with pytest.raises(CallError, match=r"images\.detector: boxes: nothing matches"):
        read(tmp_path / "none-*.json")
    with pytest.raises(CallError, match=r"boxes takes annotations and field, each a text, and no 'classes'"):
        read(path, classes="x")


def test_a_file_is_read_once_until_it_changes(tmp_path):
    path = write_coco(tmp_path / "a.json", [box(7)])
    assert read(path) is read(path)
    write_coco(path, [box(7), box(8)])
    assert len(read(path).scores) == 2


def test_only_some_of_many_bad_boxes_are_listed_and_all_are_counted(tmp_path):
    path = write_coco(tmp_path / "a.json", [*[box(7, iscrowd=1)] * 10_005, box(8)])
    found = read(path)
    assert Counter(reject.number for reject in found.rejected.rows()) == {1: 10_000, 5: 1}
    every = read_boxes(BoxFiles(str(path)), all_rejects=True)
    assert len(every.rejected.rows()) == 10_005
