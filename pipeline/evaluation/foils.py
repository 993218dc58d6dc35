"""Foils: reads lists of captions with wrong variants, or makes them from a list of pairs, and measures a run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rng import generator
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model.foils import FoilCase, FoilReport, foils
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.evaluation.pairs import json_lines, place_of
from vlmixer.pipeline.evaluation.retrieval import DetectedImages, detect_images
from vlmixer.pipeline.text.tagger import Tagger

LINE = '{"image": name, "caption": text, "foils": [text, …]}'
SWAP = "another concept's name"


@dataclass(frozen=True)
class FoilList:
    """Captions with foils. blank: captions and foils that are empty, and captions that are left without a foil."""

    cases: list[FoilCase]
    blank: int = 0

    def describe(self) -> str:
        """One line for people."""
        images = len({case.image for case in self.cases})
        dropped = f"; {self.blank:,} blank captions or foils left out" if self.blank else ""
        return f"{len(self.cases):,} captions with foils, {images:,} images{dropped}"


def evaluate_foils(
    run: str, cases: Sequence[FoilCase], config: Config, import_paths: Sequence[str]
) -> tuple[FoilReport, DetectedImages]:
    """How often the run prefers captions to their foils; and what the detector found. Raises UserError, CallError."""
    images = detect_images(list(dict.fromkeys(case.image for case in cases)), config, import_paths)
    used = [case for case in cases if case.image in images.found]
    if not used:
        reasons = json.dumps(images.skipped, ensure_ascii=False)[:500]
        raise UserError(f"None of the list's images could be used: {reasons}")
    return foils(run, images.found, used), images


def read_foils(path: str, folder: str | None = None) -> FoilList:
    """The cases in lines of {"image": name, "caption": text, "foils": [text, …]}, with "kind" if a line has it.

    folder: where the images are. Without it, names are relative to the list's folder or to `images/` in it. Raises
    CallError that names the line.
    """
    cases, blank = [], 0
    try:
        for number, record in json_lines(path, LINE):
            name, caption, wrong = (record.get(key) for key in ("image", "caption", "foils"))
            listed = wrong if isinstance(wrong, list) else []
            if not name or not listed or not all(isinstance(text, str) for text in (name, caption, *listed)):
                raise CallError(
                    f"{path}, line {number}: expected {LINE}; image and caption must be text, foils a list of at least "
                    "one text."
                )
            kept = tuple(text for text in listed if text.strip())
            blank += len(listed) - len(kept)
            if not str(caption).strip() or not kept:
                blank += 1
                continue
            kind = str(record.get("kind", "all"))
            cases.append(FoilCase(place_of(str(name), path, folder), str(caption), kept, kind))
    except FileNotFoundError:
        raise CallError(f"{path}: no such file. Expected JSON lines: {LINE}.") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{path}: expected UTF-8 text: {error}") from None
    if not cases:
        raise CallError(f"{path}: contains no caption with foils.")
    return FoilList(cases, blank)


def swapped(captions: Mapping[str, list[str]], config: Config) -> list[FoilCase]:
    """One case per caption that mentions a concept: a mention, drawn at random, gets another concept's name.

    captions: those of each image, by its path.

    The other concept is drawn by how often the list mentions it, among those that no caption of the image mentions.
    """
    text, vocabulary = config.text, load_vocabulary(config.vocabulary)
    tagger = Tagger(vocabulary, text.spacy_model, text.stop_words, text.tag_modifiers)
    groups = [
        (image, [(caption, tagged.mentions) for caption, tagged in zip(texts, tagger.tag(texts), strict=True)])
        for image, texts in captions.items()
    ]
    counts = Counter(mention.concept for _, group in groups for _, mentions in group for mention in mentions)
    cases = []
    for image, group in groups:
        there = {mention.concept for _, mentions in group for mention in mentions}
        others = sorted(counts.keys() - there)
        for number, (caption, mentions) in enumerate(group):
            if others and mentions:
                random = generator(config.seed, "foils", image, number)
                weights = [counts[name] for name in others]
                concept = others[int(random.choice(len(others), p=[weight / sum(weights) for weight in weights]))]
                mention = mentions[int(random.integers(len(mentions)))]
                wrong = caption[: mention.start] + concept + caption[mention.end :]
                cases.append(FoilCase(image, caption, (wrong,), SWAP))
    if not cases:
        raise CallError("No caption of the list mentions a concept that could be swapped for another.")
    return cases
