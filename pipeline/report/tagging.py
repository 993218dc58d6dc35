"""The results of `vlmixer tag`: a table, and a page with examples of every concept.

The page shows words in their sentences, those that are meant as things and those that only look so, so that a person
can judge the tagging in a minute.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from vlmixer.artifacts import files, json_files, manifest
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import one_line
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rejects import BAD, meaning, read_rejects
from vlmixer.artifacts.samples import Mention
from vlmixer.artifacts.stages import TAG
from vlmixer.pipeline.report.pages import write_page
from vlmixer.pipeline.report.sentences import Kind, Mark, TextSpan, cut_into_spans
from vlmixer.pipeline.report.stages import StageReport
from vlmixer.pipeline.text.tagger import Tagged
from vlmixer.pipeline.units.finishing import Finished

EXAMPLES = "examples.json"
"""The file of tagged/ that holds the examples (`Examples.to_json`)."""
REPORT = "tagging"
"""The name of the report in OUT/reports."""

CONCEPTS_IN_TABLE = 30
EXAMPLES_MEANT = 6
EXAMPLES_NOT_MEANT = 3
CONTEXT = 160
"""Characters of a long sentence that an example shows on each side of its word."""


@dataclass(frozen=True)
class TagSummary:
    """The numbers of a finished stage. mentions, not_meant: by concept. missing: concepts without mentions. unreadable:
    files that could not be read to the end."""

    tagger: str
    vocabulary: str
    counts: Counts
    mentions: Mapping[str, int]
    not_meant: Mapping[str, int]
    missing: list[str]
    unreadable: list[str]

    @classmethod
    def of(cls, finished: Finished[TaggedDetails], concepts: Sequence[str], unreadable: Iterable[str]) -> "TagSummary":
        """The summary of a finished stage. concepts: all concepts of the vocabulary."""
        details = finished.details
        return cls(
            tagger=details.tagger,
            vocabulary=details.vocabulary,
            counts=finished.counts["sentences"],
            mentions=details.mentions,
            not_meant=details.not_meant,
            missing=[name for name in concepts if name not in details.mentions],
            unreadable=sorted(set(unreadable)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def by_frequency(self) -> list[tuple[str, int]]:
        """Concepts with their mentions, the most frequent first."""
        return sorted(self.mentions.items(), key=lambda entry: (-entry[1], entry[0]))

    @property
    def without(self) -> int:
        """Usable sentences without a mention."""
        return sum(self.counts.rejected.get(reason, 0) for reason in ("no_mention", "not_meant"))

    def to_table(self) -> str:
        """The table that is printed."""
        counts, mentions = self.counts, sum(self.mentions.values())
        sentences = counts.written + self.without
        lines = [
            f"tagged by {self.tagger}, vocabulary {self.vocabulary}",
            "",
            f"{counts.read:>12,} inputs read",
            f"{counts.written:>12,} sentences tagged",
            f"{self.without:>12,} sentences without mentions ({_share(self.without, sentences)} of the usable ones)",
            f"{mentions:>12,} mentions ({mentions / max(counts.written, 1):.2f} per tagged sentence)",
            f"{sum(self.not_meant.values()):>12,} words of the vocabulary, not meant as things",
            "",
            "not used",
            *(
                f"{number:>12,} {reason}: {meaning(reason)}{' (bad)' if reason in BAD else ''}"
                for reason, number in sorted(counts.rejected.items(), key=lambda entry: -entry[1])
            ),
        ]
        if not counts.rejected:
            lines.append(f"{0:>12} nothing")
        lines += [f"{'':>12} not readable: {name}" for name in self.unreadable[:5]]
        if len(self.unreadable) > 5:
            lines.append(f"{'':>12} … and {len(self.unreadable) - 5} more")
        found = self.by_frequency
        lines += ["", f"concepts: {len(found):,} of {len(found) + len(self.missing):,} found"]
        width = max((len(name) for name, _ in found[:CONCEPTS_IN_TABLE]), default=0)
        lines += [
            f"{number:>12,} {name:<{width}} {_share(number, mentions):>6}" for name, number in found[:CONCEPTS_IN_TABLE]
        ]
        if len(found) > CONCEPTS_IN_TABLE:
            rest = sum(number for _, number in found[CONCEPTS_IN_TABLE:])
            lines.append(f"{rest:>12,} of {len(found) - CONCEPTS_IN_TABLE:,} more")
        return "\n".join(map(one_line, lines))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


class Example(NamedTuple):
    """A word in its sentence, which may be shortened: characters start … end (exclusive) of `text`. `order` is a hash
    of the sentence's id."""

    order: int
    text: str
    start: int
    end: int


@dataclass
class Examples:
    """A limited number of examples per concept: those with the lowest hashes, so that the order of the sentences does
    not matter."""

    meant: dict[str, list[Example]] = field(default_factory=dict)
    not_meant: dict[str, list[Example]] = field(default_factory=dict)

    def add(self, key: str, text: str, tagged: Tagged) -> None:
        """Consider a sentence."""
        order = zlib.crc32(key.encode())
        for kept, mentions, limit in (
            (self.meant, tagged.mentions, EXAMPLES_MEANT),
            (self.not_meant, tagged.not_meant, EXAMPLES_NOT_MEANT),
        ):
            for mention in mentions:
                held = kept.setdefault(mention.concept, [])
                if len(held) < limit or order < held[-1].order:
                    _keep(held, Example(order, *_excerpt(text, mention)), limit)

    def merge(self, other: "Examples") -> None:
        """Add the examples of another."""
        for kept, added, limit in (
            (self.meant, other.meant, EXAMPLES_MEANT),
            (self.not_meant, other.not_meant, EXAMPLES_NOT_MEANT),
        ):
            for concept, entries in added.items():
                for entry in entries:
                    _keep(kept.setdefault(concept, []), entry, limit)

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def _keep(held: list[Example], example: Example, limit: int) -> None:
    """Insert the example in order, unless there is one of its sentence."""
    if not any((other.order, other.text) == (example.order, example.text) for other in held):
        held.append(example)
        held.sort()
        del held[limit:]


def _excerpt(text: str, mention: Mention) -> tuple[str, int, int]:
    """The text around the mention, and the mention's start and end in it."""
    begin = max(mention.start - CONTEXT, 0)
    end = min(mention.end + CONTEXT, len(text))
    cut_off = "…" if begin else ""
    shown = cut_off + text[begin:end] + ("…" if end < len(text) else "")
    shift = len(cut_off) - begin
    return shown, mention.start + shift, mention.end + shift


@dataclass(frozen=True)
class TaggingRow:
    """A concept as the page shows it."""

    name: str
    mentions: int
    not_meant: int
    examples: tuple[tuple[TextSpan, ...], ...]
    lookalikes: tuple[tuple[TextSpan, ...], ...]


def write_tagging_report(out: str, finished: Finished[TaggedDetails], concepts: Sequence[str]) -> None:
    """Write the report of stage `tag` in the output folder `out`, unless it is current.

    concepts: all concepts of the vocabulary. The rest is read from tagged/ and rejects/; missing files are left out.
    """
    report = StageReport(out, REPORT)
    if report.is_current(finished.content_hash, TagSummary):
        return
    summary = TagSummary.of(finished, concepts, _unreadable(out, finished))
    examples = Examples()
    path = files.join(out, TAG.folder, EXAMPLES)
    if files.exists(path):
        examples.merge(json_files.read(path, Examples, advice="Run `vlmixer tag … --overwrite`."))
    report.publish(finished.content_hash, summary.to_json(), lambda page: write_tag_page(page, summary, examples))


def _unreadable(out: str, finished: Finished[TaggedDetails]) -> Iterator[str]:
    """The files that could not be read to the end, from the rejects."""
    if not finished.counts["sentences"].rejected.get("unreadable_file"):
        return
    for output in manifest.read(files.join(out, TAG.folder), TAG).rejects:
        path = files.join(out, "rejects", output.name)
        if files.exists(path):
            yield from (reject.source for reject in read_rejects(path) if reject.reason == "unreadable_file")


def write_tag_page(path: str, summary: TagSummary, examples: Examples) -> None:
    """Write the page at `path`."""
    only_lookalikes = [(name, 0) for name in sorted(summary.not_meant) if name not in summary.mentions]
    rows = [
        TaggingRow(
            name,
            number,
            summary.not_meant.get(name, 0),
            tuple(_spans(example, "mention") for example in examples.meant.get(name, ())),
            tuple(_spans(example, "lookalike") for example in examples.not_meant.get(name, ())),
        )
        for name, number in [*summary.by_frequency, *only_lookalikes]
    ]
    write_page(
        path,
        "tagging.html",
        summary=summary,
        rejected=[(meaning(reason), number) for reason, number in summary.counts.rejected.items()],
        mentions=sum(summary.mentions.values()),
        rows=rows,
    )


def _spans(example: Example, kind: Kind) -> tuple[TextSpan, ...]:
    word = example.text[example.start : example.end]
    mark = Mark(example.start, example.end, TextSpan(kind, word))
    return tuple(cut_into_spans(example.text, [mark], example.text))
