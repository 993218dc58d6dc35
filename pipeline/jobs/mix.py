"""Stage `mix`: tagged/ + bank/ → shards/mixed-*.tar, and regions/ → shards/images-*.tar.

Samples are shuffled over the whole corpus by a stable hash. First every part of tagged/ is dealt out into a file with
one record batch a shard (`deal-`); then a unit a shard gathers its batches, draws the patches and writes the tar.
Sentences travel through these files, features and crops through nothing: a shard's unit reads them from the bank.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import files, manifest, schemas
from artifacts.errors import UserError
from artifacts.manifest import Counts, Input, Manifest, Output
from artifacts.rejects import RejectLog
from artifacts.rng import generator, stable_hash
from artifacts.samples import ImageSample, Mention, MixedSample, Patch, Sample, write_shard
from artifacts.schemas import damage_named
from bank.building import feature_rows
from bank.store import ConceptPatches, PatchBank
from pipeline.config import Config, MixSettings
from pipeline.jobs import work
from pipeline.jobs.engine import DoUnits, Engine, progress
from pipeline.jobs.layout import FOLDERS
from pipeline.jobs.work import Plan, Stage, Unit, UnitResult
from pipeline.mix.cutmix import mix
from pipeline.mix.samples import image_sample, mixed_sample, sample_key

PACKAGES = ("vlmixer", "numpy", "pyarrow")
DRAWN_AT_ONCE = 512


class MixSamples(beam.PTransform):
    """PCollection[Unit] of shards, whose sentences were dealt out → PCollection[str] of the shards done."""

    def __init__(self, settings: MixSettings, seed: int, out: str) -> None:
        super().__init__()
        self._worker = ShardWorker(settings, seed, Stage("mix", out))

    def expand(self, shards: beam.PCollection) -> beam.PCollection:
        return shards | "WriteShards" >> DoUnits(self._worker.stage, self._worker)


def shard_of(key: str, shards: int, seed: int) -> int:
    """The shard that the sample `key` belongs to."""
    return stable_hash(seed, "shard", key) % shards


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
            table = pq.read_table(file, schema=schemas.TAGGED)
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
    """Content of a unit that writes a mixed shard: its number, and the files with dealt-out sentences."""

    number: int
    dealt: tuple[str, ...]


@dataclass(frozen=True)
class ImageShard:
    """Content of a unit that writes a shard of image samples: the parts of regions/ that it takes."""

    parts: tuple[str, ...]


@dataclass(frozen=True)
class ShardWorker:
    """Writes shards, mixed ones and ones of image samples."""

    settings: MixSettings
    seed: int
    stage: Stage

    def load(self) -> PatchBank:
        return PatchBank.open(files.join(self.stage.out, FOLDERS["index"]))

    def run(self, unit: Unit, resource: PatchBank) -> UnitResult:
        log = RejectLog("mix")
        replaced: Counter[str] = Counter()
        read = 0
        kind = "views"
        samples: Iterator[Sample]
        if isinstance(unit.content, MixedShard):
            rows = self._gather(unit.content)
            read = len(rows)
            samples = mixed_samples(rows, resource, self.settings, self.seed, log, replaced)
        else:
            kind = "images"
            samples = image_samples(files.join(self.stage.out, FOLDERS["detect"]), unit.content.parts)
        name = f"{unit.name}.tar"
        with files.publishing(files.join(self.stage.folder, name)) as file:
            written = write_shard(file, samples)
        return UnitResult(
            counts={kind: Counts(read if kind == "views" else written, written, log.counts())},
            outputs=(manifest.describe(self.stage.folder, name, written),),
            rejects=self.stage.publish_rejects(unit.name, log),
            details={"replaced": dict(sorted(replaced.items()))},
        )

    def _gather(self, shard: MixedShard) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for name in shard.dealt:
            with files.open_read(files.join(self.stage.work, name)) as file, pa.ipc.open_file(file) as reader:
                rows += reader.get_batch(shard.number).to_pylist()
        return sorted(rows, key=lambda row: _order(sample_key(row["sentence_id"], row["view"]), self.seed))


def _order(key: str, seed: int) -> tuple[int, str]:
    """What the samples of a shard are ordered by."""
    return stable_hash(seed, "place", key), key


def mixed_samples(
    rows: Sequence[dict[str, Any]],
    bank: PatchBank,
    settings: MixSettings,
    seed: int,
    log: RejectLog,
    replaced: Counter[str],
) -> Iterator[MixedSample]:
    """The mixed samples of (tagged sentence, view) rows; those without any patch are rejected.

    A sample is a function of (seed, sentence id, view, bank, settings). Counts replaced mentions by concept.
    """
    known = set(bank.counts)

    def patches_of(concept: str) -> ConceptPatches:
        return bank.patches(concept) if concept in known else ConceptPatches.none(concept)

    for start in range(0, len(rows), DRAWN_AT_ONCE):
        drawn = []
        for row in rows[start : start + DRAWN_AT_ONCE]:
            mentions = [Mention(**mention) for mention in row["mentions"]]
            pasted = mix(
                mentions,
                patches_of,
                replace_probability=settings.replace_probability,
                patches_per_word=settings.patches_per_word,
                sampler=settings.sampler,
                min_replaced=settings.min_replaced,
                rng=generator(seed, "mix", row["sentence_id"], row["view"]),
            )
            if not pasted and not any(len(patches_of(mention.concept)) for mention in mentions):
                log.add(row["sentence_id"], row["view"], "no_patch", ", ".join(m.concept for m in mentions))
                continue
            drawn.append((row, mentions, pasted))
        # One sorted read for many samples, instead of a random one for each patch.
        features = bank.features([paste.patch.row for _, _, pasted in drawn for paste in pasted])
        at = 0
        for row, mentions, pasted in drawn:
            own = features[at : at + len(pasted)]
            at += len(pasted)
            replaced.update(mentions[index].concept for index in {paste.mention for paste in pasted})
            yield mixed_sample(row["sentence_id"], row["view"], row["text"], mentions, pasted, own)


def image_samples(regions: str, parts: Sequence[str]) -> Iterator[ImageSample]:
    """An image sample for each image of these parts of regions/, in their order."""
    columns = ["image_id", "patch_id", "box", "concept", "score", "feature", "width", "height", "source"]
    for part in parts:
        with damage_named(files.join(regions, part)) as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=columns)
                features = feature_rows(table["feature"])
                rows = list(enumerate(table.drop_columns(["feature"]).to_pylist()))
                for _, of_image in groupby(rows, key=lambda row: row[1]["image_id"]):
                    found = list(of_image)
                    patches = [
                        Patch(
                            mention=None,
                            patch_id=row["patch_id"],
                            image_id=row["image_id"],
                            concept=row["concept"],
                            score=row["score"],
                            box=tuple(row["box"]),
                            width=row["width"],
                            height=row["height"],
                        )
                        for _, row in found
                    ]
                    own = features[[index for index, _ in found]]
                    yield image_sample(patches, found[0][1]["source"], own)


def plan_image_shards(parts: Sequence[tuple[str, int]], samples_per_shard: int) -> list[Unit]:
    """Units of consecutive parts (name, images) of about `samples_per_shard` images each."""
    shards: list[list[str]] = []
    filled = samples_per_shard
    for name, images in parts:
        if not images:
            continue
        if filled >= samples_per_shard:
            shards.append([])
            filled = 0
        shards[-1].append(name)
        filled += images
    return [Unit(f"images-{number:06d}", ImageShard(tuple(names))) for number, names in enumerate(shards)]


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
    dealt = tuple(f"{unit.name}.arrow" for unit in deals)
    units = [Unit(f"mixed-{number:06d}", MixedShard(number, dealt)) for number in range(shards)]
    if config.mix.image_samples:
        images = list(zip([entry.name for entry in regions.outputs], regions.details["images_by_part"], strict=True))
        units += plan_image_shards(images, config.mix.samples_per_shard)
    left = work.pending(stage, deals)
    if left:
        worker = DealWorker(config.mix.views, config.seed, stage)
        engine.run(
            stage,
            lambda pipeline: pipeline | "ListParts" >> beam.Create(left) | "DealOut" >> DoUnits(stage, worker),
            len(left),
        )
    left = work.pending(stage, units)
    with progress(stage, "mix", [unit.name for unit in units], "samples"):
        if left:
            transform = MixSamples(config.mix, config.seed, config.out)
            engine.run(
                stage,
                lambda pipeline: pipeline | "ListShards" >> beam.Create(left) | "MixSamples" >> transform,
                len(left),
            )
    results = [work.read_result(stage, unit.name) for unit in units]
    replaced: Counter[str] = Counter()
    for result in results:
        replaced.update(result.details["replaced"])
    written = [entry for result in results for entry in result.outputs]
    details = {
        "feature_dim": bank.details["feature_dim"],
        "concepts": _concept_names(config.out),
        "vocabulary": bank.details["vocabulary"],
        "vocabulary_hash": bank.details["vocabulary_hash"],
        "detector": bank.details["detector"]["name"],
        "bank": bank.content_hash,
        "replaced": dict(sorted(replaced.items())),
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
        extra_outputs=write_reader_indexes(stage.folder, written),
    )


def _concept_names(out: str) -> list[str]:
    return [concept.name for concept in PatchBank.open(files.join(out, FOLDERS["index"])).concepts]


def write_reader_indexes(folder: str, shards: Sequence[Output]) -> list[Output]:
    """The small files by which open_clip (sizes.json) and timm (_info.json) know how many samples a shard holds."""
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
    contents = {
        "sizes.json": {shard.name: shard.rows for shard in shards},
        "_info.json": {"splits": splits},
    }
    for name, content in contents.items():
        files.publish_bytes(files.join(folder, name), json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    return [manifest.describe(folder, name, len(shards)) for name in sorted(contents)]
