"""Foils: reads lists of captions with wrong variants, or makes them from a list of pairs, and measures a run."""

import json
from collections import Counter
from collections.abc import Sequence

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rng import generator
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model.foils import FoilCase, FoilReport, foils
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.evaluation.retrieval import detect_images, place_of, read_pairs
from vlmixer.pipeline.text.tagger import Tagger

SWAP = "another concept's name"


def evaluate_foils(
    run: str, path: str, config: Config, import_paths: Sequence[str], swaps: bool = False
) -> tuple[FoilReport, dict[str, str]]:
    """How often the run prefers captions to their foils; and why images were not used, by path.

    `swaps`: `path` is a list of pairs as for retrieval, and in each foil a concept's word is another concept's name.
    Raises UserError, CallError.
    """
    cases = swapped(path, config) if swaps else read_foils(path)
    found, skipped = detect_images(list(dict.fromkeys(case.image for case in cases)), config, import_paths)
    used = [case for case in cases if case.image in found]
    if not used:
        raise UserError(f"{path}: none of its images could be used: {json.dumps(skipped, ensure_ascii=False)[:500]}")
    return foils(run, found, used), skipped


def read_foils(path: str) -> list[FoilCase]:
    """The cases in lines of {"image": name, "caption": text, "foils": [text, …]}, with "kind" if a line has it.

    Names are relative to the list's folder or to `images/` in it. Raises CallError that names the line.
    """
    try:
        lines = files.read_bytes(path).decode().splitlines()
    except FileNotFoundError:
        raise CallError(f"{path}: no such file. Expected JSON lines with an image, a caption and its foils.") from None
    except UnicodeDecodeError as error:
        raise CallError(f"{path}: expected UTF-8 text: {error}") from None
    cases = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, caption, wrong = record["image"], record["caption"], record["foils"]
            texts = isinstance(wrong, list) and all(isinstance(text, str) for text in (name, caption, *wrong))
            if not texts or not wrong:
                raise TypeError("image and caption must be text, foils a list of at least one text")
        except (ValueError, KeyError, TypeError) as error:
            raise CallError(
                f'{path}, line {number}: expected {{"image": name, "caption": text, "foils": [text, …]}}: {error!r}'
            ) from None
        cases.append(FoilCase(place_of(name, path), caption, tuple(wrong), str(record.get("kind", "all"))))
    if not cases:
        raise CallError(f"{path}: contains no caption with foils.")
    return cases


def swapped(path: str, config: Config) -> list[FoilCase]:
    """One case per caption that mentions a concept: a mention, drawn at random, gets another concept's name.

    The other concept is drawn by how often the list mentions it, among those that no caption of the image mentions.
    """
    text, vocabulary = config.text, load_vocabulary(config.vocabulary)
    tagger = Tagger(vocabulary, text.spacy_model, text.stop_words, text.tag_modifiers)
    groups = [
        (image, [(caption, tagged.mentions) for caption, tagged in zip(captions, tagger.tag(captions), strict=True)])
        for image, captions in read_pairs(path)
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
        raise CallError(f"{path}: no caption mentions a concept that could be swapped for another.")
    return cases
