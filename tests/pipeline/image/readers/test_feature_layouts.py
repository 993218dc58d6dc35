"""Region features in the layouts that people have, and numbers that cannot be what they should be."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pipeline.image.readers.test_features import (
    COUNT,
    Regions,
    as_expected,
    config,
    counts,
    packed,
    reasons,
    rows,
    write_vinvl,
)
from tests.pipeline.jobs.small_corpus import Corpus, run

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStats, Strings
from vlmixer.pipeline.image.classes import read_class_names
from vlmixer.pipeline.image.known_regions import FeatureLines, KnownRegions, read_sizes
from vlmixer.pipeline.image.plausibility import spread, wrong_features, wrong_numbers
from vlmixer.pipeline.image.readers.base import ImageCorpus, InputFile, InputPiece
from vlmixer.pipeline.image.readers.features import FeatureReader, photos_by_id

NUMBERS = {"sky": 4, "dog": 1, "puppy": 2, "kite": 7}


@pytest.fixture
def known():
    return Regions()


def write_objects(folder: Path, known: Regions, *, as_list=False, size=False, numbers=False) -> Path:
    """As scene_graph_benchmark writes it: the feature in each object."""
    folder.mkdir(exist_ok=True)
    lines = []
    for number, identity in enumerate(known.ids):
        objects = [{**one, "bbox_id": row, "feature": packed(known.features[number][row])}
                   for row, one in enumerate(known.objects(number))]  # fmt: skip
        for one in objects if numbers else ():
            one["class"] = NUMBERS[one["class"]]
        record = {"num_boxes": len(objects), "objects": objects, "predicates": []}
        if size:
            record |= {"image_h": 40, "image_w": 60}
        lines.append(f"{identity}\t{json.dumps(objects if as_list else record)}\n")
    (folder / "predictions.tsv").write_text("".join(lines))
    return folder / "predictions.tsv"


def photos_of(folder: Path, known: Regions) -> Path:
    folder.mkdir()
    for number, identity in enumerate(known.ids):
        Image.new("RGB", (60, 40), (number * 8, 10, 10)).save(folder / f"{identity}.png")
    return folder


@pytest.mark.parametrize("as_list", [False, True])
def test_the_size_comes_from_the_photo_and_the_names_from_the_label_map(corpus: Corpus, known: Regions, as_list):
    path = write_objects(corpus.folder / "tsv", known, as_list=as_list, numbers=True)
    (path.parent / "labelmap.json").write_text(json.dumps({"label_to_idx": NUMBERS, "attributes": {}}))
    out = corpus.folder / "out"
    settings = config(corpus, path, [photos_of(corpus.folder / "own", known)])
    assert run(settings, out, command="detect") == 0
    assert as_expected(rows(out)) == known.expected()
    assert {(row["width"], row["height"]) for row in rows(out)} == {(60, 40)}


@pytest.mark.parametrize(
    "line", ['{}\t[{{"height": 40, "width": 60}}]', '{}\t{{"height": 40, "width": 60}}', "{}\t40 60"]
)
def test_the_size_comes_from_a_file_of_sizes(corpus: Corpus, known: Regions, line):
    path = write_objects(corpus.folder / "tsv", known)
    (path.parent / "hw.tsv").write_text("".join(f"{line.format(identity)}\n" for identity in known.ids))
    found = FeatureLines(str(path))
    (piece,) = FeatureReader().plan([InputFile(0, str(path), path.stat().st_size)])
    refs = list(FeatureReader().survey(piece, contents=True))
    (data,) = FeatureReader().read(refs[:1], 1e9)
    assert isinstance(data, bytes)
    parsed = found.parse(refs[0], data)
    assert isinstance(parsed, KnownRegions)
    assert (parsed.width, parsed.height) == (60, 40)
    assert parsed.detections.features.tolist() == known.features[0].tolist()


def test_lines_without_any_size_are_rejected(corpus: Corpus, known: Regions, capsys):
    path = write_objects(corpus.folder / "tsv", known)
    assert run(config(corpus, path), corpus.folder / "out", command="detect") == 1
    found = reasons(corpus.folder / "out")
    assert {reason for reason, _ in found.values()} == {"bad_record"}
    assert "no image size in the line; give the photos in images.inputs, or an hw.tsv" in found[known.ids[0]][1]


def test_numbers_of_classes_need_names(corpus: Corpus, known: Regions):
    path = write_objects(corpus.folder / "tsv", known, size=True, numbers=True)
    with pytest.raises(CallError, match=r"a class \d, expected a name; set images.detector_options.classes"):
        FeatureLines(str(path))
    assert FeatureLines(str(path), classes=["a"] * 8).feature_dim == 10
    with pytest.raises(CallError, match=r"a class \d, there are 1 names in the label map"):
        FeatureLines(str(path), classes=["a"])


@pytest.mark.parametrize("content", [NUMBERS, {"idx_to_label": {str(n): name for name, n in NUMBERS.items()}}])
def test_label_maps(tmp_path, content):
    (tmp_path / "map.json").write_text(json.dumps(content))
    assert read_class_names(str(tmp_path / "map.json")) == ["", "dog", "puppy", "", "sky", "", "", "kite"]
    (tmp_path / "map.json").write_text('{"dog": "one"}')
    with pytest.raises(CallError, match="Expected a JSON list of names"):
        read_class_names(str(tmp_path / "map.json"))


@pytest.mark.parametrize("lines", ["1\t[]\n", "1\t0 5\n", "1\tx\n"])
def test_a_broken_file_of_sizes_is_named(tmp_path, lines):
    (tmp_path / "hw.tsv").write_text("0\t4 5\n" + lines)
    with pytest.raises(CallError, match=r"hw.tsv, line 2: "):
        read_sizes(str(tmp_path / "hw.tsv"))


@pytest.mark.parametrize("cut", [0, 30])
def test_a_half_written_line_does_not_cost_the_whole_one(corpus: Corpus, known: Regions, cut):
    path = write_vinvl(corpus.folder / "tsv", known, index=False)
    lines = path.read_text().splitlines()
    half = [lines[row][: len(lines[row]) - (cut or 7)] for row in (0, 5)]
    path.write_text("\n".join([half[0], *lines[:5], half[1], *lines[5:]]) + "\n")
    predictions = path.parent / "predictions.tsv"
    predictions.write_text(predictions.read_text() + f'{known.ids[3]}\t{{"image_h": 40, "im\n')
    out = corpus.folder / "out"
    settings = config(corpus, path)
    settings.write_text(settings.read_text().replace("nms_threshold", "drop_duplicates: false\n  nms_threshold"))
    settings.write_text(settings.read_text() + "max_bad_fraction: 0.1\n")
    assert run(settings, out, command="detect") == 0
    assert as_expected(rows(out)) == known.expected()
    assert counts(out)["read"] == COUNT + 2
    assert counts(out)["rejected"]["bad_record"] == 2
    found = [value for key, value in reasons(out).items() if "@" in key]
    assert len(found) == 2
    assert found[0][1].startswith("half-written: ")


def test_ids_that_several_photos_fit_are_refused():
    names = [
        "a/7.jpg",
        "b/7.jpg",
        "COCO_train2014_000000000042.jpg",
        "COCO_val2014_000000000042.jpg",
        "x.jpg",
        "0009.png",
    ]
    pieces = [InputPiece("files", tuple(InputFile(row, name) for row, name in enumerate(names)))]
    found = photos_by_id(ImageCorpus(FileStats.of(), pieces, Strings(), Strings()))
    assert found["7"] == ["a/7.jpg", "b/7.jpg"]
    assert found["42"] == names[2:4]
    assert found["COCO_val2014_000000000042"] == found["COCO_val2014_000000000042.jpg"] == names[3:4]
    assert found["x.jpg"] == found["x"] == ["x.jpg"]
    assert found["9"] == found["0009"] == ["0009.png"]


def test_an_ambiguous_photo_is_a_reason_of_its_own(corpus: Corpus, known: Regions):
    path = write_vinvl(corpus.folder / "tsv", known)
    folder = photos_of(corpus.folder / "own", known)
    Image.new("RGB", (60, 40)).save(folder / f"COCO_val2014_{int(known.ids[4]):012d}.png")
    out = corpus.folder / "out"
    assert run(config(corpus, path, [folder]), out, command="detect") == 0
    reason, detail = reasons(out)[known.ids[4]]
    assert reason == "ambiguous_photo"
    assert detail == f"it could be {folder}/{known.ids[4]}.png or {folder}/COCO_val2014_{int(known.ids[4]):012d}.png"


def test_the_spread_does_not_depend_on_subnormal_numbers_being_switched_off():
    data = np.maximum(np.random.default_rng(1).normal(size=512), 0).astype(np.float16).tobytes()
    expected = spread(np.frombuffer(data, "<f4"))
    assert expected > 50
    assert torch.set_flush_denormal(True)
    try:
        assert spread(np.frombuffer(data, "<f4")) == expected
    finally:
        torch.set_flush_denormal(False)
    plain = np.array([1.5, -0.25, 3e38, 0, 1e-40] * 20, np.float32)
    assert spread(plain) == pytest.approx(np.log2([1.5, 0.25, 3e38, 1e-40]).std(), rel=1e-3)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_features_of_another_type_are_noticed(corpus: Corpus, known: Regions, dtype):
    wide = np.maximum(np.random.default_rng(1).normal(size=(COUNT, 4, 256)), 0)
    known.features = [rows[: len(boxes)].astype(dtype) for rows, boxes in zip(wide, known.boxes, strict=True)]
    path = write_vinvl(corpus.folder / "tsv", known)
    with pytest.raises(CallError, match=rf"noise; they look like {dtype}. Set images.detector_options.dtype: {dtype}"):
        FeatureLines(str(path))
    out = corpus.folder / "out"
    assert run(config(corpus, path, dtype=dtype), out, command="detect") == 0
    assert as_expected(rows(out)) == known.expected()
    with pytest.raises(CallError, match=r"detector_options.dtype: expected one of float16, float32, float64"):
        FeatureLines(str(path), dtype="int8")


@pytest.mark.parametrize(
    ("boxes", "scores", "size", "said"),
    [([[1, 2, 30, 40]], [2.0], (60, 40), "scores from 2 to 2, expected 0 to 1"),
     ([[1, 2, 30, 40]], [-0.5], (60, 40), "scores from -0.5"),
     ([[0.1, 0.2, 0.9, 1.0]], [0.5], (60, 40), "boxes within 0 to 1, expected pixels"),
     ([[1, 2, 30, 40]], [0.5], (0, 40), "an image of 0×40"),
     ([[30, 20, 10, 15]], [0.5], (60, 40), "1 boxes end before they begin"),
     ([[1, 2, 39, 58]], [0.5], (60, 40), "are its width and height exchanged"),
     ([[1, 2, np.nan, 58]], [0.5], (60, 40), "boxes that are not finite"),
     ([[-1, 0, 60.5, 41]], [1.0], (60, 40), None), ([[0, 0, 1, 1]], [0.0], (1, 1), None)],
)  # fmt: skip
def test_numbers_that_cannot_be_right_are_named(boxes, scores, size, said):
    found = wrong_numbers(np.array(boxes, np.float32), np.array(scores, np.float32), *size)
    assert found is None if said is None else said in (found or "")


def test_true_features_are_not_suspected():
    chance = np.random.default_rng(0)
    for values in (chance.normal(size=4000), np.maximum(chance.normal(size=4000), 0), chance.lognormal(-2, 2, 4000),
                   np.ones(4000), np.zeros(4000), chance.uniform(0, 1, 4000)):  # fmt: skip
        assert wrong_features(values.astype(np.float32).tobytes(), "float32") is None
        assert wrong_features(values.astype(np.float16).tobytes(), "float16") is None
    assert wrong_features(chance.bytes(4000), "float32") in (None, "read as float32, the features are noise")
