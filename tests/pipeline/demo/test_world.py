"""A written world: the same bytes for any number of workers, and three corpora from different scenes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vlmixer.pipeline.demo.captions import scene_captions, sentences
from vlmixer.pipeline.demo.categories import INDEX
from vlmixer.pipeline.demo.scenes import CANVAS, plan_scene
from vlmixer.pipeline.demo.world import CAPTIONS_PER_PAIR, PAIRS, PHOTOS, SENTENCES, DemoWorld, write_world


def _write(folder: Path, seed: int = 0, workers: int = 1) -> DemoWorld:
    return write_world(folder, seed=seed, photos=40, sentences=60, pairs=10, workers=workers)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    _write(folder)
    return folder


def test_the_bytes_do_not_depend_on_the_workers(folder: Path, tmp_path: Path) -> None:
    _write(tmp_path, workers=2)
    assert _bytes(tmp_path) == _bytes(folder)


def test_another_seed_gives_another_world(folder: Path, tmp_path: Path) -> None:
    _write(tmp_path, seed=1)
    ours, theirs = _bytes(folder), _bytes(tmp_path)
    assert set(ours) == set(theirs)
    assert {name for name in ours if ours[name] == theirs[name]} == {"vocabulary.txt"}


def test_what_is_written_where(folder: Path) -> None:
    world = _write(folder)
    assert world == DemoWorld(
        folder / "photos",
        folder / "boxes.jsonl",
        folder / "captions.txt",
        folder / "vocabulary.txt",
        folder / "pairs" / "captions.jsonl",
    )
    assert sorted(path.name for path in world.photos.iterdir()) == [f"scene-{index:06d}.jpg" for index in range(40)]
    texts = [caption.text for caption in sentences(0, SENTENCES, 60)]
    assert world.captions.read_text(encoding="utf-8").splitlines() == texts


def test_gold_boxes_belong_to_the_photos(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "boxes.jsonl").read_text().splitlines()]
    assert [line["image"] for line in lines] == [f"scene-{index:06d}.jpg" for index in range(40)]
    for index, line in enumerate(lines):
        with Image.open(folder / "photos" / line["image"]) as picture:
            assert picture.size == (CANVAS, CANVAS)
        assert [box["label"] for box in line["boxes"]] == [t.kind for t in plan_scene(0, PHOTOS, index).things]
        assert all(box["label"] in INDEX for box in line["boxes"])
        boxes = np.array([box["xyxy"] for box in line["boxes"]])
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        assert boxes.min() >= 0
        assert boxes.max() <= CANVAS


def test_pairs_are_pictures_with_their_own_sentences(folder: Path) -> None:
    lines = [json.loads(line) for line in (folder / "pairs" / "captions.jsonl").read_text().splitlines()]
    images = sorted(path.name for path in (folder / "pairs" / "images").iterdir())
    assert [line["image"] for line in lines] == images
    for index, line in enumerate(lines):
        told = scene_captions(0, PAIRS, index, CAPTIONS_PER_PAIR)
        assert line["captions"] == [caption.text for caption in told]
        kinds = {thing.kind for thing in plan_scene(0, PAIRS, index).things}
        assert {name.category for caption in told for name in caption.names} <= kinds


def test_the_corpora_come_from_different_scenes() -> None:
    splits = [{plan_scene(0, split, index) for index in range(300)} for split in (PHOTOS, SENTENCES, PAIRS)]
    assert all(len(split) == 300 for split in splits)
    assert len(set.union(*splits)) == 900
