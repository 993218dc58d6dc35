"""Does training align photos and sentences, and which part of the method does it? Retrieval on held-out pairs.

    python benchmarks/evidence.py --text CAPTIONS.txt.gz --images 'photos/*.jpg' … --test CAPTIONS.jsonl[@PART] …
           --out DIR [--detector pkg.module:Class --weights FILE] [--spacy-model PIPELINE] [--classes CLASSES.jsonl]
           [--part all|test|development] [--seeds 0 1 2] [--only VARIANT …] [--set train.steps=700 …]

CAPTIONS.jsonl has lines of {"image": name, "captions": [text, …]}, CLASSES.jsonl lines of {"image", "classes"} with the
visible classes of each; a list may have "classes" in its own lines. The captions of all lists are removed from the
text, and photos that look like one of theirs from the images. DIR keeps everything: rerun the command to resume.
DIR/evidence.md has a table per list and, of several lists, the mean over them, by which settings are chosen.
DIR/evidence.html has the held-out photos of the first list with the captions that the first seed's full model finds.
Choose settings on the part "development" of a list, report results on the part "test". @PART is --part for one list.
"""

import argparse
import gzip
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlmixer.artifacts import files, settings, stages
from vlmixer.artifacts.rng import stable_hash
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model.config import Settings
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.evaluate import retrieval
from vlmixer.model.scoring import RetrievalReport, RetrievalScore, score_matrix, tag_overlap
from vlmixer.pipeline.config import Config, ImageSettings, MixSettings, TextSettings
from vlmixer.pipeline.evaluation.ablation import VARIANTS, development_score, run_variant, table
from vlmixer.pipeline.evaluation.pairs import read_pairs
from vlmixer.pipeline.evaluation.retrieval import detect_images
from vlmixer.pipeline.jobs.chain import run_stages
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.report.alignment import write_alignment_page
from vlmixer.pipeline.text.numbers import named_concepts, tag_words
from vlmixer.pipeline.text.tagger import make_tagger

IMPORT_PATHS = (str(Path(__file__).resolve().parents[1]),)

THUMBNAIL = 16
ALIKE = 6.0
"""Two photos count as the same if their grey thumbnails differ by less than this on average, of 255."""
AMBIGUOUS = ("orange", "glass")
"""Words of the vocabulary that in captions mostly mean something else: the colour, the material."""
PARTS = ("all", "test", "development")
DEVELOPMENT_SHARE = 0.3
GALLERY_THRESHOLD = 0.2
"""Regions of test photos count from this score on; patches, whose labels are taught, from images.score_threshold on."""


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


def lists_of(options: argparse.Namespace) -> list[tuple[str, str]]:
    """The lists of pairs and the part of each that is measured."""
    lists = []
    for given in options.test:
        path, _, part = given.rpartition("@")
        lists.append((path, part) if path and part in PARTS else (given, options.part))
    return lists


def write_corpora(options: argparse.Namespace, out: Path) -> None:
    """The text without the lists' captions and the list of the images without the lists' photos, into `out`."""
    pairs = [pair for path, _ in lists_of(options) for pair in read_pairs(path).captions.items()]
    captions = {words_of(caption) for _, group in pairs for caption in group}
    kept = [line for line in lines_of(options.text) if words_of(line) not in captions]
    total = sum(1 for _ in lines_of(options.text))
    found = [stat.name for stat in files.expand(options.images, key="--images")]
    photos = unlike([str(Path(path).resolve()) for path in found], [path for path, _ in pairs])
    files.publish_bytes(str(out / "images.txt"), "".join(f"{path}\n" for path in photos).encode())
    files.publish_bytes(str(out / "text.txt"), "".join(f"{line}\n" for line in kept).encode())
    print(f"text: {len(kept):,} of {total:,} captions; images: {len(photos):,} of {len(found):,}", file=sys.stderr)


def pipeline_config(options: argparse.Namespace, out: Path) -> Config:
    """The config of the stages."""
    asked = settings.override({}, options.set).get("mix", {})
    return Config(
        mix=settings.build(MixSettings, asked, where="--set"),
        out=str(out),
        text=TextSettings(
            inputs=(str(out / "text.txt"),),
            spacy_model=options.spacy_model,
            stop_words=(*TextSettings().stop_words, *AMBIGUOUS),
        ),
        images=ImageSettings(
            inputs=(str(out / "images.txt"),), detector=options.detector, weights=options.weights, device="cpu"
        ),
    )


@dataclass(frozen=True)
class Gallery:
    """The test: photos as the detector sees them, their captions, and the concepts that the tagger finds in these.

    `seen`: concepts that can be seen in each photo, by "classes" of the list or of --classes; None if these lack one.
    """

    names: tuple[str, ...]
    images: tuple[ImageRegions, ...]
    captions: tuple[tuple[str, ...], ...]
    concepts: tuple[tuple[dict[str, bool], ...], ...]
    seen: tuple[frozenset[str], ...] | None

    def part(self, part: str) -> "Gallery":
        """The photos that belong to `part`."""
        rows = [row for row, name in enumerate(self.names) if in_part(name, part)]
        return Gallery(
            names=tuple(self.names[row] for row in rows),
            images=tuple(self.images[row] for row in rows),
            captions=tuple(self.captions[row] for row in rows),
            concepts=tuple(self.concepts[row] for row in rows),
            seen=None if self.seen is None else tuple(self.seen[row] for row in rows),
        )


def load_gallery(pairs_file: str, classes: str | None, config: Config, folder: Path) -> Gallery:
    """A whole list of pairs; what the detector finds is kept in `folder`, because it takes longest."""
    vocabulary = load_vocabulary(config.vocabulary)
    images = replace(config.images, score_threshold=GALLERY_THRESHOLD)
    found, skipped = see(pairs_file, replace(config, images=images), folder)
    for name, reason in skipped.items():
        print(f"not used: {name}: {reason}", file=sys.stderr)
    pairs = read_pairs(pairs_file).captions
    captions = tuple(tuple(pairs[name]) for name in found)
    tagger = make_tagger(config.text, vocabulary)
    concepts = tuple(tuple(named_concepts(tagged.mentions) for tagged in tagger.tag(list(group))) for group in captions)
    records = {
        Path(record["image"]).name: record["classes"]
        for path in (pairs_file, *([classes] if classes else []))
        for record in map(json.loads, lines_of(path))
        if "classes" in record
    }
    seen = None
    if all(Path(name).name in records for name in found):
        ids = {label: vocabulary.map_labels([label])[0] for group in records.values() for label in group}
        seen = tuple(
            frozenset(
                vocabulary.names[number] for label in records[Path(name).name] if (number := ids[label]) is not None
            )
            for name in found
        )
    return Gallery(tuple(found), tuple(found.values()), captions, concepts, seen)


def see(pairs: str, config: Config, folder: Path) -> tuple[dict[str, ImageRegions], dict[str, str]]:
    """What the detector finds in the photos of the list, by name; kept in `folder`."""
    kept = folder / "found.json"
    if not kept.exists():
        seen = detect_images(list(read_pairs(pairs).captions), config, IMPORT_PATHS)
        found, skipped = seen.found, seen.skipped
        folder.mkdir(exist_ok=True)
        arrays = {f"{row}.{name}": getattr(image, name) for row, image in enumerate(found.values())
                  for name in ("features", "boxes")}  # fmt: skip
        np.savez(folder / "regions.npz", **arrays)
        rows = [[name, image.width, image.height, list(image.labels)] for name, image in found.items()]
        files.publish_bytes(str(kept), json.dumps({"images": rows, "skipped": skipped}).encode())
    content = json.loads(kept.read_text())
    with np.load(folder / "regions.npz") as arrays:
        images = {
            name: ImageRegions(
                features=arrays[f"{row}.features"],
                boxes=arrays[f"{row}.boxes"],
                width=width,
                height=height,
                tags=tuple(dict.fromkeys(labels)),
                labels=tuple(labels),
                tag_words=tag_words(labels),
            )
            for row, (name, width, height, labels) in enumerate(content["images"])
        }
    return images, content["skipped"]


def perfect_tags(gallery: Gallery) -> list[RetrievalScore]:
    """What tag overlap would reach with a detector that sees all that can be seen, where that is known."""
    if gallery.seen is None:
        return []
    owner = np.repeat(np.arange(len(gallery.images)), [len(group) for group in gallery.captions])
    concepts = [set(found) for group in gallery.concepts for found in group]
    detected = [image.tags for image in gallery.images]
    matrix, overlap = (tag_overlap(concepts, [set(tags) for tags in found]) for found in (gallery.seen, detected))
    return [score_matrix("perfect tags", matrix, overlap, owner, True, 1000, 0)]


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """The options that say what to train on and what to measure with."""
    parser.add_argument("--text", required=True)
    parser.add_argument("--images", required=True, nargs="+")
    parser.add_argument("--test", required=True, nargs="+", metavar="CAPTIONS.jsonl[@PART]")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--detector", default=ImageSettings().detector)
    parser.add_argument("--weights", default="default")
    parser.add_argument("--spacy-model", default="auto")
    parser.add_argument("--classes")
    parser.add_argument("--part", choices=PARTS, default="all")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of mix, model or train"
    )


def prepare(options: argparse.Namespace) -> tuple[Config, list[tuple[str, str, Gallery]]]:
    """Run the stages in --out, or what is left of them. Returns their config; and each list, its part and gallery."""
    logging.basicConfig(level=logging.ERROR)
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "text.txt").exists():
        write_corpora(options, out)
    config = pipeline_config(options, out)
    run_stages(config, stages.NAMES, Engine(), overwrite=False, import_paths=IMPORT_PATHS)
    galleries = []
    for number, (path, part) in enumerate(lists_of(options)):
        folder = out / "-".join(["gallery", str(GALLERY_THRESHOLD), *([str(number)] if number else [])])
        galleries.append((path, part, load_gallery(path, options.classes, config, folder).part(part)))
    return config, galleries


def training_settings(options: argparse.Namespace) -> Settings:
    """The settings of the network and of its training."""
    asked = [assignment for assignment in options.set if not assignment.startswith("mix.")]
    return settings.build(Settings, settings.override({}, asked), where="--set")


def measure(run: str, gallery: Gallery) -> RetrievalReport:
    """Retrieval among the photos of `gallery`."""
    return retrieval(run, gallery.images, gallery.captions, gallery.concepts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_corpora(parser)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    options = parser.parse_args()
    out: Path = options.out
    _, galleries = prepare(options)
    lists: list[dict[str, list[RetrievalReport]]] = [{} for _ in galleries]
    for seed in options.seeds:
        for name in options.only:
            run = run_variant(name, replace(training_settings(options), seed=seed, out=str(out)))
            sections = []
            for reports, (path, part, gallery) in zip(lists, galleries, strict=True):
                reports.setdefault(name, []).append(measure(run, gallery))
                note = (
                    f"{'/'.join(Path(path).parts[-2:])}, part {part}; regions from score {GALLERY_THRESHOLD} on; "
                    f"{' '.join(options.set) or 'default settings'}."
                )
                sections.append(table(reports, perfect_tags(gallery), note))
            if len(lists) > 1:
                sections.append(development_score(lists))
            text = "\n".join(sections)
            files.publish_bytes(str(out / "evidence.md"), text.encode())
            recall = ", ".join(f"{reports[name][-1].score('regions').recall[10].value:.1f}" for reports in lists)
            print(f"{name}, seed {seed}: {recall}", file=sys.stderr)
            if name == "c" and seed == options.seeds[0]:
                shown = galleries[0][2]
                captions = [list(group) for group in shown.captions]
                write_alignment_page(str(out / "evidence.html"), run, shown.names, shown.images, captions)
    print(text)


if __name__ == "__main__":
    main()
