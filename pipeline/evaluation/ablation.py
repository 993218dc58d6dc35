"""Measures what each part of the method adds: trains on the same shards without it, and makes a table of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.rng import generator
from vlmixer.artifacts.samples import MixedSample, Patch, Sample, write_shard
from vlmixer.artifacts.stages import MIX
from vlmixer.model.config import Settings
from vlmixer.model.scoring import CUTOFFS, RetrievalReport, RetrievalScore
from vlmixer.model.shards import ShardSet, open_shards, read_rows
from vlmixer.model.training import train


@dataclass(frozen=True)
class Variant:
    """A way of training: its title in the table, its `train` settings, and whether the bank's labels are shuffled."""

    title: str
    settings: Mapping[str, Any]
    shuffled: bool = False


VARIANTS = {
    "a": Variant("(a) masked language + masked tags", {"cutmix": False, "contrastive_weight": 0.0}),
    "b": Variant("(b) a + CMC", {"contrastive_weight": 0.0}),
    "c": Variant("(c) b + contrast", {}),
    "d": Variant("(d) a + contrast with the words, no patches", {"cutmix": False}),
    "c-words-kept": Variant("(c), the mixed view keeps its other words", {"drop_words": 0.0}),
    "c-shuffled": Variant("(c), the gallery's labels shuffled, numbers withheld", {}, shuffled=True),
}
METHODS = ("regions", "tags", "regions + tags", "regions + tags + overlap")


def run_variant(name: str, settings: Settings) -> str:
    """Train a variant on OUT/shards with settings.seed; returns the run's folder below OUT/runs. Resumes a run that
    stopped, and does not repeat one that is finished."""
    variant = VARIANTS[name]
    shards = files.join(settings.out, MIX.folder)
    if variant.shuffled:
        source, shards = shards, files.join(settings.out, "shards-shuffled")
        shuffle_labels(source, shards)
    settings = replace(settings, train=replace(settings.train, **variant.settings))
    return train(settings, shards, files.join(settings.out, "runs", f"{name}-{settings.seed}"), resume=True)


def shuffle_labels(source: str, folder: str) -> None:
    """Write the shards of `source` as if the patches of the bank had swapped their labels, each patch once for all.

    Of a mention's patches only the first is kept. How many there are is right whatever their labels, and photos with
    several regions would be found by it.
    """
    if files.exists(files.join(folder, manifest.NAME)):
        return
    shards = open_shards(source)
    partners = _swap(shards)
    outputs = []
    for shard in (*shards.mixed, *shards.images):
        name = shard.path.rsplit("/", 1)[-1]
        samples = (_with_partners(sample, partners) for sample in read_rows(shard, 0, shard.rows))
        with files.publishing(files.join(folder, name)) as file:
            rows = write_shard(file, samples)
        outputs.append(manifest.output_of(folder, name, rows))
    manifest.publish(folder, replace(manifest.read(source), outputs=outputs))


def _swap(shards: ShardSet) -> dict[str, tuple[Patch, np.ndarray]]:
    """For each patch of a mixed sample, by its id, the patch that takes its place, with that patch's feature."""
    patches = {}
    for sample in shards.samples():
        if isinstance(sample, MixedSample):
            for patch, feature in zip(sample.patches, sample.features, strict=True):
                patches[patch.patch_id] = (patch, feature)
    ids = sorted(patches)
    order = generator(0, "shuffled labels").permutation(len(ids))
    return {name: patches[ids[row]] for name, row in zip(ids, order, strict=True)}


def _with_partners(sample: Sample, partners: Mapping[str, tuple[Patch, np.ndarray]]) -> Sample:
    if not isinstance(sample, MixedSample):
        return sample
    firsts = list({patch.mention: patch for patch in reversed(sample.patches)}.values())[::-1]
    drawn = [partners[patch.patch_id] for patch in firsts]
    patches = tuple(
        replace(new, mention=old.mention, concept=old.concept) for old, (new, _) in zip(firsts, drawn, strict=True)
    )
    features = np.array([feature for _, feature in drawn], np.float16).reshape(-1, sample.features.shape[1])
    return replace(sample, patches=patches, features=features)


def table(reports: Mapping[str, Sequence[RetrievalReport]], more: Sequence[RetrievalScore], note: str) -> str:
    """The text-to-image scores as Markdown: for each variant, means over its reports, one report per seed.

    more: scores of methods without a network, in addition to chance and tag overlap. note: a sentence for the first
    line. In the table, ± is half of the 95 % bootstrap interval of R@10, and "ahead" is R@10 minus that of tag overlap,
    with its own interval.
    """
    first = next(iter(reports.values()))[0]
    lines = [
        f"{first.images} photos, {first.captions} captions, text to image. {note}",
        "",
        "| | R@1 | R@5 | R@10 | ± | R@10 of each seed | ahead | median rank |",
        "|---|---|---|---|---|---|---|---|",
        *(_row(score.method, [score]) for score in (first.score("chance"), first.score("tag overlap"), *more)),
    ]
    for name, variant in VARIANTS.items():
        for method in METHODS if name in reports else ():
            lines.append(_row(f"{variant.title}: {method}", [report.score(method) for report in reports[name]]))
    return "\n".join(lines) + "\n"


def development_score(lists: Sequence[Mapping[str, Sequence[RetrievalReport]]]) -> str:
    """The development score as Markdown: text to image, the mean over all lists of pairs, with equal weights.

    `lists`: for each list the reports of each variant, one per seed. The mean log2 of the rank decides, because chance
    moves it less than R@10.
    """
    lines = [
        f"The mean over {len(lists)} lists, with equal weights.",
        "",
        "| | mean log2 rank | R@10 | mean log2 rank of each seed | R@10 of each seed |",
        "|---|---|---|---|---|",
    ]
    for name, variant in VARIANTS.items():
        for method in METHODS if name in lists[0] else ():
            scores = [[report.score(method) for report in reports[name]] for reports in lists]
            ranks, recall = (
                np.mean(values, axis=0)
                for values in (
                    [[score.log2_rank.value for score in one] for one in scores],
                    [[score.recall[CUTOFFS[-1]].value for score in one] for one in scores],
                )
            )
            each = (", ".join(f"{value:.2f}" for value in ranks), ", ".join(f"{value:.1f}" for value in recall))
            lines.append(
                f"| {variant.title}: {method} | {ranks.mean():.3f} | {recall.mean():.1f} | {each[0]} | {each[1]} |"
            )
    return "\n".join(lines) + "\n"


def _row(title: str, scores: Sequence[RetrievalScore]) -> str:
    means = [np.mean([score.recall[cutoff].value for score in scores]) for cutoff in CUTOFFS]
    ten = [score.recall[CUTOFFS[-1]] for score in scores]
    half = np.mean([(estimate.high - estimate.low) / 2 for estimate in ten])
    each = ", ".join(f"{estimate.value:.1f}" for estimate in ten)
    ahead, low, high = (np.mean([getattr(score.ahead, end) for score in scores]) for end in ("value", "low", "high"))
    median = np.mean([score.median_rank.value for score in scores])
    cells = [*(f"{mean:.1f}" for mean in means), f"{half:.1f}", each, f"{ahead:+.1f} ({low:+.1f} to {high:+.1f})"]
    return f"| {title} | {' | '.join(cells)} | {median:.0f} |"
