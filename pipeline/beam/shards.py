"""WriteShards: samples as WebDataset tars, in the layout of the command's shards/."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from itertools import pairwise
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.dataset_cards import CARD
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, encode, write_members
from vlmixer.artifacts.stages import MIX
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.leftovers import RemoveLeftovers
from vlmixer.pipeline.beam.metrics import count, measure
from vlmixer.pipeline.beam.other_samples import checked_key, members_of
from vlmixer.pipeline.beam.rows import WrittenFile
from vlmixer.pipeline.beam.sample_coder import SampleCoder, pack, register, unpack
from vlmixer.pipeline.mix.card import write_card
from vlmixer.pipeline.mix.croissant import write_croissant
from vlmixer.pipeline.mix.reader_indexes import OTHERS, write_reader_indexes
from vlmixer.pipeline.mix.samples import shard_of
from vlmixer.pipeline.mix.shuffling import order_in_shard

STEP = "write"
MIXED, IMAGES = "mixed", "images"
PLACE = tuple[str, int]
"""Kind and number of a shard."""
_CODER = SampleCoder()
_WRITTEN = re.compile(
    r"(mixed|images|samples)-\d{6,}\.tar(\.idx)?|(sizes|_info|croissant)\.json|\.nv-meta/dataset\.yaml"
)
"""Files of an earlier run in the same folder."""
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")

register()


class WriteShards(beam.PTransform):
    """PCollection of MixedSample, ImageSample and dicts → PCollection[WrittenFile], with the files in the folder `out`.

    A dict is a sample of your own, as WebDataset has them: `__key__`, and the bytes of each member by its extension.

    A hash of its key decides the shard of a sample and its place there. So equal samples give equal bytes, on any
    engine. Each tar appears whole or not at all, and the manifest last; shards that are in the folder are replaced.
    `vlmixer train` and every reader of WebDataset read the folder. Bounded collections only; all samples cross a
    shuffle once. Two samples with one key are an error.
    """

    def __init__(
        self,
        out: str,
        samples_per_shard: int = 5000,
        *,
        seed: int = 0,
        vocabulary: str | Vocabulary = "coco",
        allow_empty: bool = False,
    ) -> None:
        """out: a folder or URL that all workers can write. samples_per_shard: about how many; the number of shards
        follows. vocabulary: that of the samples, for the manifest. allow_empty: whether a folder without shards is
        written if there is no sample, not an error.

        Raises ValueError for less than one sample per shard, UserError for a vocabulary that cannot be loaded.
        """
        super().__init__()
        if not isinstance(samples_per_shard, int) or samples_per_shard < 1:
            raise ValueError(
                f"WriteShards: samples_per_shard is {samples_per_shard!r}, expected a whole number from 1."
            )
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        self._out, self._size, self._seed, self._vocabulary = out, samples_per_shard, seed, known
        self._allow_empty = allow_empty

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
        # A shard sees only samples of its own kind.
        twice = beam.pvalue.AsIter(
            packed
            | "ListKeys" >> beam.Map(_key).with_output_types(str)
            | "CountKeys" >> beam.combiners.Count.PerElement()
            | "OccurTwice" >> beam.Filter(_is_twice)
        )
        placed = packed | "ChooseShards" >> beam.Map(_placed, counts, self._size, self._seed).with_output_types(
            tuple[PLACE, tuple[str, bytes]]
        )
        # A shard that no hash falls on is written, too: names are without gaps.
        every = (
            samples.pipeline
            | "Begin" >> beam.Impulse()
            | "ListShards"
            >> beam.FlatMap(_begin, self._out, counts, self._size).with_output_types(tuple[PLACE, tuple[str, bytes]])
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
            >> beam.FlatMap(
                _publish, self._out, self._seed, self._vocabulary, self._allow_empty, twice
            ).with_output_types(WrittenFile)
            | RemoveLeftovers(self._out)
        )


@no_annotations
def _packed(sample: object) -> tuple[str, str, bytes]:
    if isinstance(sample, Mapping):
        key, members = members_of(sample)
        return OTHERS, key, pack(members)
    if not isinstance(sample, MixedSample | ImageSample):
        raise UserError(
            f"WriteShards: an element is {repr(sample)[:100]}, expected a MixedSample, an ImageSample, or a dict of "
            "WebDataset with __key__ and the bytes of each member by its extension."
        )
    return MIXED if isinstance(sample, MixedSample) else IMAGES, checked_key(sample.key), _CODER.encode(sample)


def _kind(packed: tuple[str, str, bytes]) -> str:
    return packed[0]


def _key(packed: tuple[str, str, bytes]) -> str:
    return packed[1]


@no_annotations
def _is_twice(counted: tuple[str, int]) -> bool:
    return counted[1] > 1


@no_annotations
def _placed(packed: tuple[str, str, bytes], counts: dict[str, int], size: int, seed: int) -> Any:
    kind, key, data = packed
    return (kind, shard_of(key, -(-counts[kind] // size), seed)), (key, data)


@no_annotations
def _begin(_: bytes, out: str, counts: dict[str, int], size: int) -> Iterator[Any]:
    """All shards. A folder whose shards are being replaced has no manifest."""
    files.remove(files.join(out, manifest.NAME))
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
                raise _occurs_twice(after)
        name = f"{kind}-{number:06d}.tar"
        found = Found()
        offsets: list[int] = []
        with files.publishing(files.join(self._out, name)) as file:
            written = write_members(file, (found.members(kind, data) for _, data in samples), offsets)
        files.publish_bytes(files.join(self._out, f"{name}.idx"), np.array(offsets, "<u8").tobytes())
        outputs = tuple(manifest.output_of(self._out, each, written) for each in (name, f"{name}.idx"))
        count(STEP, "shards")
        measure(STEP, "samples_per_shard", written)
        yield tuple(WrittenFile(**vars(output)) for output in outputs), found.to_json()


def _occurs_twice(key: str) -> UserError:
    return UserError(
        f"WriteShards: two samples have the key {key!r}. Give each sample a key of its own; "
        "for repeated sentences put beam.Distinct() before TagSentences."
    )


class Found:
    """What the manifest and the card say of samples: the widths of their features, their concepts, what was replaced,
    and whether there are pictures."""

    def __init__(self) -> None:
        self.widths: set[int] = set()
        self.concepts: set[str] = set()
        self.replaced: Counter[str] = Counter()
        self.pictures = False

    def members(self, kind: str, packed: bytes) -> list[tuple[str, bytes]]:
        """The members of a sample, which is counted."""
        if kind == OTHERS:
            members = list(unpack(packed))
            self.pictures |= any(name.endswith(_PICTURES) for name, _ in members)
            return members
        return encode(self._counted(_CODER.decode(packed)))

    def _counted(self, sample: Sample) -> Sample:
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


def _remove_earlier(out: str, written: AbstractSet[str], described: bool) -> None:
    """Remove what an earlier run wrote and this one did not. described: whether the card is written again.

    A card beside none of our samples is somebody else's.
    """
    stale = [name for name in files.list_files(out) if _WRITTEN.fullmatch(name) and name not in written]
    if not described and any(name.startswith((MIXED, IMAGES)) for name in stale):
        stale.insert(0, CARD)  # first: after the shards nothing would tell whose it is
    for name in stale:
        files.remove(files.join(out, name))


@no_annotations
def _publish(
    shards: list[tuple[tuple[WrittenFile, ...], dict[str, Any]]],
    out: str,
    seed: int,
    vocabulary: Vocabulary,
    allow_empty: bool,
    twice: Iterable[tuple[str, int]],
) -> list[WrittenFile]:
    """Write the other readers' indexes, the card and the manifest. Returns all files, in the order of their names."""
    if repeated := sorted(twice):
        raise _occurs_twice(repeated[0][0])
    if not shards and not allow_empty:
        raise UserError(
            f"WriteShards: no sample for {out}. Look at the rejects of the transforms before it. If there may be none, "
            "allow_empty=True writes a folder without shards."
        )
    # They come in any order.
    outputs = sorted(
        (Output(**written._asdict()) for names, _ in shards for written in names), key=lambda each: each.name
    )
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
            for kind in (MIXED, IMAGES, OTHERS)}  # fmt: skip
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
    described = bool(rows[MIXED] or rows[IMAGES])
    _remove_earlier(out, {output.name for output in outputs}, described)
    if described:
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
            name: Counts(rows[kind], rows[kind])
            for name, kind in (("views", MIXED), ("images", IMAGES), (OTHERS, OTHERS))
            if rows[kind]
        },
        details=details,
        settings=settings,
    )
    manifest.publish(out, made)
    return [WrittenFile(**vars(each)) for each in (*outputs, manifest.output_of(out, manifest.NAME, len(outputs)))]
