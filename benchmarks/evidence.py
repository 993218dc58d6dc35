"""Does training align photos and sentences, and which part of it does? Retrieval on pairs never trained on.

    python benchmarks/evidence.py --text CAPTIONS.txt.gz --images 'photos/*.jpg' … --test CAPTIONS.jsonl --out DIR
           [--detector pkg.module:Class --weights FILE] [--spacy-model PIPELINE] [--classes CLASSES.jsonl]
           [--part all|test|development] [--seeds 0 1 2] [--steps N] [--set KEY=VALUE …] [--only VARIANT …]

CAPTIONS.jsonl holds lines of {"image": name, "captions": [text, …]}, CLASSES.jsonl lines of {"image", "classes"} with
what can be seen in each. Captions of the test are taken out of the text, photos that look like one of the test out of
the images. Everything is kept in DIR, so the command goes on where it was stopped; DIR/evidence.md and
DIR/evidence.html are the result.
"""

import argparse
import gzip
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artifacts import files
from artifacts.rng import stable_hash
from bank.concepts import load_vocabulary
from model.evaluate import ImageRegions
from pipeline.config import Config, ImageSettings, MixSettings, TextSettings
from pipeline.evaluate import detect_pairs, read_pairs
from pipeline.jobs.tag import make_tagger

IMPORT_PATHS = (str(Path(__file__).resolve().parents[1]),)

THUMBNAIL = 16
ALIKE = 6.0
"""Photos are taken for the same one if their grey thumbnails differ by less than this on average, of 255."""
AMBIGUOUS = ("orange", "glass")
"""Words of the vocabulary that in captions mostly mean something else: the colour, the material."""
DEVELOPMENT_SHARE = 0.3


def words_of(text: str) -> str:
    """A caption's words in lower case, by which equal captions are known whatever their marks."""
    return " ".join(re.findall(r"[a-z0-9]+", text.lower()))


def in_part(image: str, part: str) -> bool:
    """Whether a photo of the list belongs to `part`; settings are chosen on "development" alone."""
    development = stable_hash("development", Path(image).name) % 1000 < 1000 * DEVELOPMENT_SHARE
    return part == "all" or development == (part == "development")


def thumbnail(path: str) -> np.ndarray:
    """(THUMBNAIL ** 2,) float32, the photo in grey, stretched to a square."""
    with Image.open(path) as photo:
        photo.draft("L", (4 * THUMBNAIL, 4 * THUMBNAIL))
        grey = ImageOps.exif_transpose(photo).convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(grey, np.float32).reshape(-1)


def unlike(candidates: Sequence[str], held_out: Sequence[str]) -> list[str]:
    """The candidates that look like none of `held_out`."""
    theirs = np.stack([thumbnail(path) for path in held_out])
    return [path for path in candidates if np.abs(theirs - thumbnail(path)).mean(1).min() >= ALIKE]


def lines_of(path: str) -> Iterator[str]:
    with gzip.open(path, "rt", encoding="utf-8") if path.endswith(".gz") else open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                yield line.strip()


def write_corpora(options: argparse.Namespace, out: Path) -> None:
    """The text without the test's captions and the list of the images without the test's photos, into `out`."""
    pairs = read_pairs(options.test)
    captions = {words_of(caption) for _, group in pairs for caption in group}
    kept = [line for line in lines_of(options.text) if words_of(line) not in captions]
    total = sum(1 for _ in lines_of(options.text))
    found = [stat.name for stat in files.expand(options.images, key="--images")]
    photos = unlike([str(Path(path).resolve()) for path in found], [path for path, _ in pairs])
    files.publish_bytes(str(out / "images.txt"), "".join(f"{path}\n" for path in photos).encode())
    files.publish_bytes(str(out / "text.txt"), "".join(f"{line}\n" for line in kept).encode())
    print(f"text: {len(kept):,} of {total:,} captions; images: {len(photos):,} of {len(found):,}", file=sys.stderr)


def pipeline_config(options: argparse.Namespace, out: Path) -> Config:
    """The config of the stages and of the training."""
    return Config(
        out=str(out),
        text=TextSettings(
            inputs=(str(out / "text.txt"),),
            spacy_model=options.spacy_model,
            stop_words=(*TextSettings().stop_words, *AMBIGUOUS),
        ),
        images=ImageSettings(
            inputs=(str(out / "images.txt"),), detector=options.detector, weights=options.weights, device="cpu"
        ),
        mix=MixSettings(),
    )


@dataclass(frozen=True)
class Gallery:
    """The test: photos as the detector sees them, their captions, and the concepts that the tagger finds in these.

    `seen`: concepts that can be seen in each photo, by --classes; None without that file.
    """

    names: tuple[str, ...]
    images: tuple[ImageRegions, ...]
    captions: tuple[tuple[str, ...], ...]
    concepts: tuple[tuple[frozenset[str], ...], ...]
    seen: tuple[frozenset[str], ...] | None

    def part(self, part: str) -> "Gallery":
        """The photos that belong to `part`."""
        rows = [row for row, name in enumerate(self.names) if in_part(name, part)]
        fields = (self.names, self.images, self.captions, self.concepts)
        seen = None if self.seen is None else tuple(self.seen[row] for row in rows)
        return Gallery(*(tuple(field[row] for row in rows) for field in fields), seen)


def load_gallery(options: argparse.Namespace, config: Config, out: Path) -> Gallery:
    """The whole test list; what the detector finds is kept in `out`, because it takes longest."""
    vocabulary = load_vocabulary(config.vocabulary)
    found, skipped = see(options.test, config, out / "gallery")
    for name, reason in skipped.items():
        print(f"not used: {name}: {reason}", file=sys.stderr)
    pairs = dict(read_pairs(options.test))
    captions = tuple(tuple(pairs[name]) for name in found)
    tagger = make_tagger(config.text, vocabulary)
    concepts = tuple(
        tuple(frozenset(mention.concept for mention in tagged.mentions) for tagged in tagger.tag(group))
        for group in captions
    )
    seen = None
    if options.classes:
        records = {(record := json.loads(line))["image"]: record["classes"] for line in lines_of(options.classes)}
        ids = {label: vocabulary.map_labels([label])[0] for group in records.values() for label in group}
        seen = tuple(
            frozenset(vocabulary.names[ids[label]] for label in records[Path(name).name] if ids[label] is not None)
            for name in found
        )
    return Gallery(tuple(found), tuple(found.values()), captions, concepts, seen)


def see(pairs: str, config: Config, folder: Path) -> tuple[dict[str, ImageRegions], dict[str, str]]:
    """What the detector finds in the photos of the list, by name; kept in `folder`."""
    kept = folder / "regions.json"
    if not kept.exists():
        found, skipped = detect_pairs(pairs, config, IMPORT_PATHS)
        folder.mkdir(exist_ok=True)
        arrays = {f"{row}.{name}": getattr(image, name) for row, image in enumerate(found.values())
                  for name in ("features", "boxes")}  # fmt: skip
        np.savez(folder / "regions.npz", **arrays)
        rows = [[name, image.width, image.height, list(image.tags)] for name, image in found.items()]
        files.publish_bytes(str(kept), json.dumps({"images": rows, "skipped": skipped}).encode())
    content = json.loads(kept.read_text())
    with np.load(folder / "regions.npz") as arrays:
        images = {
            name: ImageRegions(arrays[f"{row}.features"], arrays[f"{row}.boxes"], width, height, tuple(tags))
            for row, (name, width, height, tags) in enumerate(content["images"])
        }
    return images, content["skipped"]
