"""How often the patches of rare concepts are pasted, and what `mix.min_patches` and `mix.max_uses` change.

    python benchmarks/rare_concepts.py --out OUT [--data ../shared/data]

Mixes all sentences of OUT/tagged with OUT/bank. The first table groups concepts by their number of patches, the second
has a row for each value of the settings.

    most        uses of the most used patch
    right       with --data (images/voc, images/coco128): patches that overlap a gold box of their concept, of those
                that gold boxes can judge. In the second table each paste counts
    limited     concepts with mentions that the settings keep
    lost        sentences without a sample, of those that have one without the settings
    rare most   uses of the most used patch, of concepts with less than 10 patches
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.mixing_settings import judged

from vlmixer.artifacts.manifest import read
from vlmixer.artifacts.stages import TAG
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix.limits import patch_limits
from vlmixer.pipeline.mix.samples import Sentence, known_patches, mix_sentence, why_rejected
from vlmixer.pipeline.mix.settings import CutMixSettings

UNLIMITED = CutMixSettings(max_uses=None)
SETTINGS = {
    "no limit": UNLIMITED,
    "min_patches 2": CutMixSettings(max_uses=None, min_patches=2),
    "min_patches 3": CutMixSettings(max_uses=None, min_patches=3),
    "min_patches 5": CutMixSettings(max_uses=None, min_patches=5),
    "min_patches 10": CutMixSettings(max_uses=None, min_patches=10),
    "max_uses auto": CutMixSettings(max_uses="auto"),
    "max_uses 20": CutMixSettings(max_uses=20),
    "max_uses 50": CutMixSettings(max_uses=50),
    "max_uses 100": CutMixSettings(max_uses=100),
    "max_uses 200": CutMixSettings(max_uses=200),
}
GROUPS = ((1, 1), (2, 2), (3, 4), (5, 9), (10, 19), (20, 49), (50, 199), (200, 10**9))


@dataclass(frozen=True)
class Mixed:
    """uses: (patches of the bank,) int64. written: sentences with a sample. limited: concepts that settings limit."""

    uses: np.ndarray
    written: int
    limited: frozenset[str]


def mixed(bank: PatchBank, sentences: list[Sentence], mentions: dict[str, int], settings: CutMixSettings) -> Mixed:
    """All sentences, mixed."""
    patches_of, limits = known_patches(bank), patch_limits(mentions, bank.counts, settings)
    uses, written, limited = np.zeros(len(bank), np.int64), 0, set()
    for sentence in sentences:
        found = mix_sentence(sentence, patches_of, settings, 0, limits)
        for mention, verdict in zip(sentence.mentions, found.verdicts, strict=True):
            if verdict.reason in ("rare", "over_used"):
                limited.add(mention.concept)
        if why_rejected(sentence, found, settings) is None:
            written += 1
            for row, _ in found.pasted:
                uses[row] += 1
    return Mixed(uses, written, frozenset(limited))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    bank = PatchBank.open(str(options.out / "bank"))
    mentions = dict(read(str(options.out / "tagged"), TAG).details.mentions)
    sentences = [
        Sentence.from_row(row, 0)
        for part in sorted((options.out / "tagged").glob("*.parquet"))
        for row in pq.read_table(part).to_pylist()
    ]
    right = judged(bank, options.data / "images") if options.data else {}
    before = mixed(bank, sentences, mentions, UNLIMITED)
    rows_of = {name: bank.patches(name).first + np.arange(count) for name, count in bank.counts.items() if count}

    print(f"{'patches':>10} concepts  mentions    pasted   most  right")
    for low, high in GROUPS:
        names = [name for name in rows_of if low <= bank.counts[name] <= high]
        if names:
            rows = np.concatenate([rows_of[name] for name in names])
            verdicts = [right[row] for row in rows.tolist() if row in right]
            uses = before.uses[rows]
            print(f"{low:>10} {len(names):>8} {sum(mentions.get(name, 0) for name in names):>9,} "
                  f"{uses.sum():>9,} {uses.max():>6,}  {sum(verdicts)} of {len(verdicts)}")  # fmt: skip
    print(f"\n{'':<16}limited    pasted    lost   most  rare most   right")
    few = np.concatenate([rows for name, rows in rows_of.items() if bank.counts[name] < 10] or [np.zeros(0, np.int64)])
    known = np.array(sorted(right), np.int64)
    good = np.array([right[row] for row in known.tolist()], bool)
    for name, settings in SETTINGS.items():
        now = mixed(bank, sentences, mentions, settings)
        share = now.uses[known[good]].sum() / max(now.uses[known].sum(), 1)
        print(f"{name:<16}{len(now.limited):>7} {now.uses.sum():>9,} {before.written - now.written:>7,} "
              f"{now.uses.max():>6,} {now.uses[few].max(initial=0):>10,}  {share:>6.1%}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
