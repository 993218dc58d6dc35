"""WriteShards: samples as WebDataset tars, in the layout of the command's shards/."""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.samples import MixedSample, Sample, write_shard
from vlmixer.artifacts.stages import MIX
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.metrics import count, measure
from vlmixer.pipeline.beam.rows import WrittenFile
from vlmixer.pipeline.beam.sample_coder import SampleCoder, register
from vlmixer.pipeline.mix.card import write_card
from vlmixer.pipeline.mix.croissant import write_croissant
from vlmixer.pipeline.mix.reader_indexes import write_reader_indexes
from vlmixer.pipeline.mix.samples import shard_of
from vlmixer.pipeline.mix.shuffling import order_in_shard

STEP = "write"
MIXED, IMAGES = "mixed", "images"
PLACE = tuple[str, int]
"""Kind and number of a shard."""
_CODER = SampleCoder()

register()


class WriteShards(beam.PTransform):
    """PCollection of MixedSample and ImageSample → PCollection[WrittenFile], with the files in the folder `out`.

    A hash of its key decides the shard of a sample and its place there. So equal samples give equal bytes, on any
    engine. Each tar appears whole or not at all, and the manifest last. `vlmixer train` and every reader of WebDataset
    read the folder. Bounded collections only; all samples cross a shuffle once. Two samples with one key are an error.
    """

    def __init__(
        self,
        out: str,
        samples_per_shard: int = 5000,
        *,
        seed: int = 0,
        vocabulary: str | Vocabulary = "coco",
    ) -> None:
        """out: a folder or URL that all workers can write. samples_per_shard: about how many; the number of shards
        follows. vocabulary: that of the samples, for the manifest.

        Raises ValueError for less than one sample per shard, UserError for a vocabulary that cannot be loaded.
        """
        super().__init__()
        if samples_per_shard < 1:
            raise ValueError(f"WriteShards: samples_per_shard is {samples_per_shard}, expected at least 1.")
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        self._out, self._size, self._seed, self._vocabulary = out, samples_per_shard, seed, known

    def expand(self, samples: beam.PCollection) -> beam.PCollection:
        if not samples.is_bounded or not samples.windowing.is_default():
            raise ValueError(
                "WriteShards: the number of shards follows from the number of samples, so the collection must be "
                "bounded, in one global window. Write it in rounds, each into a folder of its own."
            )
        packed = samples | "PackSamples" >> beam.Map(_packed).with_output_types(tuple[str, str, bytes])
        counts = beam.pvalue.AsDict(
            packed
            | "ListKinds" >> beam.Map(_kind).with_output_types(str)
            | "CountKinds" >> beam.combiners.Count.PerElement()
        )
        placed = packed | "ChooseShards" >> beam.Map(_placed, counts, self._size, self._seed).with_output_types(
            tuple[PLACE, tuple[str, bytes]]
        )
        # A shard that no hash falls on is written, too: names are without gaps.
        every = (
            samples.pipeline
            | "Begin" >> beam.Impulse()
            | "ListShards"
            >> beam.FlatMap(_shards, counts, self._size).with_output_types(tuple[PLACE, tuple[str, bytes]])
        )
        shards = (
            (placed, every)
            | "WithEmptyShards" >> beam.Flatten()
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteTars"
            >> beam.ParDo(_WriteTar(self._out, self._seed)).with_output_types(
                tuple[tuple[WrittenFile, ...], dict[str, Any]]
            )
        )
        return (
            shards
            | "CollectShards" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "WriteManifest"
            >> beam.FlatMap(_publish, self._out, self._seed, self._vocabulary).with_output_types(WrittenFile)
        )


@no_annotations
def _packed(sample: Sample) -> tuple[str, str, bytes]:
    if not sample.key or "." in sample.key or "/" in sample.key:
        raise UserError(
            f"WriteShards: a sample has the key {sample.key!r}. It becomes a name in a tar, so it needs at least one "
            "letter and neither a dot nor a slash."
        )
    return MIXED if isinstance(sample, MixedSample) else IMAGES, sample.key, _CODER.encode(sample)


def _kind(packed: tuple[str, str, bytes]) -> str:
    return packed[0]


@no_annotations
def _placed(packed: tuple[str, str, bytes], counts: dict[str, int], size: int, seed: int) -> Any:
    kind, key, data = packed
    return (kind, shard_of(key, -(-counts[kind] // size), seed)), (key, data)


@no_annotations
def _shards(_: bytes, counts: dict[str, int], size: int) -> Iterator[Any]:
    for kind, number in counts.items():
        for shard in range(-(-number // size)):
            yield (kind, shard), ("", b"")


class _WriteTar(beam.DoFn):
    def __init__(self, out: str, seed: int) -> None:
        self._out, self._seed = out, seed

    @no_annotations
    def process(self, group: tuple[PLACE, Iterable[tuple[str, bytes]]]) -> Iterator[Any]:
        (kind, number), packed = group
        samples = sorted((each for each in packed if each[0]), key=lambda each: order_in_shard(each[0], self._seed))
        for before, after in pairwise(key for key, _ in samples):
            if before == after:
                raise UserError(
                    f"WriteShards: two samples have the key {after!r}. Give each sample a key of its own; "
                    "for repeated sentences put beam.Distinct() before TagSentences."
                )
        name = f"{kind}-{number:06d}.tar"
        found = Found()
        offsets: list[int] = []
        with files.publishing(files.join(self._out, name)) as file:
            written = write_shard(file, (found.with_counts(_CODER.decode(data)) for _, data in samples), offsets)
        files.publish_bytes(files.join(self._out, f"{name}.idx"), np.array(offsets, "<u8").tobytes())
        outputs = tuple(manifest.output_of(self._out, each, written) for each in (name, f"{name}.idx"))
        count(STEP, "shards")
        measure(STEP, "samples_per_shard", written)
        yield tuple(WrittenFile(**vars(output)) for output in outputs), found.to_json()


class Found:
    """What the manifest and the card say of samples: the widths of their features, their concepts, what was replaced,
    and whether there are pictures."""

    def __init__(self) -> None:
        self.widths: set[int] = set()
        self.concepts: set[str] = set()
        self.replaced: Counter[str] = Counter()
        self.pictures = False

    def with_counts(self, sample: Sample) -> Sample:
        """The sample, counted."""
        if len(sample.patches):
            self.widths.add(sample.features.shape[1])
        self.pictures |= sample.picture is not None
        self.concepts.update(patch.concept for patch in sample.patches)
        if isinstance(sample, MixedSample):
            self.replaced.update(sample.mentions[index].concept for index in sample.replaced)
        return sample

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "widths": sorted(self.widths),
            "concepts": sorted(self.concepts),
            "replaced": dict(self.replaced),
            "pictures": self.pictures,
        }


@no_annotations
def _publish(
    shards: list[tuple[tuple[WrittenFile, ...], dict[str, Any]]], out: str, seed: int, vocabulary: Vocabulary
) -> list[WrittenFile]:
    """Write the other readers' indexes, the card and the manifest. Returns all files, in the order of their names."""
    if not shards:
        raise UserError(f"WriteShards: no sample for {out}. Look at the rejects of the transforms before it.")
    outputs = [Output(**written._asdict()) for names, _ in shards for written in names]
    tars = [output for output in outputs if output.name.endswith(".tar")]
    pictures = any(found["pictures"] for _, found in shards)
    outputs += write_reader_indexes(out, tars, pictures)
    widths = {width for _, found in shards for width in found["widths"]}
    if len(widths) > 1:
        raise UserError(f"WriteShards: features of widths {sorted(widths)}. Samples of one folder need one detector.")
    replaced: Counter[str] = Counter()
    for _, found in shards:
        replaced.update(found["replaced"])
    met = {concept for _, found in shards for concept in found["concepts"]}
    if unknown := sorted(met.difference(vocabulary.names)):
        raise UserError(
            f"WriteShards: vocabulary {vocabulary.name} has no concept {unknown[0]!r}, which a sample has. Give "
            "vocabulary= that of the samples."
        )
    rows = {kind: sum(each.rows for each in outputs if each.name.startswith(kind) and each.name.endswith(".tar"))
            for kind in (MIXED, IMAGES)}  # fmt: skip
    details = ShardsDetails(
        feature_dim=next(iter(widths), 0),
        concepts=tuple(vocabulary.names),
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        detector="",
        bank="",
        replaced={name: replaced[name] for name in sorted(replaced)},
        seed=seed,
        settings={},
    )
    write_card(out, tars, details, pictures)
    write_croissant(out, tars, pictures)
    outputs.sort(key=lambda output: output.name)
    settings: dict[str, Any] = {"transform": "WriteShards", "seed": seed}
    made = Manifest(
        stage=MIX.name,
        config_hash=manifest.digest(settings),
        plan_hash=manifest.digest([settings, rows]),
        versions=manifest.versions(["vlmixer", "numpy"]),
        inputs=[],
        outputs=outputs,
        rejects=[],
        counts={
            name: Counts(rows[kind], rows[kind]) for name, kind in (("views", MIXED), ("images", IMAGES)) if rows[kind]
        },
        details=details,
        settings=settings,
    )
    manifest.publish(out, made)
    return [WrittenFile(**vars(each)) for each in (*outputs, manifest.output_of(out, manifest.NAME, len(outputs)))]
