"""How often a tagged concept is visible: tagged captions against the objects boxed in their photos.

    python benchmarks/tagging.py --captions CAPTIONS.jsonl [--classes CLASSES.jsonl] [--spacy-model PIPELINE]
                                 [--plain SYNONYMS.txt] [--errors 40] [--missed 40]

CAPTIONS.jsonl has lines of {"image": name, "captions": [text, …], "classes": [label, …]}. The classes may be in a file
of their own, by image, with an optional list "unsure" of classes that count neither way. Labels are mapped as those of
a detector. A concept counts once per caption: right if the photo has an object of it, wrong if not. Recall is the share
of a photo's classes that a caption names. The table compares the tagger with its pipeline, the tagger with rules alone,
every match of the same words, and every match of the words of --plain (one class per line, then its synonyms).
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlmixer.artifacts.samples import Mention
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.text.matching import Matcher
from vlmixer.pipeline.text.tagger import RULES, Tagger

Tag = Callable[[list[str]], list[list[Mention]]]


@dataclass(frozen=True)
class CaptionedPhoto:
    """A photo's captions, the concepts visible in it, and those that may be visible."""

    captions: list[str]
    seen: frozenset[str]
    unsure: frozenset[str]


@dataclass
class Score:
    """right, wrong: numbers of (caption, concept) pairs; boxed: number of (caption, class of its photo) pairs."""

    right: int = 0
    wrong: int = 0
    boxed: int = 0
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    found: set[tuple[int, int, str]] = field(default_factory=set)

    def row(self, name: str) -> str:
        """A line of the table."""
        return (
            f"{name:<40}{self.right:>8}{self.wrong:>8}{self.right / max(self.right + self.wrong, 1):>11.4f}"
            f"{self.right / max(self.boxed, 1):>9.4f}"
        )


def read_photos(captions: Path, classes: Path | None, vocabulary: Vocabulary) -> Iterator[CaptionedPhoto]:
    """The photos of both files; labels that the vocabulary lacks are printed to stderr."""
    gold = {}
    if classes is not None:
        gold = {entry["image"]: entry for entry in map(json.loads, classes.read_text().splitlines())}
    unknown: Counter[str] = Counter()

    def concepts(labels: Sequence[str]) -> frozenset[str]:
        ids = vocabulary.map_labels(labels)
        unknown.update(label for label, number in zip(labels, ids, strict=True) if number is None)
        return frozenset(vocabulary.names[number] for number in ids if number is not None)

    for entry in map(json.loads, captions.read_text().splitlines()):
        labelled = gold.get(entry["image"], entry)
        if "classes" in labelled:
            yield CaptionedPhoto(entry["captions"], concepts(labelled["classes"]), concepts(labelled.get("unsure", [])))
    if unknown:
        print(f"labels that the vocabulary lacks: {dict(unknown.most_common(10))}", file=sys.stderr)


def score(photos: Sequence[CaptionedPhoto], tag: Tag) -> Score:
    """Compare the tagger's mentions with the visible concepts."""
    total = Score()
    tagged = iter(tag([text for photo in photos for text in photo.captions]))
    for number, photo in enumerate(photos):
        for place, text in enumerate(photo.captions):
            mentions = {mention.concept: mention for mention in next(tagged)}
            total.boxed += len(photo.seen)
            for concept, mention in mentions.items():
                total.found.add((number, place, concept))
                if concept in photo.seen:
                    total.right += 1
                elif concept not in photo.unsure:
                    total.wrong += 1
                    kind = (concept, mention.surface.lower())
                    total.errors[kind] += 1
                    marked = f"{text[: mention.start]}[{mention.surface}]{text[mention.end :]}"
                    total.examples.setdefault(kind, []).append(marked)
    return total


def plain(vocabulary: Vocabulary, names: Sequence[str]) -> Tag:
    """A tagger that counts every match of the vocabulary's words; `names` are the names of its concepts."""
    matcher = Matcher(vocabulary)
    called = dict(zip(vocabulary.names, names, strict=True))

    def tag(texts: list[str]) -> list[list[Mention]]:
        return [
            [
                Mention(match.start, match.end, called[match.concept], text[match.start : match.end], match.lemma)
                for match in matcher.find(text)
            ]
            for text in texts
        ]

    return tag


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--classes", type=Path)
    parser.add_argument("--vocabulary", default="coco")
    parser.add_argument("--spacy-model", default="auto")
    parser.add_argument("--plain", help="a vocabulary to match without a tagger, in the order of --vocabulary")
    parser.add_argument("--errors", type=int, default=40)
    parser.add_argument(
        "--missed",
        type=int,
        default=0,
        help="number of captions to show that only plain matching has right",
    )
    options = parser.parse_args()
    vocabulary = load_vocabulary(options.vocabulary)
    photos = list(read_photos(options.captions, options.classes, vocabulary))
    taggers: dict[str, Tag] = {}
    if options.plain:
        taggers["plain: words of " + Path(options.plain).name] = plain(load_vocabulary(options.plain), vocabulary.names)
    taggers["plain: words of " + options.vocabulary] = plain(vocabulary, vocabulary.names)
    for model in dict.fromkeys([RULES, options.spacy_model]):
        tagger = Tagger(vocabulary, model)
        taggers[f"tagger: {tagger.description}"] = _mentions_of(tagger)
    captions = sum(len(photo.captions) for photo in photos)
    print(f"{len(photos)} photos, {captions} captions\n")
    print(f"{'':<40}{'right':>8}{'wrong':>8}{'precision':>11}{'recall':>9}")
    scores = {name: score(photos, tag) for name, tag in taggers.items()}
    for name, result in scores.items():
        print(result.row(name))
    last = list(scores.values())[-1]
    print(f"\nthe {options.errors} most frequent errors of the last")
    for kind, number in last.errors.most_common(options.errors):
        print(f"{number:>5}  {kind[0]:<14} {kind[1]:<16} {'  |  '.join(last.examples[kind][:3])}")
    first = next(iter(scores.values()))
    lost = [(number, place, concept) for number, place, concept in sorted(first.found - last.found)
            if concept in photos[number].seen]  # fmt: skip
    if options.missed:
        print(f"\nfound by the first and missed by the last: {len(lost)}")
        for number, place, concept in lost[: options.missed]:
            print(f"{concept:<14} {photos[number].captions[place]}")


def _mentions_of(tagger: Tagger) -> Tag:
    return lambda texts: [list(found.mentions) for found in tagger.tag(texts)]


if __name__ == "__main__":
    main()
