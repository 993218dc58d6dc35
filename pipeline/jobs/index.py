"""Stage `index`: regions/ → bank/.

References to the best candidates of each concept go through a bounded combiner; a unit a concept then reads the
features of its candidates alone and chooses among them; what no concept looked at is listed by a last pass over parts.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from artifacts import files, manifest, schemas
from artifacts.errors import UserError
from artifacts.manifest import Counts, Input, Manifest
from artifacts.rejects import RejectLog
from artifacts.schemas import damage_named
from bank import building, selection
from bank.concepts import Vocabulary
from bank.selection import Candidate
from pipeline.config import BankSettings, Config
from pipeline.jobs import work
from pipeline.jobs.engine import DoUnits, Engine, keeping_error, progress
from pipeline.jobs.layout import FOLDERS
from pipeline.jobs.work import Plan, Stage, Unit, UnitResult

PACKAGES = ("vlmixer", "numpy", "pyarrow", "faiss-cpu")
REFERENCES = ["image_id", "patch_id", "concept", "score"]


class IndexPatches(beam.PTransform):
    """PCollection[str], names of the parts of OUT/regions → PCollection[str] of the concept units done.

    Leaves every concept's chosen patches in OUT/work/index; `run_index` puts them together to OUT/bank.
    """

    def __init__(self, settings: BankSettings, vocabulary: Vocabulary, feature_dim: int, seed: int, out: str) -> None:
        super().__init__()
        self._settings = settings
        self._vocabulary = vocabulary
        self._seed = seed
        self._worker = ConceptWorker(settings, feature_dim, Stage("index", out), files.join(out, FOLDERS["detect"]))

    def expand(self, parts: beam.PCollection) -> beam.PCollection:
        limit = selection.candidate_limit(self._settings.selection, self._settings.max_patches_per_concept)
        listing = _ListCandidates(
            self._worker.stage, self._worker.regions, self._settings.selection, self._vocabulary, limit, self._seed
        )
        return (
            parts
            | "SpreadParts" >> beam.Reshuffle()
            | "ListCandidates" >> beam.ParDo(listing).with_output_types(tuple[int, ConceptCandidates])
            | "KeepBest" >> beam.CombinePerKey(_KeepBest(limit))
            | "MakeUnits" >> beam.MapTuple(lambda number, found: Unit(concept_unit(number), found))
            | "ChoosePatches" >> DoUnits(self._worker.stage, self._worker)
        )


@dataclass(frozen=True)
class ConceptCandidates:
    """The best candidates of a concept so far, in order, and how many regions it has in all."""

    best: tuple[Candidate, ...]
    total: int


def concept_unit(number: int) -> str:
    """Name of a concept's unit."""
    return f"concept-{number:05d}"


def list_candidates(
    part: pa.Table, name: str, kind: selection.Selection, ids: Mapping[str, int], limit: int, seed: int
) -> dict[int, ConceptCandidates]:
    """The candidates in a part of regions/ (columns REFERENCES), by concept id."""
    rows = part.to_pylist()
    concepts_of: dict[str, set[int]] = {}
    for row in rows:
        concepts_of.setdefault(row["image_id"], set()).add(ids[row["concept"]])
    found: dict[int, list[Candidate]] = {}
    for place, row in enumerate(rows):
        number = ids[row["concept"]]
        context = tuple(sorted(concepts_of[row["image_id"]] - {number}))
        order = selection.rank(kind, row["score"], row["patch_id"], seed)
        found.setdefault(number, []).append(Candidate(order, row["patch_id"], name, place, context))
    return {
        number: ConceptCandidates(tuple(selection.best(candidates, limit)), len(candidates))
        for number, candidates in found.items()
    }


class _ListCandidates(beam.DoFn):
    def __init__(
        self, stage: Stage, regions: str, kind: selection.Selection, vocabulary: Vocabulary, limit: int, seed: int
    ) -> None:
        self._stage = stage
        self._regions = regions
        self._arguments = (kind, vocabulary.ids, limit, seed)

    def process(self, name: str) -> Iterator[tuple[int, ConceptCandidates]]:
        with keeping_error(self._stage, f"candidates-{name}"), damage_named(files.join(self._regions, name)) as file:
            kind, ids, limit, seed = self._arguments
            part = pq.read_table(file, columns=REFERENCES)
            yield from list_candidates(part, name, kind, ids, limit, seed).items()


class _KeepBest(beam.CombineFn):
    """Merges candidates; holds at most `limit` of a concept."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def create_accumulator(self) -> ConceptCandidates:
        return ConceptCandidates((), 0)

    def add_input(self, accumulator: ConceptCandidates, element: ConceptCandidates) -> ConceptCandidates:
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[ConceptCandidates]) -> ConceptCandidates:
        parts = list(accumulators)
        merged = selection.best((candidate for part in parts for candidate in part.best), self._limit)
        return ConceptCandidates(tuple(merged), sum(part.total for part in parts))

    def extract_output(self, accumulator: ConceptCandidates) -> ConceptCandidates:
        return accumulator


@dataclass(frozen=True)
class ConceptWorker:
    """Chooses a concept's patches among its candidates."""

    settings: BankSettings
    feature_dim: int
    stage: Stage
    regions: str

    def load(self) -> None:
        return None

    def run(self, unit: Unit, resource: None) -> UnitResult:
        number = int(unit.name.removeprefix("concept-"))
        found: ConceptCandidates = unit.content
        table = read_candidates(self.regions, found.best)
        chosen = selection.choose(
            self.settings.selection,
            building.feature_rows(table["feature"]),
            self.settings.max_patches_per_concept,
            self.settings.duplicate_similarity,
        )
        log = RejectLog("index")
        for reason, rows in (("near_duplicate", chosen.duplicates), ("over_limit", chosen.over_limit)):
            for row in rows:
                log.add(table["source"][row].as_py(), found.best[row].patch_id, reason)
        context = pa.array([list(found.best[row].context) for row in chosen.kept], pa.list_(pa.int32()))
        kept = table.take(pa.array(chosen.kept, pa.int64())).append_column("context", context)
        kept = kept.append_column("concept_id", pa.array([number] * len(kept), pa.int32()))
        schema = building.chosen_schema(self.feature_dim)
        with schemas.writing_parquet(files.join(self.stage.work, f"{unit.name}.parquet"), schema) as writer:
            writer.write_table(kept.select(schema.names).cast(schema))
        last = found.best[-1]
        return UnitResult(
            counts={"regions": Counts(len(found.best), len(chosen.kept), log.counts())},
            rejects=self.stage.publish_rejects(unit.name, log),
            details={"total": found.total, "last": [last.rank, last.patch_id]},
        )


def read_candidates(regions: str, candidates: Sequence[Candidate]) -> pa.Table:
    """The candidates' rows of regions/, in the candidates' order; every part is opened once."""
    places: dict[str, list[tuple[int, int]]] = {}
    for index, candidate in enumerate(candidates):
        places.setdefault(candidate.part, []).append((candidate.row, index))
    tables: list[pa.Table] = []
    order: list[int] = []
    for part, wanted in sorted(places.items()):
        wanted.sort()
        with damage_named(files.join(regions, part)) as file:
            tables += _take_rows(pq.ParquetFile(file), [row for row, _ in wanted])
        order += [index for _, index in wanted]
    inverse = np.argsort(np.array(order))
    return pa.concat_tables(tables).take(pa.array(inverse))


def _take_rows(parquet: pq.ParquetFile, rows: Sequence[int]) -> Iterator[pa.Table]:
    """The rows (ascending), read from the row groups that hold them."""
    begin = 0
    at = 0
    for group in range(parquet.num_row_groups):
        end = begin + parquet.metadata.row_group(group).num_rows
        inside = []
        while at < len(rows) and rows[at] < end:
            inside.append(rows[at] - begin)
            at += 1
        if inside:
            yield parquet.read_row_group(group).take(pa.array(inside))
        begin = end


@dataclass(frozen=True)
class RestWorker:
    """Lists the regions of a part that were no candidates: beyond a concept's last one in rank."""

    kind: selection.Selection
    ids: Mapping[str, int]
    last: Mapping[int, tuple[float, str]]
    seed: int
    stage: Stage
    regions: str

    def load(self) -> None:
        return None

    def run(self, unit: Unit, resource: None) -> UnitResult:
        log = RejectLog("index")
        with damage_named(files.join(self.regions, unit.content)) as file:
            for row in pq.read_table(file, columns=[*REFERENCES, "source"]).to_pylist():
                place = (selection.rank(self.kind, row["score"], row["patch_id"], self.seed), row["patch_id"])
                if place > self.last[self.ids[row["concept"]]]:
                    log.add(row["source"], row["patch_id"], "over_limit")
        return UnitResult(
            counts={"regions": Counts(len(log.rejects), 0, log.counts())},
            rejects=self.stage.publish_rejects(unit.name, log),
        )


def run_index(config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool) -> Manifest:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    regions = work.upstream("detect", config.out)
    if regions.details["vocabulary_hash"] != vocabulary.hash:
        raise UserError(
            f"vocabulary: {vocabulary.name!r} is not the one that detect ran with ({regions.details['vocabulary']!r}). "
            "Put it back, or run `vlmixer detect … --overwrite` with the new one."
        )
    if not regions.counts["images"].written:
        raise UserError(
            f"{files.join(config.out, 'regions')}: no image has a region, so there is nothing to build a bank of. "
            "See OUT/rejects/detect-*.parquet; lower images.score_threshold or choose another detector."
        )
    stage = Stage("index", config.out)
    settings: dict[str, Any] = asdict(config.bank) | {"seed": config.seed, "vocabulary": vocabulary.hash}
    plan = Plan(settings, [regions.content_hash], manifest.versions(PACKAGES))
    finished = work.begin(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    parts = [entry.name for entry in regions.outputs if entry.rows]
    feature_dim: int = regions.details["feature_dim"]
    numbers = sorted(vocabulary.ids[name] for name in regions.details["regions"])
    concept_units = [concept_unit(number) for number in numbers]
    with progress(stage, "index", concept_units, "candidates"):
        if work.pending(stage, [Unit(name, None) for name in concept_units]):
            transform = IndexPatches(config.bank, vocabulary, feature_dim, config.seed, config.out)
            engine.run(
                stage,
                lambda pipeline: pipeline | "ListParts" >> beam.Create(parts) | "IndexPatches" >> transform,
                len(parts),
            )
    chosen = {number: work.read_result(stage, concept_unit(number)) for number in numbers}
    rest_units: list[Unit] = []
    if any(result.details["total"] > result.counts["regions"].read for result in chosen.values()):
        rest_units = [Unit(f"rest-{name.removesuffix('.parquet')}", name) for name in parts]
        last = {number: (result.details["last"][0], result.details["last"][1]) for number, result in chosen.items()}
        worker = RestWorker(
            config.bank.selection, vocabulary.ids, last, config.seed, stage, files.join(config.out, "regions")
        )
        left = work.pending(stage, rest_units)
        with progress(stage, "index: rest", [unit.name for unit in rest_units], "regions"):
            if left:
                engine.run(
                    stage,
                    lambda pipeline: pipeline | beam.Create(left) | "ListRest" >> DoUnits(stage, worker),
                    len(left),
                )
    outputs = building.write_bank(
        stage.folder,
        vocabulary,
        feature_dim,
        sum(result.counts["regions"].written for result in chosen.values()),
        _chosen_tables(stage, vocabulary, feature_dim, chosen),
    )
    details = {
        "feature_dim": feature_dim,
        "vocabulary": vocabulary.name,
        "vocabulary_hash": vocabulary.hash,
        "detector": regions.details["detector"],
    }
    return work.finish(
        stage,
        plan,
        [*chosen.values(), *(work.read_result(stage, unit.name) for unit in rest_units)],
        details=details,
        max_bad_fraction=config.max_bad_fraction,
        extra_inputs=[Input("regions", sum(entry.bytes for entry in regions.outputs), regions.content_hash)],
        extra_outputs=outputs,
    )


def _chosen_tables(
    stage: Stage, vocabulary: Vocabulary, feature_dim: int, chosen: Mapping[int, UnitResult]
) -> Iterator[tuple[pa.Table, int]]:
    schema = building.chosen_schema(feature_dim)
    for concept in vocabulary.concepts:
        if concept.id in chosen:
            with files.open_read(files.join(stage.work, f"{concept_unit(concept.id)}.parquet")) as file:
                yield pq.read_table(file, schema=schema), chosen[concept.id].details["total"]
        else:
            yield schema.empty_table(), 0
