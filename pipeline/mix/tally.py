"""What came of mixing, counted: over a shard, and over all of them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.mix.cutmix import Mix
from pipeline.mix.samples import Sentence


class Tally:
    """Counts over views of sentences.

    `mentions`, `lacking`: by concept, of all views; lacking are those of concepts that the bank has no patch of.
    `replaced`: by concept, of the views written; `reasons`: their mentions by their verdicts' reasons; `by_mentions`
    and `by_replaced`: these views by how many mentions they have, and how many of them are replaced; `patches_only`:
    how many serve that view, too. `uses`: (patches of the bank,) int64, how often each patch was pasted.
    """

    COUNTERS = ("mentions", "lacking", "replaced", "reasons", "by_mentions", "by_replaced")

    def __init__(self, patches: int) -> None:
        self.mentions: Counter[str] = Counter()
        self.lacking: Counter[str] = Counter()
        self.replaced: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.by_mentions: Counter[str] = Counter()
        self.by_replaced: Counter[str] = Counter()
        self.patches_only = 0
        self.uses = np.zeros(patches, np.int64)

    def add(self, sentence: Sentence, mixed: Mix, *, written: bool) -> None:
        """Count a view."""
        replaced = 0
        for mention, verdict in zip(sentence.mentions, mixed.verdicts, strict=True):
            self.mentions[mention.concept] += 1
            self.lacking[mention.concept] += verdict.reason == "lacking"
            if written:
                self.reasons[verdict.reason] += 1
                self.replaced[mention.concept] += verdict.replaced
                replaced += verdict.replaced
        if written:
            self.by_mentions[str(len(sentence.mentions))] += 1
            self.by_replaced[str(replaced)] += 1
            self.patches_only += mixed.patches_only
            for paste in mixed.pasted:
                self.uses[paste.row] += 1

    def merge(self, counts: Mapping[str, Any], uses: np.ndarray) -> None:
        """Add what another's `to_json` gave, and its `uses`."""
        for name in self.COUNTERS:
            getattr(self, name).update(counts[name])
        self.patches_only += counts["patches_only"]
        self.uses += uses

    def to_json(self) -> dict[str, Any]:
        """Plain data of all but the uses."""
        counters = {name: {key: n for key, n in sorted(getattr(self, name).items()) if n} for name in self.COUNTERS}
        return {**counters, "patches_only": self.patches_only}
