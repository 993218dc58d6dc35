"""Writes a drawn world: unrelated pictures and sentences, and held-out pairs.

The three come from different scenes: scenes of sentences are never drawn, scenes of pictures never described. Only the
held-out pairs are both, and they are for evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from vlmixer.pipeline.demo import captions
from vlmixer.pipeline.demo.categories import vocabulary
from vlmixer.pipeline.demo.scenes import draw_scene, plan_scene

PHOTOS, SENTENCES, PAIRS = "photos", "sentences", "pairs"
"""The splits of scenes that make up a world."""

CAPTIONS_PER_PAIR = 5
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class DemoWorld:
    """Where the parts of a written world are."""

    photos: Path
    """The folder of the training pictures; it holds nothing else."""
    boxes: Path
    """Their gold boxes: lines of {"image", "boxes": [{"label", "xyxy"}]}, pixels; for measuring, never for training."""
    captions: Path
    """The training sentences, one per line."""
    vocabulary: Path
    """One concept per line: name, synonym, …"""
    pairs: Path
    """Held-out pairs: lines of {"image", "captions": [5 sentences]}; the images are in `images/` next to this file."""


def write_world(out: Path, *, seed: int, photos: int, sentences: int, pairs: int, workers: int = 1) -> DemoWorld:
    """Writes a world into `out`. The same seed gives the same bytes.

    Args:
        out: a folder, created if needed; files of the same names are replaced.
        seed: another seed gives another world of the same kind.
        photos: number of training pictures, 256 × 256 JPEG.
        sentences: number of training sentences.
        pairs: number of held-out pictures, each with five sentences.
        workers: number of processes that draw; the bytes do not depend on it.
    """
    world = DemoWorld(
        photos=out / "photos",
        boxes=out / "boxes.jsonl",
        captions=out / "captions.txt",
        vocabulary=out / "vocabulary.txt",
        pairs=out / "pairs" / "captions.jsonl",
    )
    pair_images = world.pairs.parent / "images"
    for folder in (world.photos, pair_images):
        folder.mkdir(parents=True, exist_ok=True)

    world.vocabulary.write_text(vocabulary(), encoding="utf-8")
    with _calling(workers) as call:
        _write_lines(world.captions, call(partial(_sentence, seed), range(sentences)))
        _write_lines(world.boxes, call(partial(_write_photo, seed, world.photos), range(photos)))
        _write_lines(world.pairs, call(partial(_write_pair, seed, pair_images), range(pairs)))
    return world


Call = Callable[[Callable[[int], str], Iterable[int]], Iterator[str]]
"""Like `map`."""


@contextmanager
def _calling(workers: int) -> Iterator[Call]:
    """What calls a function with numbers, in this many processes."""
    if workers == 1:
        yield map
        return
    # Spawned, not forked: the caller may have running threads, torch's or Beam's.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield partial(pool.map, chunksize=32)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(lines)


def _sentence(seed: int, index: int) -> str:
    """A training sentence, as a line."""
    return captions.sentence(seed, SENTENCES, index).text + "\n"


def _draw(seed: int, split: str, index: int, folder: Path) -> tuple[str, list[dict[str, object]]]:
    """Draws one scene into `folder`; returns the file's name and its gold boxes."""
    scene = plan_scene(seed, split, index)
    picture, boxes = draw_scene(scene)
    name = f"scene-{index:06d}.jpg"
    picture.save(folder / name, quality=_JPEG_QUALITY)
    pairs = zip(scene.things, boxes.tolist(), strict=True)
    return name, [{"label": thing.kind, "xyxy": box} for thing, box in pairs]


def _write_photo(seed: int, folder: Path, index: int) -> str:
    """Draws a training picture; returns its line of gold boxes."""
    name, boxes = _draw(seed, PHOTOS, index, folder)
    return json.dumps({"image": name, "boxes": boxes}) + "\n"


def _write_pair(seed: int, folder: Path, index: int) -> str:
    """Draws a held-out picture; returns its line of sentences."""
    name, _ = _draw(seed, PAIRS, index, folder)
    found = captions.scene_captions(seed, PAIRS, index, CAPTIONS_PER_PAIR)
    return json.dumps({"image": name, "captions": [caption.text for caption in found]}) + "\n"
