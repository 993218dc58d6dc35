"""Stage `mix`: tagged/ + bank/ → shards/mixed-*.tar, and regions/ → shards/images-*.tar.

First the views of all sentences are shuffled into shards (pipeline/jobs/shuffle.py). Then each unit draws the patches
of a shard's sentences and writes its tar. Sentences travel through files; features and crops do not travel: the unit of
a shard reads them from the bank.

What a sample is made of is in pipeline/mix/samples.py and cutmix.py.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, cast

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest, npy_files
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.samples import MixedSample, Sample, write_shard
from vlmixer.artifacts.stages import DETECT, INDEX, MIX
from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.config import Config, MixSettings
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish
from vlmixer.pipeline.jobs.last_pass import do_share
from vlmixer.pipeline.jobs.shuffle import BucketWorker, ShuffleWorker
from vlmixer.pipeline.mix.card import write_card
from vlmixer.pipeline.mix.croissant import write_croissant
from vlmixer.pipeline.mix.cutmix import Mix
from vlmixer.pipeline.mix.image_shards import read_image_samples
from vlmixer.pipeline.mix.limits import patch_limits
from vlmixer.pipeline.mix.reader_indexes import write_reader_indexes
from vlmixer.pipeline.mix.samples import Sentence, finish, known_patches, mix_sentence, why_rejected
from vlmixer.pipeline.mix.shuffling import read_shard_views
from vlmixer.pipeline.mix.tally import MixTally, TallyCounts, write_tally
from vlmixer.pipeline.mix.units import (
    IMAGES,
    MIXED,
    SIZES,
    ImageShard,
    MixedShard,
    MixSizes,
    ShardLayout,
    plan_buckets,
    plan_image_shards,
    plan_mixed_shards,
)
from vlmixer.pipeline.mix.upstream import Upstream, read_upstream
from vlmixer.pipeline.report.mixing import write_mixing_report
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.finishing import (
    Finished,
    finish_stage,
    finish_unit,
    publish_known,
    with_outputs,
    with_results,
)
from vlmixer.pipeline.units.listing import publish_units, read_units
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import each_result
from vlmixer.pipeline.units.share import preparing
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

VIEWS_AT_ONCE = 4096
"""Sentences whose features are read together. With two patches each, of 2,048 dimensions, they take 32 MB."""


class Shuffle(beam.PTransform):
    """PCollection[Unit] of the shuffle's first pass → PCollection[str], the names of the buckets sorted."""

    def __init__(self, layout: ShardLayout, stage: Stage[ShardsDetails]) -> None:
        super().__init__()
        self._layout, self._stage = layout, stage

    def expand(self, shuffles: beam.PCollection) -> beam.PCollection:
        layout, stage = self._layout, self._stage
        return (
            shuffles
            | "ShuffleViews" >> DoUnits(stage, ShuffleWorker(layout, stage))
            | "CountShuffles" >> beam.combiners.Count.Globally()
            | "ListBuckets" >> beam.FlatMap(_bucket_units, layout, stage)
            | "SortBuckets" >> DoUnits(stage, BucketWorker(layout, stage))
        )


class MixSamples(beam.PTransform):
    """PCollection[Unit] of the shuffle's first pass → PCollection[str], the names of the shards done.

    images: the file that lists the shards of image samples (`publish_units`).
    """

    def __init__(self, worker: "ShardWorker", images: str) -> None:
        super().__init__()
        self._worker, self._images = worker, images

    def expand(self, shuffles: beam.PCollection) -> beam.PCollection:
        layout, stage = self._worker.layout, self._worker.stage
        return (
            shuffles
            | "Shuffle" >> Shuffle(layout, stage)
            | "CountBuckets" >> beam.combiners.Count.Globally()
            | "ListShards" >> beam.FlatMap(_shard_units, layout, self._images, stage)
            | "WriteShards" >> DoUnits(stage, self._worker)
        )


@no_annotations
def _bucket_units(shuffles: int, layout: ShardLayout, stage: Stage[ShardsDetails]) -> list[Unit[tuple[int, int]]]:
    """Units of buckets, once all views are spread over them. None if a unit failed."""
    return [] if any_failed(stage) else plan_buckets(layout, shuffles)


@no_annotations
def _shard_units(
    buckets: int, layout: ShardLayout, images: str, stage: Stage[ShardsDetails]
) -> list[Unit[MixedShard | ImageShard]]:
    """Units of shards, once all buckets are sorted. None if a unit failed before."""
    ready = buckets == layout.buckets and not any_failed(stage)
    return [*plan_mixed_shards(layout), *read_units(stage, images, ImageShard)] if ready else []


@dataclass(frozen=True)
class ShardWorker:
    """Writes shards: mixed ones and those of image samples. mentions: how often the sentences mention each concept."""

    settings: MixSettings
    layout: ShardLayout
    mentions: Mapping[str, int]
    stage: Stage[ShardsDetails]

    def load(self) -> PatchBank:
        return PatchBank.open(files.join(self.stage.out, INDEX.folder))

    def run(self, unit: Unit[MixedShard | ImageShard], resource: PatchBank) -> UnitResult[TallyCounts]:
        tally = MixTally()
        samples: Iterator[Sample]
        name = f"{unit.name}.tar"
        offsets: list[int] = []
        with self.stage.reject_file(unit.name) as log:
            if isinstance(unit.content, MixedShard):
                kind = "views"
                samples = self._mixed(unit.content, resource, log, tally)
            else:
                kind = "images"
                regions = files.join(self.stage.out, DETECT.folder)
                samples = read_image_samples(unit.content, regions, self.layout.seed, crops=self.settings.crops)
            with files.publishing(files.join(self.stage.folder, name)) as file:
                written = write_shard(file, samples, offsets)
        files.publish_bytes(files.join(self.stage.folder, f"{name}.idx"), np.array(offsets, "<u8").tobytes())
        if kind == "views":
            with files.publishing(_uses_file(self.stage, unit.name)) as file:
                uses = np.array(sorted(tally.uses.items()), np.int64).reshape(-1, 2)
                np.lib.format.write_array(file, uses, allow_pickle=False)
        rejected = log.counts()
        return UnitResult(
            counts={kind: Counts(written + sum(rejected.values()), written, rejected)},
            outputs=tuple(manifest.output_of(self.stage.folder, each, written) for each in (name, f"{name}.idx")),
            rejects=self.stage.listed(log),
            details=tally.counts(),
        )

    def _mixed(self, shard: MixedShard, bank: PatchBank, log: RejectLog, tally: MixTally) -> Iterator[MixedSample]:
        """The mixed samples of a shard. Counts the outcomes, and logs sentences without a sample."""
        patches_of = known_patches(bank)
        limits = patch_limits(self.mentions, bank.counts, self.settings, self.settings.views)
        views = read_shard_views(self.stage.work, self.layout, shard.number)
        for first in range(0, len(views), VIEWS_AT_ONCE):
            mixes: list[tuple[Sentence, Mix]] = []
            for row in views.slice(first, VIEWS_AT_ONCE).to_pylist():
                sentence = Sentence.from_row(row, row["view"])
                mixed = mix_sentence(sentence, patches_of, self.settings, self.layout.seed, limits)
                rejected = why_rejected(sentence, mixed, self.settings)
                tally.add(sentence, mixed, written=rejected is None)
                if rejected is None:
                    mixes.append((sentence, mixed))
                else:
                    log.add(sentence.sentence_id, sentence.view, rejected.reason, ", ".join(rejected.concepts))
            yield from finish(mixes, bank, crops=self.settings.crops)


def _uses_file(stage: Stage[ShardsDetails], unit: str) -> str:
    """How often each patch was pasted in a shard: (n, 2) int64, rows of the bank and numbers."""
    return files.join(stage.work, f"{unit}.uses")


def run_mix(config: Config, engine: Engine, *, overwrite: bool, sizes: MixSizes = SIZES) -> Finished[ShardsDetails]:
    """Run the stage, or resume it. Raises UserError, CallError."""
    upstream = read_upstream(config.out)
    stage = Stage(MIX, config.out)
    settings: dict[str, Any] = asdict(config.mix) | {"seed": config.seed}
    hashes = [entry.content_hash for entry in upstream.by_folder.values()]
    plan = Plan(settings, hashes, manifest.versions(packages(config.mix)))
    with preparing(stage, engine.share):
        before = begin_stage(stage, plan, overwrite=overwrite, alone=engine.share is None)
        if before is None:
            work = _Work.of(config, upstream, stage, sizes)
            publish_known(stage, plan, _known(config, upstream), inputs=_inputs(upstream))
            if engine.share is not None:
                work.shuffle(engine)
    finished = work.do(engine, config.max_bad_fraction) if before is None else Finished.of(before)
    write_mixing_report(config.out, finished)
    return finished


def packages(settings: MixSettings) -> list[str]:
    """What the bytes of shards/ depend on. Pillow packs crops."""
    return ["vlmixer", "numpy", "pyarrow", *(["pillow"] if settings.crops else [])]


def _known(config: Config, upstream: Upstream) -> ShardsDetails:
    bank = upstream.bank.details
    return ShardsDetails(
        feature_dim=bank.feature_dim,
        concepts=tuple(concept.name for concept in PatchBank.open(files.join(config.out, INDEX.folder)).concepts),
        vocabulary=bank.vocabulary,
        vocabulary_hash=bank.vocabulary_hash,
        detector=bank.detector.name,
        bank=upstream.bank.content_hash,
        replaced={},
        seed=config.seed,
        settings=asdict(config.mix),
    )


def _inputs(upstream: Upstream) -> list[Input]:
    return [
        Input(name, sum(output.bytes for output in entry.outputs), entry.content_hash)
        for name, entry in upstream.by_folder.items()
    ]


@dataclass(frozen=True)
class _Work:
    """The units of the stage, and their passes, or what is left of them."""

    stage: Stage[ShardsDetails]
    worker: ShardWorker
    shuffles: list[Unit[tuple[str, ...]]]
    mixed: list[Unit[MixedShard]]
    images: list[Unit[ImageShard]]

    @classmethod
    def of(cls, config: Config, upstream: Upstream, stage: Stage[ShardsDetails], sizes: MixSizes) -> "_Work":
        """The units, of what earlier stages left."""
        size = config.mix.samples_per_shard
        layout = sizes.layout(upstream.tagged.written("sentences"), config.mix.views, size, config.seed)
        parts = [part for part in upstream.tagged.parts if part.rows]
        images: list[Unit[ImageShard]] = []
        if config.mix.image_samples:
            regions = upstream.regions
            found = list(zip([entry.name for entry in regions.parts], regions.details.images_by_part, strict=True))
            images = plan_image_shards(found, size)
        worker = ShardWorker(config.mix, layout, dict(upstream.tagged.details.mentions), stage)
        shuffles = sizes.plan_shuffles(parts, config.mix.views)
        return cls(stage, worker, shuffles, plan_mixed_shards(layout), images)

    @property
    def buckets(self) -> list[Unit[tuple[int, int]]]:
        """The units of the shuffle's second pass."""
        return plan_buckets(self.worker.layout, len(self.shuffles))

    def shuffle(self, engine: Engine) -> None:
        """The two passes of the shuffle, for shards that are written in another job."""
        planned: list[Unit[object]] = [*self.shuffles, *self.buckets]
        with progress(self.stage, "mix: shuffle", [unit.name for unit in planned], "samples"):
            if left := pending(self.stage, planned):
                transform = Shuffle(self.worker.layout, self.stage)
                engine.run(
                    self.stage,
                    self.shuffles,
                    tuple[str, ...],
                    lambda shuffles: shuffles | "Shuffle" >> transform,
                    label="mix: shuffle",
                    processes=len(left),
                )

    def do(self, engine: Engine, max_bad_fraction: float) -> Finished[ShardsDetails]:
        """All passes in one job. Raises ShareDone."""
        stage, images = self.stage, len(self.images)
        shards: list[Unit[MixedShard | ImageShard]] = [*self.mixed, *self.images]
        if engine.share is not None:
            kind = cast(type[MixedShard | ImageShard], MixedShard | ImageShard)
            do_share(stage, engine, shards, kind, "WriteShards" >> DoUnits(stage, self.worker), items="samples")
        planned: list[Unit[object]] = [*self.shuffles, *self.buckets, *shards]
        left = pending(stage, [*planned, finish_unit(stage)])
        with progress(stage, "mix", [unit.name for unit in planned], "samples"):
            if left:
                transform = MixSamples(self.worker, publish_units(stage, self.images))
                finish = Finish(stage, partial(sum_up, stage, len(self.mixed), images), len(shards))
                engine.run(
                    stage,
                    self.shuffles,
                    tuple[str, ...],
                    lambda shuffles: shuffles | "MixSamples" >> transform | "Finish" >> finish,
                    label="mix",
                    processes=len(left),
                )
        return finish_stage(stage, max_bad_fraction=max_bad_fraction)


def sum_up(
    stage: Stage[ShardsDetails], mixed: int, images: int, known: Manifest[ShardsDetails]
) -> Manifest[ShardsDetails]:
    """Write the counts, the index files of other readers and the card, and complete the manifest, of what the units of
    so many mixed shards and shards of image samples left."""
    tally = MixTally()
    uses = np.zeros(len(PatchBank.open(files.join(stage.out, INDEX.folder))), np.int64)
    names = [MIXED.name(number) for number in range(mixed)]

    def results() -> Iterator[UnitResult[TallyCounts]]:
        for name, result in zip(names, each_result(stage, names, TallyCounts), strict=True):
            tally.merge(result.details)
            path, advice = _uses_file(stage, name), "Run mix with --overwrite."
            (pairs,) = npy_files.read(path, npy_files.Kind(np.int64, 2), advice=advice)
            if len(pairs) and not 0 <= pairs[:, 0].min() <= pairs[:, 0].max() < len(uses):
                raise UserError(f"{path}: damaged (a row that the bank does not have). {advice}")
            uses[pairs[:, 0]] += pairs[:, 1]
            yield result
        yield from each_result(stage, [IMAGES.name(number) for number in range(images)], TallyCounts)

    made = with_results(known, results())
    replaced = tally.mentions("drawn", "filled", written=True)
    details = replace(known.details, replaced={name: replaced[name] for name in sorted(tally.mentions())})
    tars = [entry for entry in made.outputs if entry.name.endswith(".tar")]
    in_order = sorted(tars, key=lambda entry: not entry.name.startswith(MIXED.prefix))
    crops = details.settings["crops"]
    write_card(stage.folder, in_order, details, crops)
    write_croissant(stage.folder, in_order, crops)
    outputs = [*write_reader_indexes(stage.folder, in_order, crops), *write_tally(stage.folder, tally, uses)]
    return replace(with_outputs(made, outputs), details=details)
