"""Counts of what mixing did, for one shard and for all of them."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from vlmixer.artifacts import details, files, json_files, manifest, npy_files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Output
from vlmixer.pipeline.mix.cutmix import Mix
from vlmixer.pipeline.mix.samples import Sentence


@dataclass(frozen=True)
class TallyCounts:
    """The counts of a MixTally, without the uses. `outcomes`: (concept, reason, written, mentions) each, ascending."""

    outcomes: tuple[tuple[str, str, bool, int], ...]
    by_mentions: dict[int, int]
    by_replaced: dict[int, int]
    patches_only: int


class MixTally:
    """Counts over views of sentences.

    outcomes: mentions by (concept, reason of the verdict, whether the view was written). by_mentions, by_replaced:
    written views by their number of mentions and of replaced mentions. patches_only: written views that also serve as a
    patches-only view. uses: how often each patch was pasted, by its row in the bank.
    """

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, str, bool]] = Counter()
        self.by_mentions: Counter[int] = Counter()
        self.by_replaced: Counter[int] = Counter()
        self.patches_only = 0
        self.uses: Counter[int] = Counter()

    def add(self, sentence: Sentence, mixed: Mix, *, written: bool) -> None:
        """Count a view."""
        for mention, verdict in zip(sentence.mentions, mixed.verdicts, strict=True):
            self.outcomes[mention.concept, verdict.reason, written] += 1
        if written:
            self.by_mentions[len(sentence.mentions)] += 1
            self.by_replaced[sum([verdict.replaced for verdict in mixed.verdicts])] += 1
            self.patches_only += mixed.patches_only
            for paste in mixed.pasted:
                self.uses[paste.row] += 1

    def merge(self, counts: TallyCounts) -> None:
        """Add the counts of another MixTally."""
        for concept, reason, written, number in counts.outcomes:
            self.outcomes[concept, reason, written] += number
        self.by_mentions.update(counts.by_mentions)
        self.by_replaced.update(counts.by_replaced)
        self.patches_only += counts.patches_only

    def counts(self) -> TallyCounts:
        """All counts except the uses."""
        return TallyCounts(
            outcomes=tuple((*outcome, number) for outcome, number in sorted(self.outcomes.items())),
            by_mentions=dict(sorted(self.by_mentions.items())),
            by_replaced=dict(sorted(self.by_replaced.items())),
            patches_only=self.patches_only,
        )

    @property
    def reasons(self) -> Counter[str]:
        """Mentions of the written views, by the reasons of their verdicts."""
        found: Counter[str] = Counter()
        for (_, reason, written), number in self.outcomes.items():
            if written:
                found[reason] += number
        return found

    def mentions(self, *reasons: str, written: bool = False) -> Counter[str]:
        """Mentions by concept: with these reasons or all, in all views or only the written ones."""
        found: Counter[str] = Counter()
        for (concept, reason, was_written), number in self.outcomes.items():
            if (not reasons or reason in reasons) and was_written >= written:
                found[concept] += number
        return found


COUNTS, USES = "tally.json", "uses.npy"
"""Files of shards/: the counts, and (patches of the bank,) int64, how often each patch was pasted."""


def write_tally(folder: str, tally: MixTally, uses: np.ndarray) -> list[Output]:
    """Write the counts over all shards to `folder`. uses: (patches of the bank,) int64, how often each was pasted."""
    files.publish_bytes(files.join(folder, COUNTS), manifest.canonical(details.to_json(tally.counts())))
    with files.publishing(files.join(folder, USES)) as file:
        np.lib.format.write_array(file, uses, allow_pickle=False)
    concepts = len({concept for concept, _, _ in tally.outcomes})
    return [manifest.output_of(folder, COUNTS, concepts), manifest.output_of(folder, USES, len(uses))]


def read_tally(folder: str) -> tuple[MixTally, np.ndarray]:
    """The counts, without the uses, and the uses, that `write_tally` wrote. Raises UserError where they are damaged."""
    path, advice = files.join(folder, COUNTS), "Run `vlmixer verify` on the output folder."
    tally = MixTally()
    try:
        tally.merge(json_files.read(path, TallyCounts, advice=advice))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error}). {advice}") from None
    (uses,) = npy_files.read(files.join(folder, USES), npy_files.Kind(np.int64), advice=advice)
    return tally, uses
