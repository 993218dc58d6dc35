"""What each setting of `mix` changes on a finished run: the table in docs/paper.md.

    python benchmarks/mixing_settings.py --out OUT [--data ../shared/data] [--sentences 10000]

Mixes evenly sampled sentences of OUT/tagged with OUT/bank, and changes one setting at a time.

    replaced    mean number of replaced mentions per sentence; "two", "three": share of sentences with at least as many
    patches     mean number of pasted patches per sentence; "images": mean number of images they come from, over
                sentences with two patches or more
    shares      share of pasted patches whose image shows another concept of the sentence, over sentences with two or
                more
    distinct    number of patches used at least once; "most": uses of the most used one
    right       with --data (images/voc, images/coco128): share of pasted patches that overlap a gold box of their
                concept, among those that gold boxes can judge
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gold import read_gold

from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.mix import cutmix
from vlmixer.pipeline.mix.cutmix import Mix
from vlmixer.pipeline.mix.samples import Sentence, known_patches, mix_sentence, why_rejected
from vlmixer.pipeline.mix.settings import CutMixSettings
from vlmixer.pipeline.text.numbers import is_plural

SETTINGS = {
    "defaults": CutMixSettings(),
    "replace_probability 0.3": CutMixSettings(replace_probability=0.3),
    "replace_probability 1": CutMixSettings(replace_probability=1.0),
    "min_replaced 0": CutMixSettings(min_replaced=0),
    "max_replaced 1": CutMixSettings(max_replaced=1),
    "max_replaced 2": CutMixSettings(max_replaced=2),
    "patches_per_word 4": CutMixSettings(patches_per_word=4),
    "patches_per_plural null": CutMixSettings(patches_per_plural=None),
    "phrases keep": CutMixSettings(phrases="keep"),
    "lacking reject": CutMixSettings(lacking="reject"),
    "one_image": CutMixSettings(one_image=True),
    "sampler uniform": CutMixSettings(sampler="uniform"),
    "sampler score": CutMixSettings(sampler="score"),
}


def judged(bank: PatchBank, images: Path) -> dict[int, bool]:
    """Whether the label is right, for each row of the bank that gold boxes can judge."""
    gold = read_gold(images)
    found = {}
    for row in range(len(bank)):
        record = bank.record(row)
        verdict = gold.confirm(record.source, record.concept, record.box, record.width, record.height)
        if verdict is not None:
            found[row] = verdict
    return found


def mean(values: list[int] | list[bool]) -> float:
    """The mean; nan if there are no values."""
    return float(np.mean(values)) if values else float("nan")


def described(
    bank: PatchBank,
    sentences: list[Sentence],
    settings: CutMixSettings,
    contexts: list[frozenset[str]],
    right_rows: dict[int, bool],
) -> str:
    """The figures of one row of the table."""
    patches_of = known_patches(bank)
    mixes: list[tuple[Sentence, Mix]] = []
    rejected = 0
    for sentence in sentences:
        mixed = mix_sentence(sentence, patches_of, settings, 0)
        if why_rejected(sentence, mixed, settings) is None:
            mixes.append((sentence, mixed))
        else:
            rejected += 1
    replaced = np.array([sum(verdict.replaced for verdict in mixed.verdicts) for _, mixed in mixes])
    several = [mixed for _, mixed in mixes if len(mixed.pasted) > 1]
    uses: Counter[int] = Counter()
    shares: list[bool] = []
    right: list[bool] = []
    for sentence, mixed in mixes:
        concepts = {mention.concept for mention in sentence.mentions}
        for row, patch in mixed.pasted:
            uses[row] += 1
            if len(concepts) > 1:
                shares.append(bool((concepts - {patch.concept}) & contexts[row]))
            if row in right_rows:
                right.append(right_rows[row])
    values = [
        f"{rejected:>9,}", f"{replaced.mean():>9.2f}", f"{(replaced > 1).mean():>7.1%}",
        f"{(replaced > 2).mean():>7.1%}",
        f"{sum(uses.values()) / len(mixes):>9.2f}",
        f"{mean([len({paste.patch.image_id for paste in mixed.pasted}) for mixed in several]):>8.2f}",
        f"{mean(shares):>8.1%}", f"{len(uses):>9,}", f"{max(uses.values()):>6,}",
        f"{mean(right):>7.1%}",
    ]  # fmt: skip
    return "".join(values)


def main() -> None:
    """Print how many mentions and sentences the settings concern, and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sentences", type=int, default=10_000)
    options = parser.parse_args()
    bank = PatchBank.open(str(options.out / "bank"))
    rows = [
        row for part in sorted((options.out / "tagged").glob("*.parquet")) for row in pq.read_table(part).to_pylist()
    ]
    sentences = [Sentence.from_row(row, 0) for row in rows[:: max(len(rows) // options.sentences, 1)]]
    mentions = [mention for sentence in sentences for mention in sentence.mentions]
    contexts = [frozenset(bank.record(row).context) for row in range(len(bank))]
    right = judged(bank, options.data / "images") if options.data else {}

    def share(name: str, wanted: list[bool], of: str) -> None:
        print(f"{np.mean(wanted):>7.2%} of {len(wanted):,} {of}: {name}")

    share("of several words", [" " in mention.surface for mention in mentions], "mentions")
    share("plural", [is_plural(mention) for mention in mentions], "mentions")
    share(
        "of a concept that the bank lacks", [not bank.counts.get(mention.concept) for mention in mentions], "mentions"
    )
    for count in (2, 3, 4):
        share(
            f"with {count} mentions or more", [len(sentence.mentions) >= count for sentence in sentences], "sentences"
        )
    if right:
        share("with the right label", list(right.values()), "patches of the bank that gold boxes can judge")
    heads = ("rejected", "replaced", "two", "three", "patches", "images", "shares", "distinct", "most", "right")
    widths = (9, 9, 7, 7, 9, 8, 8, 9, 6, 7)
    print(f"\n{'':<26}" + "".join(f"{head:>{width}}" for head, width in zip(heads, widths, strict=True)))

    def row(name: str, settings: CutMixSettings) -> None:
        print(f"{name:<26}" + described(bank, sentences, settings, contexts, right), flush=True)

    for name, settings in SETTINGS.items():
        row(name, settings)
    for weight in (1.0, 100.0):
        cutmix.CONTEXT_WEIGHT = weight
        cutmix._weighed.cache_clear()
        row(f"CONTEXT_WEIGHT {weight:g}", CutMixSettings())


if __name__ == "__main__":
    main()
