"""The demo's sentences: some to show, and the tagger measured against the grammar that wrote them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.artifacts.samples import Mention
from vlmixer.pipeline.demo import captions
from vlmixer.pipeline.demo.captions import Caption
from vlmixer.pipeline.report.demo.share import Share
from vlmixer.pipeline.report.sentences import Mark, TextSpan, cut_into_spans, mention_mark

SHOWN = 8
"""Sentences on the page, and as many with look-alikes."""
MEASURED = 500
"""Sentences on which the tagger is measured. The grammar makes each again, which takes some milliseconds."""

Spans = tuple[TextSpan, ...]


@dataclass(frozen=True)
class TaggingScore:
    """The tagger against the grammar, over `sentences`: names that were found, mentions that are names, and look-alikes
    that were taken for names."""

    sentences: int
    found: Share
    correct: Share
    fooled: Share


@dataclass(frozen=True)
class TaggingPart:
    """The page's part on tagging."""

    sentences: tuple[Spans, ...]
    lookalikes: tuple[Spans, ...]
    score: TaggingScore


def gather_tagging(tagged: str, world_folder: str, seed: int) -> TaggingPart:
    """Read tagged/ and the world's sentences. Raises ValueError if these are not those of `seed`."""
    lines = files.read_bytes(files.join(world_folder, "captions.txt")).decode().splitlines()[:MEASURED]
    written = list(captions.sentences(seed, "sentences", len(lines)))
    if [caption.text for caption in written] != lines:
        raise ValueError(f"{world_folder}/captions.txt is not the world of seed {seed}")
    mentions = _mentions(tagged)
    plain, lookalikes = _choose(written)
    return TaggingPart(
        sentences=tuple(_spans(caption, mentions.get(caption.text, [])) for caption in plain),
        lookalikes=tuple(_spans(caption, mentions.get(caption.text, [])) for caption in lookalikes),
        score=_score(written, mentions),
    )


def _mentions(folder: str) -> dict[str, list[Mention]]:
    """The mentions of each tagged text."""
    mentions: dict[str, list[Mention]] = {}
    for entry in manifest.read(folder).parts:
        with files.open_read(files.join(folder, entry.name)) as file:
            for row in read_parquet(file, ["text", "mentions"]).to_pylist():
                mentions[row["text"]] = [Mention(**mention) for mention in row["mentions"]]
    return mentions


def _choose(written: Sequence[Caption]) -> tuple[list[Caption], list[Caption]]:
    """Plain sentences, spread over those written, and one for each of several look-alikes."""
    plain = [caption for caption in written if not caption.decoys]
    sentences = [plain[place * len(plain) // SHOWN] for place in range(min(SHOWN, len(plain)))]
    lookalikes: dict[str, Caption] = {}
    for caption in written:
        for decoy in caption.decoys:
            lookalikes.setdefault(caption.text[decoy.start : decoy.end], caption)
    return sentences, list(dict.fromkeys(lookalikes.values()))[:SHOWN]


def _spans(caption: Caption, mentions: Sequence[Mention]) -> Spans:
    """The sentence with its mentions, and with the look-alikes that were left alone."""
    marks = [mention_mark(caption.text, mention) for mention in mentions]
    for decoy in caption.decoys:
        if not any(mark.start < decoy.end and decoy.start < mark.end for mark in marks):
            word = caption.text[decoy.start : decoy.end]
            marks.append(Mark(decoy.start, decoy.end, TextSpan("lookalike", word, f"only looks like {decoy.category}")))
    return tuple(cut_into_spans(caption.text, marks, caption.text))


def _score(written: Sequence[Caption], tagged: Mapping[str, list[Mention]]) -> TaggingScore:
    names = mentions = right = decoys = fooled = 0
    for caption in written:
        found = {(mention.start, mention.end, mention.concept) for mention in tagged.get(caption.text, [])}
        gold = {(name.start, name.end, name.category) for name in caption.names}
        names += len(gold)
        mentions += len(found)
        right += len(found & gold)
        decoys += len(caption.decoys)
        taken = {(start, end) for start, end, _ in found}
        fooled += sum((decoy.start, decoy.end) in taken for decoy in caption.decoys)
    return TaggingScore(len(written), Share(right, names), Share(right, mentions), Share(fooled, decoys))
