"""Referring expressions: the official files and others, what is unusable, the choice of a region, end to end."""

import json

import numpy as np
import pytest
from tests.model.tasks.toy import concept_of, settings, write_json, write_regions

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.refcoco import RefCoco, RefCocoConfig
from vlmixer.model.tasks.region_choice import NO_REGION, target_of


def read(paths, training=True, **changes):
    log = RejectLog("finetune")
    examples, number = RefCoco().read([str(path) for path in paths], RefCocoConfig(**changes), log, training)
    assert number == len(examples) + log.total
    return examples, log.counts()


def references(photos=24, split=lambda photo: "val" if photo % 8 < 4 else "train"):
    """References as RefCOCO has them: of each photo the region that shows its concept, and the other one."""
    return [
        {
            "ref_id": 2 * photo + which, "ann_id": 100 * photo + which, "image_id": photo, "category_id": 1,
            "file_name": f"COCO_train2014_{photo:012d}_{which}.jpg", "split": split(photo), "sent_ids": [],
            "sentences": [
                {"sent_id": 4 * photo + 2 * which + number, "raw": text.upper(), "sent": text, "tokens": text.split()}
                for number, text in enumerate(["the other thing", "no animal"] if which else [concept_of(photo)])
            ],
        }
        for photo in range(photos)
        for which in (0, 1)
    ]  # fmt: skip


def instances(photos=24):
    """COCO's instances.json: the boxes of the references, a little larger than the regions."""
    return {
        "info": {}, "licenses": [], "categories": [{"id": 1, "name": "thing", "supercategory": "x"}],
        "images": [{"id": photo, "file_name": f"COCO_{photo:012d}.jpg", "width": 100} for photo in range(photos)],
        "annotations": [
            {"id": 100 * photo + which, "image_id": photo, "category_id": 1, "bbox": [9 + 45 * which, 19, 42, 43]}
            for photo in range(photos)
            for which in (0, 1)
        ],
    }  # fmt: skip


def test_the_official_references_get_the_boxes_of_their_annotations(tmp_path):
    refs = write_json(tmp_path / "refs.json", references(3, lambda photo: "train" if photo % 2 else "val"))
    boxes = write_json(tmp_path / "instances.json", instances(3))
    examples, rejects = read([boxes, refs])
    assert [(one.key, one.images, one.text, one.answers, one.groups) for one in examples] == [
        ("4", ("1",), "cat", ("9, 19, 51, 62",), {"split": "train"}),
        ("6", ("1",), "the other thing", ("54, 19, 96, 62",), {"split": "train"}),
        ("7", ("1",), "no animal", ("54, 19, 96, 62",), {"split": "train"}),
    ]
    assert examples[0].details.tolist() == [9, 19, 51, 62]
    assert rejects == {}
    assert [one.images for one in read([refs, boxes], training=False)[0]] == [("0",)] * 3 + [("2",)] * 3


def test_splits_are_chosen_and_an_unknown_one_is_named(tmp_path):
    paths = [
        write_json(
            tmp_path / "refs.json", references(4, split=lambda photo: ("train", "val", "testA", "testB")[photo])
        ),
        write_json(tmp_path / "instances.json", instances(4)),
    ]
    assert [one.groups["split"] for one in read(paths, training=False)[0]] == ["val"] * 3 + ["testA"] * 3 + [
        "testB"
    ] * 3
    assert {one.groups["split"] for one in read(paths, training=False, split="testA")[0]} == {"testA"}
    with pytest.raises(UserError, match=r"no expression is of the split testC. Splits in it: testA, testB, train, val"):
        read(paths, training=False, split="testC")


def test_mdetrs_files_and_lines_are_read(tmp_path):
    mdetr = {
        "images": [
            {"id": 7, "original_id": 31, "file_name": "COCO_31.jpg", "caption": "left dog", "dataset_name": "r"}
        ],
        "annotations": [{"id": 1, "image_id": 7, "bbox": [1, 2, 3, 4], "original_id": 9}],
        "categories": [],
    }
    (one,), _ = read([write_json(tmp_path / "mdetr.json", mdetr)])
    assert (one.key, one.images, one.text, one.details.tolist()) == ("7", ("COCO_31.jpg",), "left dog", [1, 2, 4, 6])
    line = {"image": "a.jpg", "expression": "left dog", "bbox": [1, 2, 3, 4]}
    (one,), _ = read([write_json(tmp_path / "own.jsonl", [line])])
    assert (one.key, one.images, one.text, one.details.tolist()) == ("1", ("a.jpg",), "left dog", [1, 2, 4, 6])


@pytest.mark.parametrize(
    ("change", "training", "expected"),
    [
        ({"ann_id": 5}, True, {"no_answer": 1}),
        ({"ann_id": 5}, False, {}),
        ({"image_id": None, "file_name": ""}, True, {"missing_field": 1}),
        ({"sentences": [{"sent_id": 9, "sent": " "}]}, True, {"missing_field": 1}),
        ({"sentences": ["dog"]}, True, {"missing_field": 1}),
        ({"sentences": [{"sent_id": 9, "sent": "a"}] * 2}, True, {"duplicate_id": 1}),
    ],
)
def test_unusable_references_are_counted(tmp_path, change, training, expected):
    refs = write_json(tmp_path / "refs.json", [{**references(2)[2], "split": "train", **change}])
    assert read([refs, write_json(tmp_path / "instances.json", instances(2))], training, split="train")[1] == expected


@pytest.mark.parametrize("box", [[1, 2, 0, 4], [1, 2, 3, -4], [1, 2, 3], "x", [1, 2, 3, None], [1, 2, 3, float("nan")]])
def test_a_box_without_an_area_is_none(tmp_path, box):
    lines = [{"image": "a.jpg", "expression": "dog", "bbox": each} for each in (box, [1, 2, 3, 4])]
    path = write_json(tmp_path / "own.jsonl", lines)
    examples, rejects = read([path])
    assert ([one.key for one in examples], rejects) == (["2"], {"no_answer": 1})
    assert [one.details is None for one in read([path], training=False)[0]] == [True, False]


def test_files_of_another_kind_are_named(tmp_path):
    (tmp_path / "refs(unc).p").write_bytes(b"\x80\x02]q\x00.")
    with pytest.raises(CallError, match=r"a pickle, which can run code where it is read. Convert it to JSON"):
        read([tmp_path / "refs(unc).p"])
    with pytest.raises(UserError, match=r"instances.json: no expressions in it. Expected RefCOCO's references"):
        read([write_json(tmp_path / "instances.json", instances(1))])
    with pytest.raises(UserError, match=r"entry 1: neither an expression nor a box"):
        read([write_json(tmp_path / "vqa.jsonl", [{"question_id": 1, "question": "?"}])])


def test_the_target_is_the_region_with_the_largest_overlap():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [50, 50, 60, 60]], np.float32)
    assert target_of(boxes, np.array([0, 0, 10, 7.5], np.float32), 0.5) == 1
    assert target_of(boxes, np.array([20, 20, 30, 30], np.float32), 0.5) == NO_REGION
    assert target_of(boxes[:0], np.array([0, 0, 1, 1], np.float32), 0.5) == NO_REGION


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A run that learned to tell the two regions of each photo apart; and its files."""
    folder = tmp_path_factory.mktemp("refcoco")
    regions = write_regions(folder / "regions")
    boxes = instances()
    boxes["annotations"][0]["bbox"] = [0, 0, 5, 5]  # of photo 0: no region is near
    paths = [write_json(folder / "refs.json", references()), write_json(folder / "instances.json", boxes)]
    asked = settings(regions, paths, RefCocoConfig, epochs=60, learning_rate=5e-3)
    return finetune(RefCoco(), asked, str(folder / "run")), folder


def test_a_run_learns_to_choose_the_region_that_is_meant(tuned):
    run, folder = tuned
    scored = evaluate_run(run, "refcoco")
    (measure,) = scored.evaluation.measures
    # 12 photos with 3 expressions each; the one whose box no region is near cannot be right.
    assert (measure.name, measure.values.sum(), len(measure.units)) == ("accuracy, val", 35, 36)
    assert scored.evaluation.note == (
        "1 of 36 expressions have no region that overlaps with their box by 0.5; at best 97.22 can be reached"
    )
    rows = {row["sent_id"]: row["bbox"] for row in json.loads(scored.evaluation.result)}
    assert (rows[4], rows[6]) == ([10, 20, 40, 40], [55, 20, 40, 40])
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    assert {line["in_reach"] for line in lines} == {1.0}
    assert lines[-1]["loss"] == pytest.approx(lines[-1]["region"])


def test_expressions_without_a_region_are_not_learned_from_but_counted(tmp_path):
    regions = write_regions(tmp_path / "regions", photos=4)
    lines = [{"image": f"{photo}.jpg", "expression": "x", "bbox": [0, 0, 2, 2]} for photo in range(3)]
    lines.append({"image": "3.jpg", "expression": "x", "bbox": [10, 20, 40, 40]})
    path = write_json(tmp_path / "own.jsonl", lines)
    asked = settings(regions, [path], RefCocoConfig, steps=2, batch_size=4, label_smoothing=0.1)
    run = finetune(RefCoco(), asked, str(tmp_path / "run"))
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["in_reach"] for line in logged] == [0.25, 0.25]
    assert all(np.isfinite(line["region"]) and line["region"] > 0 for line in logged)
    none = [{"image": "0.jpg", "expression": "x", "bbox": [0, 0, 2, 2]}]
    scored = evaluate_run(run, "refcoco", [write_json(tmp_path / "none.jsonl", none)])
    assert scored.evaluation.measures[0].value == 0


def test_the_page_shows_how_likely_regions_are_and_the_right_box(tuned, tmp_path):
    from vlmixer.pipeline.report.answers import write_answers_page

    write_answers_page(str(tmp_path / "page.html"), evaluate_run(tuned[0], "refcoco"), 6)
    page = (tmp_path / "page.html").read_text()
    assert "how likely each region is the one that is meant" in page
    assert page.count("<i style=") == 6
    assert "left:9.0%;top:23.8%;width:42.0%;height:53.8%" in page or "left:54.0%;top:23.8%" in page
