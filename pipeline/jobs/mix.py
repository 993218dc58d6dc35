"""Stage `mix`: tagged/ + bank/ → shards/mixed-*.tar, and regions/ → shards/images-*.tar.

Samples are shuffled over the whole corpus by a stable hash: see pipeline/jobs/deal.py. Then a unit a shard draws the
patches of its sentences and writes the tar. Sentences travel through files, features and crops through nothing: a
shard's unit reads them from the bank.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow.parquet as pq
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import AnyDetails, ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, write_shard
from vlmixer.artifacts.schemas import damage_named
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, TAG
from vlmixer.bank.building import feature_rows
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import Config, MixSettings
from vlmixer.pipeline.jobs.deal import (
    BucketWorker,
    DealWorker,
    Layout,
    order_in_shard,
    plan_buckets,
    plan_deals,
    read_shard_views,
)
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.mix.cutmix import Mix
from vlmixer.pipeline.mix.samples import (
    Sentence,
    finish,
    image_samples,
    known_patches,
    mix_sentence,
    why_rejected,
)  # fmt: skip
from vlmixer.pipeline.mix.tally import Tally, TallyCounts
from vlmixer.pipeline.report.mixing import PAGE, SUMMARY, MixSummary, write_mix_page
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.finishing import finish_stage, upstream
from vlmixer.pipeline.units.listing import publish_units, read_units
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

PACKAGES = ("vlmixer", "numpy", "pyarrow")
VIEWS_AT_ONCE = 4096
"""Sentences whose features are read together: with two patches each of 2,048 dimensions, these take 32 MB."""
GROUPS_AT_ONCE = 32
"""Row groups of regions/, of up to 8 images, whose image samples are shuffled among each other."""


class MixSamples(beam.PTransform):
    """PCollection[Unit] of deals (`plan_deals`) → PCollection[str] of the shards done.

    images: the file that lists the shards of image samples (`work.publish_units`).
    """

    def __init__(self, settings: MixSettings, layout: Layout, images: str, out: str) -> None:
        super().__init__()
        self._settings = settings
        self._layout = layout
        self._images = images
        self._stage = Stage(MIX, out)

    def expand(self, deals: beam.PCollection) -> beam.PCollection:
        layout, stage = self._layout, self._stage
        return (
            deals
            | "DealOut" >> DoUnits(stage, DealWorker(layout, stage))
            | "CountDeals" >> beam.combiners.Count.Globally()
            | "ListBuckets" >> beam.FlatMap(_bucket_units, layout, stage)
            | "SortBuckets" >> DoUnits(stage, BucketWorker(layout, stage))
            | "CountBuckets" >> beam.combiners.Count.Globally()
            | "ListShards" >> beam.FlatMap(_shard_units, layout, self._images, stage)
            | "WriteShards" >> DoUnits(stage, ShardWorker(self._settings, layout, stage))
        )


@no_annotations
def _bucket_units(deals: int, layout: Layout, stage: Stage[ShardsDetails]) -> list[Unit[tuple[int, int]]]:
    """Units of buckets, once all is dealt out; none where a unit failed."""
    return [] if any_failed(stage) else plan_buckets(layout, deals)


@no_annotations
def _shard_units(
    buckets: int, layout: Layout, images: str, stage: Stage[ShardsDetails]
) -> list[Unit["MixedShard | ImageShard"]]:
    """Units of shards, once all buckets are sorted; none where a unit failed before."""
    ready = buckets == layout.buckets and not any_failed(stage)
    return [*plan_mixed_shards(layout), *read_units(stage, images, ImageShard)] if ready else []


@dataclass(frozen=True)
class MixedShard:
    """Content of a unit that writes a mixed shard: its number."""

    number: int


@dataclass(frozen=True)
class Slice:
    """Images `first` to `first + count - 1` of a part of regions/."""

    part: str
    first: int
    count: int


@dataclass(frozen=True)
class ImageShard:
    """Content of a unit that writes a shard of image samples."""

    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class ShardWorker:
    """Writes shards, mixed ones and ones of image samples."""

    settings: MixSettings
    layout: Layout
    stage: Stage[ShardsDetails]

    def load(self) -> PatchBank:
        return PatchBank.open(files.join(self.stage.out, INDEX.folder))

    def run(self, unit: Unit[MixedShard | ImageShard], resource: PatchBank) -> UnitResult[TallyCounts]:
        log = RejectLog("mix")
        tally = Tally()
        samples: Iterator[Sample]
        if isinstance(unit.content, MixedShard):
            kind = "views"
            samples = self._mixed(unit.content, resource, log, tally)
        else:
            kind = "images"
            samples = self._images(unit.content)
        name = f"{unit.name}.tar"
        offsets: list[int] = []
        with files.publishing(files.join(self.stage.folder, name)) as file:
            written = write_shard(file, samples, offsets)
        files.publish_bytes(files.join(self.stage.folder, f"{name}.idx"), np.array(offsets, "<u8").tobytes())
        if kind == "views":
            with files.publishing(files.join(self.stage.work, f"{unit.name}.uses")) as file:
                uses = np.array(sorted(tally.uses.items()), np.int64).reshape(-1, 2)
                np.lib.format.write_array(file, uses, allow_pickle=False)
        rejected = log.counts()
        return UnitResult(
            counts={kind: Counts(written + sum(rejected.values()), written, rejected)},
            outputs=tuple(manifest.describe(self.stage.folder, each, written) for each in (name, f"{name}.idx")),
            rejects=self.stage.publish_rejects(unit.name, log),
            details=tally.counts(),
        )

    def _mixed(self, shard: MixedShard, bank: PatchBank, log: RejectLog, tally: Tally) -> Iterator[MixedSample]:
        """The mixed samples of a shard; counts what was made of them, and logs sentences of which nothing was."""
        patches_of = known_patches(bank)
        views = read_shard_views(self.stage, self.layout, shard.number)
        for first in range(0, len(views), VIEWS_AT_ONCE):
            mixes: list[tuple[Sentence, Mix]] = []
            for row in views.slice(first, VIEWS_AT_ONCE).to_pylist():
                sentence = Sentence.from_row(row, row["view"])
                mixed = mix_sentence(sentence, patches_of, self.settings, self.layout.seed)
                rejected = why_rejected(sentence, mixed, self.settings)
                tally.add(sentence, mixed, written=rejected is None)
                if rejected is None:
                    mixes.append((sentence, mixed))
                else:
                    log.add(sentence.sentence_id, sentence.view, rejected.reason, ", ".join(rejected.concepts))
            yield from finish(mixes, bank, crops=self.settings.crops)

    def _images(self, shard: ImageShard) -> Iterator[ImageSample]:
        """The image samples of a shard: its row groups in the order of a hash, so many of them shuffled together."""
        groups = [group for entry in shard.slices for group in self._groups(entry)]
        groups.sort(key=lambda group: order_in_shard(f"{group.part}-{group.number}", self.layout.seed))
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            samples = [sample for group in groups[start : start + GROUPS_AT_ONCE] for sample in self._read(group)]
            yield from sorted(samples, key=lambda sample: order_in_shard(sample.key, self.layout.seed))

    def _groups(self, entry: "Slice") -> Iterator["_Group"]:
        """The row groups that hold a slice's images."""
        first = 0
        with damage_named(self._region(entry.part)) as file:
            parquet = pq.ParquetFile(file)
            for number in range(parquet.num_row_groups):
                column = parquet.read_row_group(number, columns=["image_id"], use_threads=False)["image_id"]
                ids = dict.fromkeys(column.to_pylist())
                wanted = list(ids)[max(entry.first - first, 0) : max(entry.first + entry.count - first, 0)]
                first += len(ids)
                if wanted:
                    yield _Group(entry.part, number, frozenset(wanted))

    def _read(self, group: "_Group") -> Iterator[ImageSample]:
        columns = ["image_id", "patch_id", "box", "concept", "score", "feature", "width", "height", "source"]
        if self.settings.crops:
            columns.append("crop")
        with damage_named(self._region(group.part)) as file:
            table = pq.ParquetFile(file).read_row_group(group.number, columns=columns, use_threads=False)
        features = feature_rows(table["feature"])
        rows = table.drop_columns(["feature"]).to_pylist()
        for sample in image_samples(rows, features, crops=self.settings.crops):
            if sample.image_id in group.images:
                yield sample

    def _region(self, part: str) -> str:
        return files.join(self.stage.out, DETECT.folder, part)


@dataclass(frozen=True)
class _Group:
    """A row group of a part of regions/, and which of its images are wanted."""

    part: str
    number: int
    images: frozenset[str]


def plan_mixed_shards(layout: Layout) -> list[Unit[MixedShard]]:
    """A unit a mixed shard."""
    return [Unit(f"mixed-{number:06d}", MixedShard(number)) for number in range(layout.shards)]


def plan_image_shards(parts: Sequence[tuple[str, int]], samples_per_shard: int) -> list[Unit[ImageShard]]:
    """Units of consecutive images of the parts (name, images), as many in each, one more or less; at most
    `samples_per_shard`."""
    total = sum(images for _, images in parts)
    shards = -(-total // samples_per_shard)
    bounds = [total * number // max(shards, 1) for number in range(shards + 1)]
    units = []
    for number, (begin, end) in enumerate(pairwise(bounds)):
        slices, at = [], 0
        for name, images in parts:
            first, last = max(begin - at, 0), min(end - at, images)
            if first < last:
                slices.append(Slice(name, first, last - first))
            at += images
        units.append(Unit(f"images-{number:06d}", ImageShard(tuple(slices))))
    return units


def run_mix(config: Config, engine: Engine, *, overwrite: bool) -> Manifest[ShardsDetails]:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    tagged = upstream(TAG, config.out)
    regions = upstream(DETECT, config.out)
    bank = upstream(INDEX, config.out)
    if tagged.details.vocabulary_hash != bank.details.vocabulary_hash:
        raise UserError(
            f"{config.out}: sentences were tagged with vocabulary {tagged.details.vocabulary!r}, the bank was built "
            f"with {bank.details.vocabulary!r}. Run the older of the two stages again with --overwrite."
        )
    sentences = tagged.counts["sentences"].written
    if not sentences:
        raise UserError(
            f"{files.join(config.out, 'tagged')}: no sentence mentions a concept of the vocabulary, so there is "
            "nothing to mix. See OUT/rejects/tag-*.parquet; choose another vocabulary or other texts."
        )
    stage = Stage(MIX, config.out)
    settings: dict[str, Any] = asdict(config.mix) | {"seed": config.seed}
    upstreams: dict[str, Manifest[AnyDetails]] = {"tagged": tagged, "regions": regions, "bank": bank}
    plan = Plan(settings, [entry.content_hash for entry in upstreams.values()], manifest.versions(PACKAGES))
    finished = begin_stage(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    layout = Layout.of(sentences, config.mix.views, config.mix.samples_per_shard, config.seed)
    parts = [part for part in tagged.outputs if part.name.endswith(".parquet") and part.rows]
    deals = plan_deals(parts, config.mix.views)
    images: list[Unit[ImageShard]] = []
    if config.mix.image_samples:
        found = list(zip([entry.name for entry in regions.outputs], regions.details.images_by_part, strict=True))
        images = plan_image_shards(found, config.mix.samples_per_shard)
    shards: list[Unit[MixedShard | ImageShard]] = [*plan_mixed_shards(layout), *images]
    units: list[Unit[object]] = [*deals, *plan_buckets(layout, len(deals)), *shards]
    left = pending(stage, units)
    with progress(stage, "mix", [unit.name for unit in units], "samples"):
        if left:
            listed = publish_units(stage, images)
            transform = MixSamples(config.mix, layout, listed, config.out)
            engine.run(
                stage,
                deals,
                tuple[str, ...],
                lambda deals: deals | "MixSamples" >> transform,
                label="mix",
                processes=len(left),
            )
    results = read_results(stage, [unit.name for unit in shards], TallyCounts)
    patches = PatchBank.open(files.join(config.out, INDEX.folder))
    tally = Tally()
    uses = np.zeros(len(patches), np.int64)
    for unit, result in zip(shards, results, strict=True):
        if isinstance(unit.content, MixedShard):
            tally.merge(result.details)
            with files.open_read(files.join(stage.work, f"{unit.name}.uses")) as file:
                rows, times = np.lib.format.read_array(file, allow_pickle=False).T
            uses[rows] += times
    counts = sum((result.counts["views"] for result in results if "views" in result.counts), Counts(0, 0))
    image_count = sum(result.counts["images"].written for result in results if "images" in result.counts)
    summary = MixSummary.of(tally, uses, counts, image_count, patches)
    written = [entry for result in results for entry in result.outputs if entry.name.endswith(".tar")]
    details = ShardsDetails(
        feature_dim=bank.details.feature_dim,
        concepts=tuple(concept.name for concept in patches.concepts),
        vocabulary=bank.details.vocabulary,
        vocabulary_hash=bank.details.vocabulary_hash,
        detector=bank.details.detector.name,
        bank=bank.content_hash,
        replaced={name: entry.replaced for name, entry in summary.concepts.items()},
        seed=config.seed,
        settings=asdict(config.mix),
    )
    return finish_stage(
        stage,
        plan,
        results,
        details=details,
        max_bad_fraction=config.max_bad_fraction,
        extra_inputs=[
            Input(name, sum(output.bytes for output in entry.outputs), entry.content_hash)
            for name, entry in upstreams.items()
        ],
        extra_outputs=[*write_reader_indexes(stage.folder, written), *_describe_what_came_out(stage, summary, patches)],
    )


def _describe_what_came_out(stage: Stage[ShardsDetails], summary: MixSummary, bank: PatchBank) -> list[Output]:
    """Write the summary and the page."""
    files.publish_bytes(files.join(stage.folder, SUMMARY), manifest.canonical(summary.to_json(), indent=1))
    write_mix_page(files.join(stage.folder, PAGE), summary, bank)
    return [manifest.describe(stage.folder, name, len(summary.concepts)) for name in (PAGE, SUMMARY)]


def write_reader_indexes(folder: str, shards: Sequence[Output]) -> list[Output]:
    """The small files by which open_clip (sizes.json), timm (_info.json) and energon (.nv-meta/) know the shards."""
    splits = {}
    for split in ("mixed", "images"):
        of_split = [shard for shard in sorted(shards, key=lambda shard: shard.name) if shard.name.startswith(split)]
        if of_split:
            splits[split] = {
                "name": split,
                "filenames": [shard.name for shard in of_split],
                "shard_lengths": [shard.rows for shard in of_split],
                "num_samples": sum(shard.rows for shard in of_split),
            }
    sizes = {shard.name: shard.rows for shard in shards}
    parts = {split: splits[name]["filenames"] if name in splits else [] for split, name in ENERGON_SPLITS.items()}
    contents = {
        "sizes.json": sizes,
        "_info.json": {"splits": splits},
        ".nv-meta/.info.json": {"energon_version": ENERGON_VERSION, "shard_counts": sizes},
        # JSON is YAML.
        ".nv-meta/split.yaml": {"split_parts": parts, "exclude": []},
        ".nv-meta/dataset.yaml": ENERGON_TEXT,
        ".nv-meta/crude.yaml": {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"},
    }
    for name, content in contents.items():
        files.publish_bytes(files.join(folder, name), json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    return [manifest.describe(folder, name, len(shards)) for name in sorted(contents)]


ENERGON_VERSION = "7.4.1"
"""Whose layout of .nv-meta/ this is."""
ENERGON_SPLITS = {"train": "mixed", "val": "none", "test": "none", "images": "images"}
ENERGON_TEXT = {
    "sample_type": {"__module__": "megatron.energon", "__class__": "TextSample"},
    "field_map": {"text": "txt"},
}
