"""BuildPatchBank: the patch bank of images with regions."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import INDEX
from vlmixer.bank import building, selection
from vlmixer.bank.building import ConceptCounts
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.leftovers import RemoveLeftovers
from vlmixer.pipeline.beam.metrics import count
from vlmixer.pipeline.beam.outputs import MAIN, REJECTS, WithRejects, reject
from vlmixer.pipeline.beam.rows import DetectedImage, WrittenFile, as_image
from vlmixer.pipeline.config import BankSettings
from vlmixer.pipeline.indexing.candidates import candidates_schema, choose_patches

STEP = "index"
WORK = ".concepts"
"""The folder in `out` with the patches of each concept, until the bank is put together."""


class Candidate(NamedTuple):
    """A region that may become a patch: rank and id say how good it is, the rest is what the bank keeps of it."""

    rank: float
    patch_id: str
    image_id: str
    source: str
    width: int
    height: int
    box: tuple[float, ...]
    score: float
    context: tuple[int, ...]
    feature: bytes
    crop: bytes


class ChosenConcept(NamedTuple):
    """A concept's patches in a file of the work folder, how many there are, and the near-duplicates among the
    candidates. feature_dim: width of their features."""

    concept: int
    path: str
    patches: int
    near_duplicates: int
    feature_dim: int


class BuildPatchBank(WithRejects):
    """PCollection of DetectedImage, or of rows or dicts with its fields → PCollection[WrittenFile].

    The bank's files are in the folder `out`; a bank that is there is replaced. It chooses as stage `index` does. Each
    concept's candidates, with `diverse` four times `max_patches_per_concept`, go through a shuffle with features and
    crops, of the other regions only scores and ids. Bounded collections only.
    """

    def __init__(
        self,
        out: str,
        vocabulary: str | Vocabulary = "coco",
        settings: BankSettings = BankSettings(),  # noqa: B008
        *,
        detector: DetectorIdentity | None = None,
        seed: int = 0,
        allow_empty: bool = False,
    ) -> None:
        """out: a folder or URL that all workers can write. vocabulary: that of DetectRegions. detector: what the bank
        says of the detector; needed to search it by a picture. seed: for `selection: random`. allow_empty: whether a
        bank without patches is written if there is no region, not an error.

        Raises UserError for a vocabulary that cannot be loaded, ValueError for less than one patch per concept.
        """
        super().__init__()
        if settings.max_patches_per_concept < 1:
            most = settings.max_patches_per_concept
            raise ValueError(f"BuildPatchBank: max_patches_per_concept is {most}, expected at least 1.")
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        self._out, self._vocabulary, self._settings, self._seed = out, known, settings, seed
        self._detector = detector or DetectorIdentity("", "", "", {})
        self._allow_empty = allow_empty

    def expand(self, images: beam.PCollection) -> Any:
        if not images.is_bounded or not images.windowing.is_default():
            raise ValueError(
                "BuildPatchBank: the choice is among all regions, so the collection must be bounded, in one window."
            )
        images = images | "AsImages" >> beam.Map(as_image, "BuildPatchBank").with_output_types(DetectedImage)
        named_twice = beam.pvalue.AsIter(
            images
            | "ListImages" >> beam.Map(_identity).with_output_types(tuple[str, str])
            | "CountIds" >> beam.combiners.Count.PerElement()
            | "NamedTwice" >> beam.Filter(_is_named_twice)
        )
        limit = selection.candidate_limit(self._settings.selection, self._settings.max_patches_per_concept)
        ranked = images | "RankRegions" >> beam.FlatMap(
            _ranks, self._settings, self._vocabulary.ids, self._seed
        ).with_output_types(tuple[int, tuple[float, str]])
        cuts = beam.pvalue.AsDict(
            ranked | "KeepBest" >> beam.combiners.Top.SmallestPerKey(limit) | "TakeLast" >> beam.MapTuple(_last)
        )
        totals = beam.pvalue.AsDict(ranked | "CountRegions" >> beam.combiners.Count.PerKey())
        candidates = images | "KeepCandidates" >> beam.ParDo(
            _KeepCandidates(self._settings, self._vocabulary, self._seed), cuts
        ).with_outputs(REJECTS, main=MAIN)
        chosen = (
            candidates[MAIN]
            | "GroupByConcept" >> beam.GroupByKey()
            | "ChoosePatches" >> beam.ParDo(_Choose(self._out, self._settings)).with_outputs(REJECTS, main=MAIN)
        )
        written = (
            chosen[MAIN]
            | "CollectConcepts" >> beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | "WriteBank"
            >> beam.ParDo(
                _WriteBank(self._out, self._vocabulary, self._settings, self._detector, self._seed, self._allow_empty),
                totals,
                named_twice,
            ).with_output_types(WrittenFile)
            | RemoveLeftovers(self._out, [WORK])
        )
        return self.with_own(written, candidates[REJECTS], chosen[REJECTS])


@no_annotations
def _identity(image: DetectedImage) -> tuple[str, str]:
    return image.image_id, image.source


@no_annotations
def _is_named_twice(counted: tuple[tuple[str, str], int]) -> bool:
    return counted[1] > 1


@no_annotations
def _ranks(image: DetectedImage, settings: BankSettings, ids: Mapping[str, int], seed: int) -> Iterator[Any]:
    for region, rank in zip(image.regions, _ranks_of(image, settings, seed), strict=True):
        if region.concept not in ids:
            raise UserError(
                f"BuildPatchBank: the vocabulary has no concept {region.concept!r}, which {image.source} shows. Give "
                "the vocabulary that DetectRegions has."
            )
        yield ids[region.concept], (rank, region.patch_id)


def _ranks_of(image: DetectedImage, settings: BankSettings, seed: int) -> list[float]:
    scores = np.array([region.score for region in image.regions], np.float32)
    found: list[float] = selection.ranks(
        settings.selection, scores, [region.patch_id for region in image.regions], seed
    ).tolist()
    return found


@no_annotations
def _last(concept: int, best: list[tuple[float, str]]) -> tuple[int, tuple[float, str]]:
    return concept, max(best)


class _KeepCandidates(beam.DoFn):
    def __init__(self, settings: BankSettings, vocabulary: Vocabulary, seed: int) -> None:
        self._settings, self._ids, self._seed = settings, vocabulary.ids, seed

    @no_annotations
    def process(self, image: DetectedImage, cuts: Mapping[int, tuple[float, str]]) -> Iterator[Any]:
        shown = sorted({self._ids[region.concept] for region in image.regions})
        for region, rank in zip(image.regions, _ranks_of(image, self._settings, self._seed), strict=True):
            concept = self._ids[region.concept]
            if (rank, region.patch_id) > tuple(cuts[concept]):
                yield from reject(STEP, region.patch_id, "over_limit")
                continue
            context = tuple(other for other in shown if other != concept)
            place = (image.image_id, image.source, image.width, image.height, tuple(region.box), region.score)
            yield concept, Candidate(rank, region.patch_id, *place, context, region.feature, region.crop)


class _Choose(beam.DoFn):
    def __init__(self, out: str, settings: BankSettings) -> None:
        self._out, self._settings = out, settings

    @no_annotations
    def process(self, group: tuple[int, Iterable[Candidate]]) -> Iterator[Any]:
        concept, found = group
        candidates = sorted(found)
        feature_dim = len(candidates[0].feature) // 2
        table = _table(concept, candidates, feature_dim)
        log = RejectLog(STEP)
        chosen = choose_patches(table, self._settings, log)
        for rejected in log.rejects:
            yield from reject(STEP, rejected.key, rejected.reason, rejected.detail)
        count(STEP, "patches", len(chosen.table))
        path = files.join(self._out, WORK, f"{concept:06d}.arrow")
        with files.publishing(path) as file, pa.ipc.new_file(file, chosen.table.schema) as writer:
            writer.write_table(chosen.table)
        yield ChosenConcept(concept, path, len(chosen.table), chosen.near_duplicates, feature_dim)


def _table(concept: int, candidates: list[Candidate], feature_dim: int) -> pa.Table:
    """The candidates, best first, with the columns that stage `index` gives them. Raises UserError."""
    ids = [candidate.patch_id for candidate in candidates]
    if len(set(ids)) < len(ids):
        twice = next(patch_id for patch_id, number in Counter(ids).items() if number > 1)
        raise _named_alike(candidates[ids.index(twice)].source)
    widths = {len(candidate.feature) for candidate in candidates}
    if len(widths) > 1:
        raise UserError(f"BuildPatchBank: features of {sorted(widths)} bytes. A bank needs one detector.")
    features = np.frombuffer(b"".join(candidate.feature for candidate in candidates), "<f2")
    columns: dict[str, Any] = {
        name: [getattr(candidate, name) for candidate in candidates]
        for name in ("patch_id", "image_id", "score", "box", "width", "height", "source", "context", "crop", "rank")
    }
    columns |= {name: [""] * len(ids) for name in ("key", "url", "license")}
    columns |= {"concept_id": [concept] * len(ids), "part": [0] * len(ids), "row": list(range(len(ids)))}
    columns["feature"] = building.feature_column(features.reshape(len(ids), feature_dim))
    schema = candidates_schema(feature_dim)
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)


def _named_alike(name: str) -> UserError:
    return UserError(f"BuildPatchBank: two images have the name {name}. Give each image a name of its own.")


class _WriteBank(beam.DoFn):
    def __init__(
        self,
        out: str,
        vocabulary: Vocabulary,
        settings: BankSettings,
        detector: DetectorIdentity,
        seed: int,
        allow_empty: bool,
    ) -> None:
        self._out, self._vocabulary, self._settings, self._detector = out, vocabulary, settings, detector
        self._seed, self._allow_empty = seed, allow_empty

    @no_annotations
    def process(
        self,
        concepts: list[ChosenConcept],
        totals: Mapping[int, int],
        named_twice: Iterable[tuple[tuple[str, str], int]],
    ) -> Iterator[WrittenFile]:
        if twice := sorted(named_twice):
            ((_, name), _), *_ = twice
            raise _named_alike(name)
        if not concepts and not self._allow_empty:
            raise UserError(
                f"BuildPatchBank: no region for {self._out}. Look at the rejects of DetectRegions. If there may be "
                "none, allow_empty=True writes a bank without patches."
            )
        widths = {chosen.feature_dim for chosen in concepts}
        if len(widths) > 1:
            raise UserError(f"BuildPatchBank: features of widths {sorted(widths)}. A bank needs one detector.")
        feature_dim = next(iter(widths), 0)
        by_id = {chosen.concept: chosen for chosen in concepts}
        every = self._vocabulary.concepts
        files.remove(files.join(self._out, manifest.NAME))  # while a bank is replaced, it is not complete
        outputs = building.write_bank(
            self._out,
            every,
            feature_dim,
            [_counts(by_id.get(concept.id), totals) for concept in every],
            (_read(by_id.get(concept.id), feature_dim) for concept in every),
        )
        patches, read = sum(chosen.patches for chosen in concepts), sum(totals.values())
        duplicates = sum(chosen.near_duplicates for chosen in concepts)
        rejected = {"near_duplicate": duplicates, "over_limit": read - patches - duplicates}
        settings: dict[str, Any] = asdict(self._settings) | {"seed": self._seed, "vocabulary": self._vocabulary.hash}
        made = Manifest(
            stage=INDEX.name,
            config_hash=manifest.digest(settings),
            plan_hash=manifest.digest([settings, read]),
            versions=manifest.versions(["vlmixer", "numpy", "pyarrow", "faiss-cpu"]),
            inputs=[],
            outputs=sorted(outputs, key=lambda output: output.name),
            rejects=[],
            counts={"regions": Counts(read, patches, {name: number for name, number in rejected.items() if number})},
            details=BankDetails(
                detector=self._detector,
                feature_dim=feature_dim,
                vocabulary=self._vocabulary.name,
                vocabulary_hash=self._vocabulary.hash,
                selection=BankSelection(**asdict(self._settings), seed=self._seed),
            ),
            settings=settings,
        )
        manifest.publish(self._out, made)
        own = manifest.output_of(self._out, manifest.NAME, len(outputs))
        yield from (WrittenFile(**vars(output)) for output in (*made.outputs, own))


def _counts(chosen: ChosenConcept | None, totals: Mapping[int, int]) -> ConceptCounts:
    if chosen is None:
        return ConceptCounts()
    return ConceptCounts(chosen.patches, totals[chosen.concept], chosen.near_duplicates)


def _read(chosen: ChosenConcept | None, feature_dim: int) -> pa.Table:
    if chosen is None:
        return building.chosen_schema(feature_dim).empty_table()
    with files.open_read(chosen.path) as file, pa.ipc.open_file(file) as reader:
        return reader.read_all()
