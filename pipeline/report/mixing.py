"""The results of `vlmixer mix`: a table, and a page with the concepts and the most used patches."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import one_line
from vlmixer.artifacts.manifest import Counts
from vlmixer.artifacts.rejects import meaning
from vlmixer.artifacts.stages import INDEX, MIX
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.tally import COUNTS, MixTally, read_tally
from vlmixer.pipeline.report.crops import crop_uri
from vlmixer.pipeline.report.pages import write_page
from vlmixer.pipeline.report.stages import StageReport
from vlmixer.pipeline.units.finishing import Finished

REPORT = "mixing"
"""The name of the report in OUT/reports."""

CONCEPTS_IN_TABLE = 20
PATCHES_SHOWN = 12
"""Number of most used patches on the page."""
THUMBNAIL_SIDE = 160
FEW_PATCHES, OFTEN = 20, 50
"""The report warns about a concept with fewer patches than the first, if one was pasted as often as the second."""


@dataclass(frozen=True)
class ConceptMixed:
    """Numbers of a concept.

    mentions: all; `replaced` of them were replaced, `too_few` kept by `min_patches` or `max_uses`. patches: in the
    bank; `used` of them were used. most: how often the most used one was pasted.
    """

    mentions: int
    replaced: int
    too_few: int
    patches: int
    used: int
    most: int


@dataclass(frozen=True)
class Reuse:
    """How often a used patch was pasted: median, 90th percentile and maximum."""

    median: float
    p90: float
    most: int


@dataclass(frozen=True)
class MixSummary:
    """The numbers of a finished stage.

    counts: views. grounded: mentions of concepts that have patches in the bank. concepts: those that the text mentions,
    by name. reasons: mentions in written views, by the reason for replacing or keeping them. by_replaced, by_mentions:
    views by their number of replaced mentions, and of mentions. patches: patches in the bank. used: patches that were
    pasted at least once. pasted: number of pastes. most_used: patch ids with their numbers of pastes.
    """

    counts: Counts
    images: int
    mentions: int
    grounded: int
    reasons: Mapping[str, int]
    by_mentions: Mapping[str, int]
    by_replaced: Mapping[str, int]
    patches_only: int
    concepts: Mapping[str, ConceptMixed]
    patches: int
    used: int
    pasted: int
    reuse: Reuse
    most_used: Mapping[str, int]

    @classmethod
    def of(cls, tally: MixTally, uses: np.ndarray, counts: Counts, images: int, bank: PatchBank) -> "MixSummary":
        """The summary of a whole run. uses: (patches of the bank,) int64, how often each was pasted."""
        used = np.sort(uses[uses > 0])
        mentions, lacking = tally.mentions(), tally.mentions("lacking")
        replaced = tally.mentions("drawn", "filled", written=True)
        too_few = tally.mentions("rare", "over_used")
        concepts = {}
        for name, number in sorted(mentions.items()):
            patches = bank.counts.get(name, 0)
            first = bank.patches(name).first if patches else 0
            own = uses[first : first + patches]
            concepts[name] = ConceptMixed(
                number, replaced[name], too_few[name], patches, int((own > 0).sum()), int(own.max(initial=0))
            )
        best = np.argsort(-uses, kind="stable")[:PATCHES_SHOWN]
        return cls(
            counts=counts,
            images=images,
            mentions=mentions.total(),
            grounded=mentions.total() - lacking.total(),
            reasons=dict(sorted(tally.reasons.items())),
            by_mentions=_by_number(tally.by_mentions),
            by_replaced=_by_number(tally.by_replaced),
            patches_only=tally.patches_only,
            concepts=concepts,
            patches=len(uses),
            used=len(used),
            pasted=int(used.sum()),
            reuse=Reuse(
                median=float(np.median(used)) if len(used) else 0.0,
                p90=float(np.percentile(used, 90)) if len(used) else 0.0,
                most=int(used[-1]) if len(used) else 0,
            ),
            most_used={bank.record(int(row)).patch_id: int(uses[row]) for row in best if uses[row]},
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @property
    def by_frequency(self) -> list[tuple[str, ConceptMixed]]:
        """Concepts, the most mentioned first."""
        return sorted(self.concepts.items(), key=lambda entry: (-entry[1].mentions, entry[0]))

    @property
    def missing(self) -> list[tuple[str, int]]:
        """Concepts that the text mentions but the bank lacks, with their mentions, the most mentioned first."""
        return [(name, entry.mentions) for name, entry in self.by_frequency if not entry.patches]

    @property
    def few(self) -> list[tuple[str, ConceptMixed]]:
        """Concepts with few patches that are pasted often, or not as often as mentioned, the most mentioned first."""
        return [
            (name, entry)
            for name, entry in self.by_frequency
            if entry.too_few or (entry.patches < FEW_PATCHES and entry.most >= OFTEN)
        ]

    @property
    def replaced_shares(self) -> list[tuple[str, int, float]]:
        """For each number of replaced mentions, the views and their share in percent."""
        return [(n, views, 100 * views / max(self.counts.written, 1)) for n, views in self.by_replaced.items()]

    def to_table(self) -> str:
        """The table that is printed."""
        counts = self.counts
        replaced = sum(entry.replaced for entry in self.concepts.values())
        lines = [
            f"{counts.written:>12,} mixed samples of {counts.read:,} views",
            f"{self.images:>12,} image samples",
            f"{self.patches_only:>12,} also serve a patches-only view ({_share(self.patches_only, counts.written)})",
            "",
            f"{self.mentions:>12,} mentions",
            f"{self.grounded:>12,} of concepts that the bank has ({_share(self.grounded, self.mentions)}: coverage)",
            f"{replaced:>12,} replaced ({_share(replaced, self.mentions)})",
            "",
            "replaced mentions per sample",
            *(f"{views:>12,} have {number} ({share:.1f} %)" for number, views, share in self.replaced_shares[:8]),
            "",
            "patches",
            f"{self.patches:>12,} in the bank",
            f"{self.used:>12,} used ({_share(self.used, self.patches)})",
            f"{self.pasted:>12,} times pasted; per used patch {self.reuse.median:,.0f} times (median), at most "
            f"{self.reuse.most:,}",
        ]
        if counts.rejected:
            lines += ["", "not used"]
            lines += [f"{number:>12,} {reason}: {meaning(reason)}" for reason, number in counts.rejected.items()]
        lines += [
            "",
            f"mentioned concepts: {len(self.concepts) - len(self.missing):,} of {len(self.concepts):,} have patches",
        ]
        lines += [f"{mentions:>12,} {name}: no patches" for name, mentions in self.missing[:5]]
        if len(self.missing) > 5:
            lines.append(f"{'':>12} … and {len(self.missing) - 5} more")
        if self.few:
            lines += ["", "few patches for many mentions (more photos of these, or a lower mix.max_uses)"]
            lines += [
                f"{entry.mentions:>12,} {name}: patches {entry.patches:,}, most used {entry.most:,} times"
                + (f", {entry.too_few:,} mentions kept" if entry.too_few else "")
                for name, entry in self.few[:5]
            ]
            if len(self.few) > 5:
                lines.append(f"{'':>12} … and {len(self.few) - 5} more")
            lines.append("")
        shown = self.by_frequency[:CONCEPTS_IN_TABLE]
        width = max((len(name) for name, _ in shown), default=0)
        lines.append(f"{'mentions':>12} {'':<{width}} replaced  patches  used")
        lines += [
            f"{entry.mentions:>12,} {name:<{width}} {entry.replaced:>8,} {entry.patches:>8,} {entry.used:>5,}"
            for name, entry in shown
        ]
        if len(self.concepts) > CONCEPTS_IN_TABLE:
            lines.append(f"{'':>12} … and {len(self.concepts) - CONCEPTS_IN_TABLE} more")
        return "\n".join(map(one_line, lines))


def _by_number(counter: Mapping[int, int]) -> dict[str, int]:
    return {str(number): count for number, count in sorted(counter.items())}


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


@dataclass(frozen=True)
class MostUsed:
    """One of the most used patches, as the page shows it."""

    picture: str
    concept: str
    uses: int


def write_mixing_report(out: str, finished: Finished[ShardsDetails]) -> None:
    """Write the report of stage `mix` in the output folder `out`, unless it is current.

    Everything is read from shards/ and bank/. Shards without counts, of an earlier program, get no report.
    """
    report = StageReport(out, REPORT)
    folder = files.join(out, MIX.folder)
    if report.is_current(finished.content_hash, MixSummary) or not files.exists(files.join(folder, COUNTS)):
        return
    bank = PatchBank.open(files.join(out, INDEX.folder))
    images = finished.counts["images"].written if "images" in finished.counts else 0
    summary = MixSummary.of(*read_tally(folder), finished.counts["views"], images, bank)
    report.publish(finished.content_hash, summary.to_json(), lambda page: write_mix_page(page, summary, bank))


def write_mix_page(path: str, summary: MixSummary, bank: PatchBank) -> None:
    """Write the page at `path`."""
    most_used = []
    for patch_id, uses in summary.most_used.items():
        record = bank.patch(patch_id)
        most_used.append(MostUsed(crop_uri(bank, record, THUMBNAIL_SIDE), record.concept, uses))
    replaced = sum(entry.replaced for entry in summary.concepts.values())
    rejected = [(meaning(reason), number) for reason, number in summary.counts.rejected.items()]
    write_page(
        path, "mixing.html", summary=summary, most_used=most_used, replaced=replaced, rejected=rejected,
        coverage=100 * summary.grounded / max(summary.mentions, 1),
    )  # fmt: skip
