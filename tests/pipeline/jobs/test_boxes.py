"""The stage `detect` and what follows with boxes from files, as a user calls the commands."""

import json
import os
import re
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.pipeline.image.boxes.box_files import box, image, sample, write_coco, write_results, write_samples
from tests.pipeline.image.encoders.small_encoders import write_timm
from tests.pipeline.jobs.small_corpus import SIDE, Corpus, contents, make_corpus, run

from vlmixer.artifacts import manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import read_rejects
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank import PatchBank
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import load_config
from vlmixer.pipeline.image.embedding import embedder, own_config
from vlmixer.pipeline.planning.probe_run import run_sample
from vlmixer.pipeline.planning.sampling import take_sample

TIMM = "timm:test_efficientnet"
HALF = SIDE // 2


def gold(corpus: Corpus):
    """COCO's images and boxes of the photos: a dog in the first quadrant, a cat in the last, a zebra crossing."""
    photos = sorted(corpus.photos.iterdir())
    images = [image(number, path.name, SIDE, SIDE) for number, path in enumerate(photos)]
    boxes = [
        box(number, (*corner, HALF, HALF), category)
        for number in range(len(photos))
        for corner, category in (((0, 0), 1), ((HALF, HALF), 2), ((0, HALF), 9))
    ]
    return images, boxes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    """Twelve photos, an encoder, and gold boxes as COCO writes them."""
    corpus = make_corpus(tmp_path_factory.mktemp("corpus"))
    for path in sorted(corpus.photos.iterdir())[12:]:
        path.unlink()
    write_timm("test_efficientnet", corpus.folder / "w.safetensors")
    images, boxes = gold(corpus)
    write_coco(corpus.folder / "gold.json", boxes, images)
    assert run(config_of(corpus, "gold.json"), corpus.folder / "out") == 0
    return corpus


def config_of(corpus: Corpus, boxes: str, name: str = "config.yaml", **more: Any) -> Path:
    """A config with the boxes of a file in the corpus' folder."""
    images = {
        "detector": f"boxes:{corpus.folder / boxes}", "features": TIMM, "device": "cpu",
        "feature_options": {TIMM: {"weights": str(corpus.folder / "w.safetensors"), "size": 64}},
    } | more  # fmt: skip
    return corpus.write_config(name, images=images)


def regions(out: Path):
    parts = sorted((out / "regions").glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def details_of(out: Path) -> Any:
    return manifest.read(str(out / "regions"), DETECT)


def rejects(out: Path):
    found = [reject for path in sorted((out / "rejects").glob("detect-*")) for reject in read_rejects(str(path))]
    return Counter({(each.reason, Path(each.key or each.source).name): each.number for each in found})


def test_gold_boxes_become_regions_with_features_of_the_encoder(corpus):
    out = corpus.folder / "out"
    rows = regions(out)
    assert Counter(row["concept"] for row in rows) == {"dog": 12, "cat": 12}
    assert {tuple(row["box"]) for row in rows if row["concept"] == "cat"} == {(HALF, HALF, SIDE, SIDE)}
    assert {row["score"] for row in rows} == {1.0}
    found = details_of(out)
    assert found.counts["boxes"].read == found.counts["boxes"].written == 36
    assert found.details.labels_not_in_vocabulary == ("zebra crossing",)
    assert found.details.feature_dim == len(rows[0]["feature"]) > 6
    assert found.details.detector.name == "boxes"
    assert found.details.detector.features[0]["name"] == TIMM
    assert str(corpus.folder) not in str(found.details.detector)
    assert {"timm", "torch"} <= set(found.versions)
    assert (out / "shards" / "manifest.json").exists()
    assert main(["verify", str(out)]) == 0


def test_results_and_samples_give_the_same_regions(corpus, tmp_path):
    images, boxes = gold(corpus)
    write_results(corpus.folder / "results.json", [one | {"score": 1} for one in boxes])
    write_coco(corpus.folder / "named.json", [], images)
    names = {1: "dog", 2: "cat", 9: "zebra crossing"}
    write_samples(
        corpus.folder / "samples.json",
        *(
            sample(
                f"data/{one['file_name']}",
                *(
                    (names[each["category_id"]], np.array(each["bbox"]) / SIDE)
                    for each in boxes
                    if each["image_id"] == one["id"]
                ),
                field="predictions",
            )
            for one in images
        ),
    )
    named = {"annotations": str(corpus.folder / "named.json")}
    kept = [(row["image_id"], row["box"], row["concept"], row["feature"]) for row in regions(corpus.folder / "out")]
    for name, options in (("results", named), ("samples", {"field": "predictions"})):
        config = config_of(corpus, f"{name}.json", f"{name}.yaml", detector_options=options)
        assert run(config, tmp_path / name, command="detect") == 0
        again = regions(tmp_path / name)
        assert [(row["image_id"], row["box"], row["concept"], row["feature"]) for row in again] == kept


def test_two_workers_write_the_same_bytes(corpus, tmp_path):
    assert run(corpus.folder / "config.yaml", tmp_path / "out", workers=2) == 0
    assert contents(tmp_path / "out") == contents(corpus.folder / "out")


def test_what_is_wrong_with_photos_and_boxes_is_counted_and_a_resumed_run_gives_the_same(corpus, tmp_path, capsys):
    images, boxes = gold(corpus)
    images[1] |= {"width": SIDE * 2}
    del images[2]["width"]
    boxes[3 * 2] |= {"bbox": [0, 0, 500, 500]}
    boxes = [one for one in boxes if one["image_id"] != 3]
    unlisted = images.pop(4)["file_name"]
    images.append(image(77, "absent.jpg"))
    boxes += [box(77), box(77, (1, 1, 3, 3)), box(5, iscrowd=1), box(5, (0, 0, 0, 0)), boxes[0]]
    write_coco(corpus.folder / "bad.json", boxes, images)
    config = config_of(corpus, "bad.json", "bad.yaml")
    assert run(config, tmp_path / "out", command="detect") == 1
    assert "4 of 38 boxes were bad (4 bad_box), but max_bad_fraction allows only 5%" in capsys.readouterr().err
    wide = ("--set", "max_bad_fraction=0.9")
    assert run(config, tmp_path / "out", *wide, command="detect") == 0
    assert run(config, tmp_path / "fresh", *wide, command="detect") == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")
    assert main(["verify", str(tmp_path / "out")]) == 0
    counts = details_of(tmp_path / "out").counts
    assert counts["images"].rejected == {"bad_record": 2, "no_region": 1, "unlisted_photo": 1}
    assert counts["boxes"].rejected == {"absent_photo": 2, "bad_box": 4, "crowd": 1, "duplicate": 1}
    assert rejects(tmp_path / "out") == {
        ("bad_record", "0001.jpg"): 1, ("bad_record", "0002.jpg"): 1, ("no_region", "0003.jpg"): 1,
        ("unlisted_photo", unlisted): 1, ("absent_photo", "absent.jpg"): 2, ("bad_box", "image 4"): 1,
        ("bad_box", "box 37"): 1, ("crowd", "box 36"): 1, ("duplicate", "bad.json"): 1,
    }  # fmt: skip


def test_another_content_of_the_file_is_another_run(corpus, tmp_path, capsys):
    out = Path(shutil.copytree(corpus.folder / "out", tmp_path / "out"))
    images, boxes = gold(corpus)
    assert run(corpus.folder / "config.yaml", out, command="detect") == 0
    path = write_coco(corpus.folder / "gold2.json", boxes, images)
    config = config_of(corpus, path.name, "changed.yaml")
    assert run(config, tmp_path / "new", command="detect") == 0
    write_coco(
        path, [one | {"bbox": [1, *one["bbox"][1:]]} if one["category_id"] == 1 else one for one in boxes], images
    )
    assert run(config, tmp_path / "new", command="detect") == 1
    assert "setting detector" in capsys.readouterr().err


def test_a_dry_run_reads_the_file(corpus, tmp_path, capsys):
    config = corpus.folder / "config.yaml"
    assert run(config, tmp_path / "out", "--dry-run") == 0
    assert "gold.json, 36 boxes of 12 photos, features of width" in capsys.readouterr().out
    (corpus.folder / "captions.json").write_text(json.dumps({"annotations": [{"image_id": 1, "caption": "a dog"}]}))
    assert run(config_of(corpus, "captions.json", "captions.yaml"), tmp_path / "out", "--dry-run") == 2
    error = capsys.readouterr().err
    assert "images.detector_options.annotations" in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            {"features": "detector", "feature_options": {}},
            r"images\.features: boxes:FILE has boxes and no features",
        ),
        ({"features": ["detector", TIMM]}, "boxes:FILE has boxes and no features"),
        ({"weights": "w.safetensors"}, r"images\.weights: boxes:FILE has none\. Leave the key out\."),
        ({"detector_options": {"fields": "x"}}, "boxes takes annotations and field, each a text, and no 'fields'"),
        ({"inputs": []}, r"images\.inputs: empty"),
    ],
)
def test_settings_that_boxes_cannot_have(images, message, corpus, tmp_path, capsys):
    config = config_of(corpus, "gold.json", "wrong.yaml", **images)
    assert run(config, tmp_path / "out", command="detect") == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_bank_is_searched_for_a_whole_picture_without_the_boxes(corpus, tmp_path, capsys):
    out = Path(shutil.copytree(corpus.folder / "out", tmp_path / "out"))
    bank = PatchBank.open(str(out / "bank"))
    shutil.move(corpus.folder / "gold.json", corpus.folder / "moved.json")
    try:
        embed = embedder(str(out / "bank"))
        picture = tmp_path / "crop.png"
        record = bank.record(0)
        with Image.open(record.source) as photo:
            left, top, right, bottom = map(int, record.box)
            photo.crop((left, top, right, bottom)).save(picture)
        with Image.open(picture) as crop:
            feature = embed(crop, None)
        own = bank.features([0])[0].astype(np.float32)
        assert feature.shape == own.shape
        assert float(own @ feature) / float(np.linalg.norm(own) * np.linalg.norm(feature)) > 0.99
        assert main(["bank", "query", str(out / "bank"), "--like", str(picture), "--json"]) == 0
        hits = json.loads(capsys.readouterr().out)["hits"]
        assert hits[0]["patch_id"] == record.patch_id
    finally:
        shutil.move(corpus.folder / "moved.json", corpus.folder / "gold.json")
    own_config(str(out / "bank"))  # the config next to the bank is harmless


def test_a_bank_of_other_encoders_is_not_searched(corpus):
    other = config_of(corpus, "gold.json", "other.yaml", feature_options={TIMM: {
        "weights": str(corpus.folder / "w.safetensors"), "size": 32,
    }})  # fmt: skip
    with pytest.raises(UserError, match=r"not the detector that .* was built with"):
        embedder(str(corpus.folder / "out" / "bank"), str(other))


def test_other_images_need_a_detector(corpus):
    from vlmixer.pipeline.evaluation.retrieval import detect_images

    config = load_config(str(corpus.folder / "config.yaml"))
    with pytest.raises(CallError, match="boxes:FILE has the boxes of its own photos; other images need a detector"):
        detect_images([str(next(corpus.photos.iterdir()))], config, ())


def test_a_plan_measures_photos_in_a_tar(corpus, tmp_path):
    with tarfile.open(corpus.folder / "photos.tar", "w") as tar:
        tar.add(corpus.photos, "photos")
    config = load_config(
        str(config_of(corpus, "gold.json", "tar.yaml", inputs=[str(corpus.folder / "photos.tar")])), out="unused"
    )
    found = run_sample(tmp_path / "probe", config, load_vocabulary(config.vocabulary), take_sample(config), ())
    assert found.regions == {"dog": 12, "cat": 12}


def test_boxes_that_were_only_touched_are_the_same(corpus, tmp_path, capsys):
    images, boxes = gold(corpus)
    path = corpus.folder / "touched.json"
    write_coco(path, boxes, images)
    config = config_of(corpus, path.name, "touched.yaml")
    assert run(config, tmp_path / "out", command="detect") == 0
    os.utime(path, ns=(0, 0))
    capsys.readouterr()
    assert run(config, tmp_path / "out", command="detect") == 0
    assert "comparing 1 input files by content" in capsys.readouterr().err
    path.write_bytes(path.read_bytes().replace(b"9", b"8"))
    assert run(config, tmp_path / "out", command="detect") == 1
    assert "stage 'detect' was run with something else" in capsys.readouterr().err
