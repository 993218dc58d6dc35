"""A small corpus of coloured quadrants and sentences, and a detector for it that needs no model."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

COLOURS = {"dog": (200, 30, 30), "cat": (30, 200, 30), "kite": (30, 30, 200)}
PHOTOS = 150
SIDE = 32

DETECTOR = """
    import os
    import time
    import numpy as np
    from vlmixer.pipeline.image.detectors.base import Detections, no_detections

    class Quadrants:
        '''A region for every quadrant with a strong colour. Raises on a white image.

        QUADRANTS_DELAY: seconds that a photo takes. QUADRANTS_HOLD: a file; no photo is done while it exists.
        QUADRANTS_LOG: a file that gets a line for each photo. Unlike options they do not count as another detector.
        '''

        labels = ("dog", "cat", "kite", "zebra crossing")
        feature_dim = 6

        def __init__(self, weights, device, score_threshold, delay=0.0, log=None, broken=None):
            self.delay, self.log, self.broken = delay, log, broken

        def detect(self, images):
            return [self.one(image) for image in images]

        def one(self, image):
            time.sleep(self.delay or float(os.environ.get("QUADRANTS_DELAY", 0)))
            while os.path.exists(os.environ.get("QUADRANTS_HOLD", "")):
                time.sleep(0.05)
            log = os.path.join(self.log, "calls") if self.log else os.environ.get("QUADRANTS_LOG")
            if log:
                with open(log, "a") as file:
                    file.write(f"{os.getpid()}\\n")
            height, width = image.shape[:2]
            if image.min() > 250:
                raise RuntimeError("too bright")
            boxes, scores, labels, features = [], [], [], []
            for row in (0, 1):
                for column in (0, 1):
                    left, top = column * width // 2, row * height // 2
                    part = image[top : top + height // 2, left : left + width // 2].astype(np.float32)
                    mean = part.mean((0, 1))
                    if mean.max() < 90:
                        continue
                    boxes.append([left, top, left + width // 2, top + height // 2])
                    scores.append(mean.max() / 256)
                    labels.append(int(mean.argmax()))
                    features.append((part.reshape(-1, 3)[:2] - mean).ravel())
            if not boxes:
                return no_detections(self.feature_dim)
            features = np.array(features, np.float32)
            if self.broken == "nan":
                features[0, 0] = np.nan
            if self.broken == "shape":
                features = features[:, :3]
            return Detections(
                np.array(boxes, np.float32), np.array(scores, np.float32), np.array(labels, np.int64), features
            )
"""


@dataclass(frozen=True)
class Corpus:
    """Photos, sentences and a config over them, in a folder."""

    folder: Path
    photos: Path
    captions: Path
    write_config: Callable[..., Path]


def quadrant_photo(rng: np.random.Generator, names: Sequence[str]) -> Image.Image:
    """A photo whose four quadrants are the colours of the named concepts, or dark."""
    pixels = np.zeros((SIDE, SIDE, 3), np.float32)
    half = SIDE // 2
    for place, name in enumerate(names):
        row, column = divmod(place, 2)
        colour = np.array(COLOURS.get(name, (20, 20, 20)), np.float32)
        pixels[row * half : (row + 1) * half, column * half : (column + 1) * half] = colour
    pixels += rng.normal(0, 12, pixels.shape)
    return Image.fromarray(pixels.clip(0, 240).astype(np.uint8))


def make_corpus(tmp_path: Path) -> Corpus:
    """150 photos, 300 sentences, a detector, and configs over them."""
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(PHOTOS):
        names = rng.choice([*COLOURS, "nothing"], 4)
        quadrant_photo(rng, [*names[:3], "dog" if number % 2 else "kite"]).save(
            photos / f"{number:04d}.jpg", quality=90
        )
    nouns = ["a dog", "two dogs", "a puppy", "a cat", "kites", "a kite", "a tree", "the sea"]
    sentences = []
    for number in range(300):
        first, second = rng.choice(nouns, 2)
        sentences.append(f"{first} and {second} on day {number}")
    captions = tmp_path / "captions.txt"
    captions.write_text("\n".join(sentences) + "\n")
    vocabulary = tmp_path / "words.txt"
    vocabulary.write_text("dog, puppy\ncat\nkite\nhorse\n")
    (tmp_path / "quadrants.py").write_text(textwrap.dedent(DETECTOR))

    def write_config(name: str = "config.yaml", **sections: object) -> Path:
        content: dict[str, object] = {
            "seed": 3,
            "vocabulary": str(vocabulary),
            "text": {"inputs": [str(captions)], "spacy_model": "rules"},
            "images": {"inputs": [str(photos / "*")], "detector": "quadrants:Quadrants"},
            "bank": {"max_patches_per_concept": 40},
            "mix": {"samples_per_shard": 60, "views": 2},
        }
        for section, changes in sections.items():
            before = content.get(section)
            content[section] = (
                {**before, **changes} if isinstance(before, dict) and isinstance(changes, dict) else changes
            )
        path = tmp_path / name
        path.write_text(yaml.safe_dump(content))
        return path

    return Corpus(tmp_path, photos, captions, write_config)


def run(config: Path, out: Path | str, *arguments: str, command: str = "run", workers: int = 1) -> int:
    """The command in this process; returns its exit code."""
    from vlmixer.pipeline.commands.main import main

    return main([command, str(config), "--out", str(out), "--workers", str(workers), *arguments])


def contents(out: Path) -> dict[str, bytes]:
    """Every file of the four folders and of the rejects, and the record of them, by its path."""
    folders = ("tagged", "regions", "bank", "shards", "rejects")
    paths = [path for folder in folders for path in (out / folder).rglob("*") if path.is_file()]
    paths += [path for path in (out / "contents.json",) if path.exists()]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}
