"""Stage `mix`: tagged/ + bank/ → shards/mixed-*.tar, and regions/ → shards/images-*.tar.

Samples are shuffled over the whole corpus by a stable hash. First every part of tagged/ is dealt out into a file with
one record batch a shard (`deal-`); then a unit a shard gathers its batches, draws the patches and writes the tar.
Sentences travel through these files, features and crops through nothing: a shard's unit reads them from the bank.
"""

import gc
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import files, manifest, schemas
from artifacts.errors import UserError
from artifacts.manifest import Counts, Input, Manifest, Output
from artifacts.rejects import RejectLog
from artifacts.rng import stable_hash
from artifacts.samples import ImageSample, MixedSample, Sample, write_shard
from artifacts.schemas import damage_named
from bank.building import feature_rows
from bank.store import PatchBank
from pipeline.config import Config, MixSettings
from pipeline.jobs import work
from pipeline.jobs.engine import DoUnits, Engine, progress
from pipeline.jobs.layout import FOLDERS
from pipeline.jobs.work import Plan, Stage, Unit, UnitResult
from pipeline.mix.cutmix import Mix
from pipeline.mix.samples import (
    Sentence,
    finish,
    image_samples,
    known_patches,
    mix_sentence,
    sample_key,
    shard_of,
    why_rejected,
)  # fmt: skip
from pipeline.mix.tally import Tally
from pipeline.report.mixing import PAGE, SUMMARY, MixSummary, write_mix_page

PACKAGES = ("vlmixer", "numpy", "pyarrow")
DEALT = "dealt.list"
"""In the work folder: the names of the files with the sentences that were dealt out."""
PARTS_A_WORKER = 64
"""A worker process takes longer to start than to deal out so many parts."""
ROWS_AT_ONCE = 8192
"""Patches whose features are read together: of 2,048 dimensions, they take 32 MB."""
GROUPS_AT_ONCE = 32
"""Row groups of regions/, of up to 8 images, whose image samples are shuffled among each other."""


class MixSamples(beam.PTransform):
    """PCollection[Unit] of shards, whose sentences were dealt out → PCollection[str] of the shards done."""

    def __init__(self, settings: MixSettings, seed: int, out: str) -> None:
        super().__init__()
        self._worker = ShardWorker(settings, seed, Stage("mix", out))

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | "WriteShards" >> DoUnits(self._worker.stage, self._worker)


@dataclass(frozen=True)
class DealWorker:
    """Deals a part of tagged/ out to the shards; unit content: (name of the part, number of shards)."""

    views: int
    seed: int
    stage: Stage

    def load(self) -> None:
        return None

    def run(self, unit: Unit, resource: None) -> UnitResult:
        part, shards = unit.content
        with damage_named(files.join(self.stage.out, FOLDERS["tag"], part)) as file:
            table = pq.read_table(file, schema=schemas.TAGGED, use_threads=False)
        rows: list[list[int]] = [[] for _ in range(shards)]
        views: list[list[int]] = [[] for _ in range(shards)]
        for row, sentence_id in enumerate(table["sentence_id"].to_pylist()):
            for view in range(self.views):
                shard = shard_of(sample_key(sentence_id, view), shards, self.seed)
                rows[shard].append(row)
                views[shard].append(view)
        schema = schemas.TAGGED.append(pa.field("view", pa.int32(), nullable=False))
        with (
            files.publishing(files.join(self.stage.work, f"{unit.name}.arrow")) as file,
            pa.ipc.new_file(file, schema) as writer,
        ):
            for shard in range(shards):
                dealt = table.take(pa.array(rows[shard], pa.int64())).combine_chunks()
                dealt = dealt.append_column(schema.field("view"), pa.array(views[shard], pa.int32()))
                # Exactly one batch a shard, also an empty one: the batch's number is the shard's.
                columns = [column.combine_chunks() for column in dealt.columns]
                writer.write_batch(pa.record_batch(columns, schema=schema))
        return UnitResult()


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
    seed: int
    stage: Stage

    def load(self) -> PatchBank:
        # Modules and whatever else there is by now stays: collections that look at it again and again take a quarter
        # of the time that mixing does.
        gc.freeze()
        return PatchBank.open(files.join(self.stage.out, FOLDERS["index"]))

    def run(self, unit: Unit, resource: PatchBank) -> UnitResult:
        log = RejectLog("mix")
        tally = Tally(len(resource))
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
                np.lib.format.write_array(file, tally.uses.astype(np.uint32), allow_pickle=False)
        rejected = log.counts()
        return UnitResult(
            counts={kind: Counts(written + sum(rejected.values()), written, rejected)},
            outputs=tuple(manifest.describe(self.stage.folder, each, written) for each in (name, f"{name}.idx")),
            rejects=self.stage.publish_rejects(unit.name, log),
            details={"tally": tally.to_json()},
        )

    def _mixed(self, shard: MixedShard, bank: PatchBank, log: RejectLog, tally: Tally) -> Iterator[MixedSample]:
        """The mixed samples of a shard; counts what was made of them, and logs sentences of which nothing was."""

        patches_of = known_patches(bank)
        mixes: list[tuple[Sentence, Mix]] = []
        rows = 0
        for row in self._gather(shard):
            sentence = Sentence.from_row(row, row["view"])
            mixed = mix_sentence(sentence, patches_of, self.settings, self.seed)
            rejected = why_rejected(sentence, mixed, self.settings)
            tally.add(sentence, mixed, written=rejected is None)
            if rejected is not None:
                log.add(sentence.sentence_id, sentence.view, rejected.reason, ", ".join(rejected.concepts))
                continue
            mixes.append((sentence, mixed))
            rows += len(mixed.pasted)
            if rows >= ROWS_AT_ONCE:
                yield from finish(mixes, bank, crops=self.settings.crops)
                mixes, rows = [], 0
        yield from finish(mixes, bank, crops=self.settings.crops)

    def _gather(self, shard: MixedShard) -> list[dict[str, Any]]:
        """The (tagged sentence, view) rows that were dealt to a shard, in its order."""
        rows: list[dict[str, Any]] = []
        for name in json.loads(files.read_bytes(files.join(self.stage.work, DEALT))):
            with files.open_read(files.join(self.stage.work, name)) as file, pa.ipc.open_file(file) as reader:
                rows += reader.get_batch(shard.number).to_pylist()
        return sorted(rows, key=lambda row: _order(sample_key(row["sentence_id"], row["view"]), self.seed))

    def _images(self, shard: ImageShard) -> Iterator[ImageSample]:
        """The image samples of a shard: its row groups in the order of a hash, so many of them shuffled together."""
        groups = [group for entry in shard.slices for group in self._groups(entry)]
        groups.sort(key=lambda group: _order(f"{group.part}-{group.number}", self.seed))
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            samples = [sample for group in groups[start : start + GROUPS_AT_ONCE] for sample in self._read(group)]
            yield from sorted(samples, key=lambda sample: _order(sample.key, self.seed))

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
        return files.join(self.stage.out, FOLDERS["detect"], part)


@dataclass(frozen=True)
class _Group:
    """A row group of a part of regions/, and which of its images are wanted."""

    part: str
    number: int
    images: frozenset[str]


def _order(key: str, seed: int) -> tuple[int, str]:
    """What the samples of a shard are ordered by."""
    return stable_hash(seed, "place", key), key


def plan_image_shards(parts: Sequence[tuple[str, int]], samples_per_shard: int) -> list[Unit]:
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


def run_mix(config: Config, engine: Engine, *, overwrite: bool) -> Manifest:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    tagged = work.upstream("tag", config.out)
    regions = work.upstream("detect", config.out)
    bank = work.upstream("index", config.out)
    if tagged.details["vocabulary_hash"] != bank.details["vocabulary_hash"]:
        raise UserError(
            f"{config.out}: sentences were tagged with vocabulary {tagged.details['vocabulary']!r}, the bank was built "
            f"with {bank.details['vocabulary']!r}. Run the older of the two stages again with --overwrite."
        )
    sentences = tagged.counts["sentences"].written
    if not sentences:
        raise UserError(
            f"{files.join(config.out, 'tagged')}: no sentence mentions a concept of the vocabulary, so there is "
            "nothing to mix. See OUT/rejects/tag-*.parquet; choose another vocabulary or other texts."
        )
    stage = Stage("mix", config.out)
    settings: dict[str, Any] = asdict(config.mix) | {"seed": config.seed}
    upstreams = {"tagged": tagged, "regions": regions, "bank": bank}
    plan = Plan(settings, [entry.content_hash for entry in upstreams.values()], manifest.versions(PACKAGES))
    finished = work.begin(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    shards = -(-sentences * config.mix.views // config.mix.samples_per_shard)
    parts = [entry.name for entry in tagged.outputs if entry.name.endswith(".parquet") and entry.rows]
    deals = [Unit(f"deal-{name.removesuffix('.parquet')}", (name, shards)) for name in parts]
    # In a file, as each of many shards draws on all of many.
    files.publish_bytes(files.join(stage.work, DEALT), manifest.canonical([f"{unit.name}.arrow" for unit in deals]))
    units = [Unit(f"mixed-{number:06d}", MixedShard(number)) for number in range(shards)]
    if config.mix.image_samples:
        images = list(zip([entry.name for entry in regions.outputs], regions.details["images_by_part"], strict=True))
        units += plan_image_shards(images, config.mix.samples_per_shard)
    left = work.pending(stage, deals)
    if left:
        worker = DealWorker(config.mix.views, config.seed, stage)
        engine.run(
            stage,
            left,
            tuple[str, int],
            lambda units: units | "DealOut" >> DoUnits(stage, worker),
            label="mix: deal",
            processes=-(-len(left) // PARTS_A_WORKER),
        )
    left = work.pending(stage, units)
    with progress(stage, "mix", [unit.name for unit in units], "samples"):
        if left:
            transform = MixSamples(config.mix, config.seed, config.out)
            shard = MixedShard | ImageShard
            engine.run(stage, left, shard, lambda units: units | "MixSamples" >> transform, label="mix")
    results = work.read_results(stage, [unit.name for unit in units])
    patches = PatchBank.open(files.join(config.out, FOLDERS["index"]))
    tally = Tally(len(patches))
    for unit, result in zip(units, results, strict=True):
        if isinstance(unit.content, MixedShard):
            with files.open_read(files.join(stage.work, f"{unit.name}.uses")) as file:
                uses = np.lib.format.read_array(file, allow_pickle=False)
            tally.merge(result.details["tally"], uses)
    counts = sum((result.counts["views"] for result in results if "views" in result.counts), Counts(0, 0))
    image_count = sum(result.counts["images"].written for result in results if "images" in result.counts)
    summary = MixSummary.of(tally, counts, image_count, patches)
    written = [entry for result in results for entry in result.outputs if entry.name.endswith(".tar")]
    details = {
        "feature_dim": bank.details["feature_dim"],
        "concepts": [concept.name for concept in patches.concepts],
        "vocabulary": bank.details["vocabulary"],
        "vocabulary_hash": bank.details["vocabulary_hash"],
        "detector": bank.details["detector"]["name"],
        "bank": bank.content_hash,
        "replaced": dict(sorted(tally.replaced.items())),
        "seed": config.seed,
        "settings": asdict(config.mix),
    }
    return work.finish(
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


def _describe_what_came_out(stage: Stage, summary: MixSummary, bank: PatchBank) -> list[Output]:
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
