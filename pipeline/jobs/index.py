"""Stage `index`: regions/ → bank/.

Regions are looked at three times, each time by units that run in parallel. First only their scores: places of the
best of each concept go through a bounded combiner, whose result is where a concept's candidates end (its cut). Then
every group of parts is read once; the candidates' rows go to a file with a record batch a concept, all others into the
rejects. Then a unit a concept gathers its batches and chooses. Features and crops cross no shuffle, only these files.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest, Output
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.schemas import damage_named
from vlmixer.artifacts.stages import DETECT, INDEX
from vlmixer.bank import building, selection
from vlmixer.bank.building import ConceptCounts
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import BankSettings, Config
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.units.failures import any_failed, keeping_error
from vlmixer.pipeline.units.finishing import finish_stage, upstream
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_result, read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

PACKAGES = ("vlmixer", "numpy", "pyarrow", "faiss-cpu")
REFERENCES = ["image_id", "patch_id", "concept", "score"]
REGIONS_A_GROUP = 4096
"""Parts are read in groups of about so many regions …"""
MOST_GROUPS = 512
"""… or of more, so that a concept's candidates lie in at most so many files."""
MOST_CONCEPT_UNITS = 256
CUTS, GATHERED, CHOSEN = "cuts", "candidates", "concepts"
"""What the three kinds of units leave in OUT/work/index; their names begin with it."""
PLACE = list(selection.PLACE.names or ())


@dataclass(frozen=True)
class Group:
    """Consecutive parts of regions/: their names, and the number of the first among all parts."""

    number: int
    first: int
    parts: tuple[str, ...]

    @property
    def unit(self) -> str:
        """Name of the unit that reads it."""
        return gather_unit(self.number)


def gather_unit(number: int) -> str:
    """Name of the unit that reads group `number`."""
    return f"{GATHERED}-{number:05d}"


def plan_groups(parts: Sequence[Output]) -> list[Group]:
    """All parts that have regions, in groups."""
    parts = [part for part in parts if part.rows]
    size = max(REGIONS_A_GROUP, -(-sum(part.rows for part in parts) // MOST_GROUPS))
    groups: list[Group] = []
    names: list[str] = []
    held = 0
    for number, part in enumerate(parts):
        names.append(part.name)
        held += part.rows
        if held >= size or number == len(parts) - 1:
            groups.append(Group(len(groups), number + 1 - len(names), tuple(names)))
            names, held = [], 0
    return groups


@dataclass(frozen=True)
class Cut:
    """Where a concept's candidates end: its regions in all, and the place of the last one that is a candidate."""

    total: int
    rank: float
    part: int
    row: int

    def candidates(self, places: np.ndarray) -> np.ndarray:
        """(n,) bool: which of the concept's places (PLACE) are not behind the cut."""
        rank, part, row = places["rank"], places["part"], places["row"]
        same_rank, same_part = rank == self.rank, part == self.part
        return (rank < self.rank) | (same_rank & (part < self.part)) | (same_rank & same_part & (row <= self.row))


@dataclass(frozen=True)
class Ranking:
    """How the regions of a vocabulary are ordered, and where they lie."""

    selection: selection.Selection
    limit: int
    seed: int
    ids: Mapping[str, int]
    regions: str

    def read(self, name: str, number: int, columns: Sequence[str]) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """Columns of a part, and for each of its rows the concept's id and its place (PLACE)."""
        path = files.join(self.regions, name)
        with damage_named(path) as file:
            table = pq.read_table(file, columns=list(columns), use_threads=False)
        words = table["concept"].combine_chunks().dictionary_encode()
        unknown = [word for word in words.dictionary.to_pylist() if word not in self.ids]
        if unknown:
            raise UserError(
                f"{path}: regions of {unknown[0]!r}, which is no concept of the vocabulary. Detect with the vocabulary "
                "that the config names."
            )
        ids = np.array([self.ids[word] for word in words.dictionary.to_pylist()], np.int32)
        places = np.empty(len(table), selection.PLACE)
        patch_ids = table["patch_id"].to_pylist() if self.selection == "random" else ()
        scores = table["score"].to_numpy()
        if not np.isfinite(scores).all():
            raise UserError(f"{path}: a score that is not finite. Detect again, with scores from 0 to 1.")
        places["rank"] = selection.ranks(self.selection, scores, patch_ids, self.seed)
        places["part"] = number
        places["row"] = np.arange(len(table))
        return table, ids[words.indices.to_numpy()], places


class IndexPatches(beam.PTransform):
    """PCollection[Group] of OUT/regions → PCollection[str] of the concept units done.

    Leaves every concept's chosen patches in OUT/work/index; `run_index` puts them together to OUT/bank.
    """

    def __init__(
        self, settings: BankSettings, vocabulary: Vocabulary, feature_dim: int, groups: int, seed: int, out: str
    ) -> None:
        """groups: how many there are, numbered from 0."""
        super().__init__()
        self._stage = Stage(INDEX, out)
        limit = selection.candidate_limit(settings.selection, settings.max_patches_per_concept)
        regions = Stage(DETECT, out).folder
        self._ranking = Ranking(settings.selection, limit, seed, vocabulary.ids, regions)
        self._gather = GatherWorker(self._ranking, feature_dim, self._stage)
        self._choose = ConceptWorker(settings, feature_dim, groups, self._stage)

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        stage = self._stage
        cuts = (
            groups
            | "SpreadGroups" >> beam.Reshuffle()
            | "ListPlaces" >> beam.ParDo(_ListPlaces(stage, self._ranking)).with_output_types(tuple[int, Places])
            | "KeepBest" >> beam.CombinePerKey(_KeepBest(self._ranking.limit))
            | "CollectCuts" >> beam.combiners.ToList()
            | "MakeCutsUnit" >> beam.FlatMap(_cuts_unit, stage)
            | "WriteCuts" >> DoUnits(stage, CutsWorker())
        )
        gathered = (
            groups
            | "AfterCuts" >> beam.FlatMap(_group_units, stage, beam.pvalue.AsIter(cuts))
            | "GatherCandidates" >> DoUnits(stage, self._gather)
        )
        return (
            cuts
            | "AfterGathering" >> beam.FlatMap(_concept_units, stage, beam.pvalue.AsIter(gathered))
            | "ChoosePatches" >> DoUnits(stage, self._choose)
        )


@no_annotations
def _content(unit: Unit[Group]) -> Group:
    return unit.content


@no_annotations
def _cuts_unit(found: Sequence[tuple[int, Cut]], stage: Stage[BankDetails]) -> list[Unit[dict[int, Cut]]]:
    """The unit that keeps the cuts; none where a group could not be read, as then they are not those of all regions."""
    return [] if any_failed(stage) else [Unit(CUTS, dict(found))]


@no_annotations
def _group_units(group: Group, stage: Stage[BankDetails], cuts: Iterable[str]) -> list[Unit[Group]]:
    """The group's unit, once the cuts are on disk; none where a unit failed before."""
    return [] if not list(cuts) or any_failed(stage) else [Unit(group.unit, group)]


@no_annotations
def _concept_units(_: str, stage: Stage[BankDetails], gathered: Iterable[str]) -> list[Unit[tuple[int, ...]]]:
    """Units of concepts, once all candidates are gathered; none where a unit failed before."""
    if not list(gathered) or any_failed(stage):
        return []
    # In the order of the ids' text: the names of the reject files follow from it, and they stay what they were.
    return plan_concepts(sorted(read_cuts(stage), key=str))


def plan_concepts(numbers: Sequence[int]) -> list[Unit[tuple[int, ...]]]:
    """Units of consecutive concepts (ids): one each, unless there are many."""
    size = -(-len(numbers) // MOST_CONCEPT_UNITS)
    return [
        Unit(f"{CHOSEN}-{start // size:05d}", tuple(numbers[start : start + size]))
        for start in range(0, len(numbers), size)
    ]


@dataclass(frozen=True)
class Places:
    """The best places (PLACE) of a concept so far, in no order, and how many regions it has in all."""

    best: np.ndarray
    total: int


class _ListPlaces(beam.DoFn):
    """Lists the best places of every concept in a group of parts."""

    def __init__(self, stage: Stage[BankDetails], ranking: Ranking) -> None:
        self._stage = stage
        self._ranking = ranking

    def process(self, group: Group) -> Iterator[tuple[int, Places]]:
        if not files.exists(self._stage.stats(CUTS)):
            with keeping_error(self._stage, f"places-{group.unit}"):
                yield from list_places(group, self._ranking).items()


def list_places(group: Group, ranking: Ranking) -> dict[int, Places]:
    """For each concept with regions in the group, its best places."""
    ids: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for offset, name in enumerate(group.parts):
        _, of_part, places_of_part = ranking.read(name, group.first + offset, REFERENCES)
        ids.append(of_part)
        places.append(places_of_part)
    return {
        concept: Places(selection.best(found, ranking.limit), len(found))
        for concept, found in _by_concept(np.concatenate(ids), np.concatenate(places))
    }


def _by_concept(ids: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of each concept, ascending."""
    order = np.argsort(ids, kind="stable")
    numbers, starts = np.unique(ids[order], return_index=True)
    for number, found in zip(numbers, np.split(rows[order], starts[1:]), strict=True):
        yield int(number), found


class _KeepBest(beam.CombineFn):
    """Merges places to the cut of a concept; holds at most twice `limit` of them."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def create_accumulator(self) -> Places:
        return Places(np.zeros(0, selection.PLACE), 0)

    def add_input(self, accumulator: Places, element: Places) -> Places:
        return self.merge_accumulators([accumulator, element])

    def merge_accumulators(self, accumulators: Iterable[Places]) -> Places:
        held = np.zeros(0, selection.PLACE)
        total = 0
        for part in accumulators:
            held = np.concatenate([held, part.best])
            total += part.total
            if len(held) > 2 * self._limit:
                held = selection.best(held, self._limit)
        return Places(held, total)

    def extract_output(self, accumulator: Places) -> Cut:
        last = selection.best(accumulator.best, self._limit)[-1]
        return Cut(accumulator.total, float(last["rank"]), int(last["part"]), int(last["row"]))


@dataclass(frozen=True)
class Cuts:
    """The cuts by concept id, ascending."""

    by_concept: dict[int, Cut]


@dataclass(frozen=True)
class CutsWorker:
    """Keeps the cuts; unit content: cut by concept id."""

    def load(self) -> None:
        return None

    def run(self, unit: Unit[dict[int, Cut]], resource: None) -> UnitResult[Cuts]:
        return UnitResult(Cuts(dict(sorted(unit.content.items()))))


def read_cuts(stage: Stage[BankDetails]) -> dict[int, Cut]:
    """The cuts by concept id, ascending."""
    return dict(sorted(read_result(stage, CUTS, Cuts).details.by_concept.items()))


def gathered_schema(feature_dim: int) -> pa.Schema:
    """A candidate: what the bank keeps of it, and its place."""
    places = [pa.field(name, pa.from_numpy_dtype(selection.PLACE[name])) for name in PLACE]
    return pa.schema([*building.chosen_schema(feature_dim), *places])


@dataclass(frozen=True)
class GatherWorker:
    """Reads a group of parts: candidates go to GROUP.arrow, a batch a concept, all others into the rejects."""

    ranking: Ranking
    feature_dim: int
    stage: Stage[BankDetails]

    def load(self) -> dict[int, Cut]:
        return read_cuts(self.stage)

    def run(self, unit: Unit[Group], resource: dict[int, Cut]) -> UnitResult[None]:
        group = unit.content
        log = RejectLog("index")
        found: list[pa.Table] = []
        for offset, name in enumerate(group.parts):
            found += self._candidates(name, group.first + offset, resource, log)
        schema = gathered_schema(self.feature_dim)
        table = pa.concat_tables(found) if found else schema.empty_table()
        table = table.take(np.argsort(table["concept_id"].to_numpy(), kind="stable")).combine_chunks()
        concepts, starts = np.unique(table["concept_id"].to_numpy(), return_index=True)
        ends = [*starts[1:].tolist(), len(table)]
        tables = (table.slice(start, end - start) for start, end in zip(starts.tolist(), ends, strict=False))
        write_by_concept(files.join(self.stage.work, f"{unit.name}.arrow"), schema, concepts.tolist(), tables)
        return UnitResult(
            details=None,
            counts={"regions": Counts(len(log.rejects), 0, log.counts())},
            rejects=self.stage.publish_rejects(unit.name, log),
        )

    def _candidates(self, name: str, number: int, cuts: Mapping[int, Cut], log: RejectLog) -> list[pa.Table]:
        """The candidates of a part, a table for each of its row groups that has some."""
        columns = [*REFERENCES, *schemas.PROVENANCE]
        table, ids, places = self.ranking.read(name, number, columns)
        wanted = np.zeros(len(table), dtype=bool)
        for concept, rows in _by_concept(ids, np.arange(len(ids))):
            wanted[rows] = cuts[concept].candidates(places[rows])
        late = table.filter(pa.array(~wanted))
        for source, patch_id in zip(late["source"].to_pylist(), late["patch_id"].to_pylist(), strict=True):
            log.add(source, patch_id, "over_limit")
        images = table["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
        found = []
        begin = 0
        with damage_named(files.join(self.ranking.regions, name)) as file:
            parquet = pq.ParquetFile(file)
            for row_group in range(parquet.num_row_groups):
                end = begin + parquet.metadata.row_group(row_group).num_rows
                rows = np.flatnonzero(wanted[begin:end])
                if len(rows):
                    taken = parquet.read_row_group(row_group, use_threads=False).take(pa.array(rows))
                    finite = np.isfinite(building.feature_rows(taken["feature"])).all(axis=1)
                    for bad in taken.filter(pa.array(~finite)).select(["source", "patch_id"]).to_pylist():
                        log.add(bad["source"], bad["patch_id"], "bad_feature", "the region's feature is not finite")
                    rows = begin + rows[finite]
                    contexts = pa.array(other_concepts(images, ids, rows), pa.list_(pa.int32()))
                    taken = taken.filter(pa.array(finite)).append_column("context", contexts)
                    found.append(self._with_places(taken, ids[rows], places[rows]))
                begin = end
        return found

    def _with_places(self, taken: pa.Table, ids: np.ndarray, places: np.ndarray) -> pa.Table:
        taken = taken.append_column("concept_id", pa.array(ids, pa.int32()))
        for column in PLACE:
            taken = taken.append_column(column, pa.array(places[column]))
        schema = gathered_schema(self.feature_dim)
        return taken.select(schema.names).cast(schema)


def other_concepts(images: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """For these rows of a part, the ids of their images' other concepts, ascending.

    images: a number for every row's image; ids: its concept's id.
    """
    pairs = np.unique(np.stack([images, ids], axis=1), axis=0)
    starts = np.searchsorted(pairs[:, 0], images[rows], "left")
    ends = np.searchsorted(pairs[:, 0], images[rows], "right")
    found = [pairs[start:end, 1] for start, end in zip(starts, ends, strict=True)]
    return [concepts[concepts != own] for concepts, own in zip(found, ids[rows], strict=True)]


def write_by_concept(path: str, schema: pa.Schema, concepts: Sequence[int], tables: Iterable[pa.Table]) -> None:
    """Write the concepts' tables, one after the other, as an Arrow file with a record batch for each."""
    schema = schema.with_metadata({"concepts": json.dumps(list(concepts))})
    with files.publishing(path) as file, pa.ipc.new_file(file, schema) as writer:
        for table in tables:
            columns = [column.combine_chunks() for column in table.columns]
            writer.write_batch(pa.record_batch(columns, schema=schema))


class ByConcept:
    """Files of `write_by_concept` in a folder, opened: memory-mapped where they are local."""

    def __init__(self, folder: str, units: Iterable[str], schema: pa.Schema) -> None:
        """units: that wrote the files. Not looked for in the folder: stores may show late what was written last."""
        self._schema = schema
        self._places: dict[int, list[tuple[pa.ipc.RecordBatchFileReader, int]]] = {}
        for unit in units:
            path = files.join(folder, f"{unit}.arrow")
            reader = pa.ipc.open_file(files.open_read(path) if files.is_url(path) else pa.memory_map(path))
            for place, number in enumerate(json.loads(reader.schema.metadata[b"concepts"])):
                self._places.setdefault(number, []).append((reader, place))

    def table(self, number: int) -> pa.Table:
        """All rows of a concept, in the order of the files."""
        batches = [reader.get_batch(place) for reader, place in self._places.get(number, [])]
        return pa.Table.from_batches([batch.replace_schema_metadata(None) for batch in batches], schema=self._schema)


@dataclass(frozen=True)
class ChosenPatches:
    """What a unit of concepts chose: by concept id, patches kept and near-duplicates dropped."""

    patches: dict[int, int]
    near_duplicates: dict[int, int]


@dataclass(frozen=True)
class ConceptWorker:
    """Chooses the patches of concepts (ids, the unit's content) among their candidates; they go to UNIT.arrow."""

    settings: BankSettings
    feature_dim: int
    groups: int
    stage: Stage[BankDetails]

    def load(self) -> ByConcept:
        units = [gather_unit(number) for number in range(self.groups)]
        return ByConcept(self.stage.work, units, gathered_schema(self.feature_dim))

    def run(self, unit: Unit[tuple[int, ...]], resource: ByConcept) -> UnitResult[ChosenPatches]:
        concepts = unit.content
        log = RejectLog("index")
        near_duplicates: dict[int, int] = {}
        patches: dict[int, int] = {}
        read = 0

        def chosen() -> Iterator[pa.Table]:
            nonlocal read
            for number in concepts:
                candidates = resource.table(number)
                kept, duplicates = self._choose(candidates, log)
                read += len(candidates)
                patches[number], near_duplicates[number] = len(kept), duplicates
                yield kept

        schema = building.chosen_schema(self.feature_dim)
        write_by_concept(files.join(self.stage.work, f"{unit.name}.arrow"), schema, concepts, chosen())
        return UnitResult(
            counts={"regions": Counts(read, sum(patches.values()), log.counts())},
            rejects=self.stage.publish_rejects(unit.name, log),
            details=ChosenPatches(patches, near_duplicates),
        )

    def _choose(self, table: pa.Table, log: RejectLog) -> tuple[pa.Table, int]:
        """The patches kept of a concept's candidates, in bank order, and how many were near-duplicates."""
        order = pc.sort_indices(table.select(PLACE), [(name, "ascending") for name in PLACE])
        chosen = selection.choose(
            self.settings.selection,
            building.feature_rows(table["feature"].take(order)),
            self.settings.max_patches_per_concept,
            self.settings.duplicate_similarity,
        )
        for reason, rows in (("near_duplicate", chosen.duplicates), ("over_limit", chosen.over_limit)):
            left = table.select(["source", "patch_id"]).take(order.take(pa.array(rows, pa.int64())))
            for source, patch_id in zip(left["source"].to_pylist(), left["patch_id"].to_pylist(), strict=True):
                log.add(source, patch_id, reason)
        # Only kept crops are copied out of the memory-mapped files.
        kept = order.take(pa.array(chosen.kept, pa.int64()))
        return table.drop_columns(PLACE).take(kept), len(chosen.duplicates)


def run_index(config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool) -> Manifest[BankDetails]:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    regions = upstream(DETECT, config.out)
    if regions.details.vocabulary_hash != vocabulary.hash:
        raise UserError(
            f"vocabulary: {vocabulary.name!r} is not the one that detect ran with ({regions.details.vocabulary!r}). "
            "Put it back, or run `vlmixer detect … --overwrite` with the new one."
        )
    if not regions.counts["images"].written:
        raise UserError(
            f"{files.join(config.out, 'regions')}: no image has a region, so there is nothing to build a bank of. "
            "See OUT/rejects/detect-*.parquet; lower images.score_threshold or choose another detector."
        )
    stage = Stage(INDEX, config.out)
    settings: dict[str, Any] = asdict(config.bank) | {"seed": config.seed, "vocabulary": vocabulary.hash}
    plan = Plan(settings, [regions.content_hash], manifest.versions(PACKAGES))
    finished = begin_stage(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    feature_dim = regions.details.feature_dim
    groups = plan_groups(regions.outputs)
    numbers = sorted(vocabulary.ids[name] for name in regions.details.regions)
    concepts = [unit.name for unit in plan_concepts(numbers)]
    units = [*(group.unit for group in groups), *concepts]
    with progress(stage, "index", units, "regions"):
        if pending(stage, [Unit(name, None) for name in units]):
            transform = IndexPatches(config.bank, vocabulary, feature_dim, len(groups), config.seed, config.out)
            listed = [Unit(group.unit, group) for group in groups]
            engine.run(
                stage,
                listed,
                Group,
                lambda listed: listed | "TakeGroups" >> beam.Map(_content) | "IndexPatches" >> transform,
                label="index",
                processes=len(units),
            )
    gathered = read_results(stage, [group.unit for group in groups], type(None))
    chosen = read_results(stage, concepts, ChosenPatches)
    outputs = building.write_bank(
        stage.folder,
        vocabulary.concepts,
        feature_dim,
        _concept_counts(stage, vocabulary, [result.details for result in chosen]),
        _chosen_tables(stage, vocabulary, concepts, feature_dim),
    )
    details = BankDetails(
        feature_dim=feature_dim,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        detector=regions.details.detector,
        selection=BankSelection(**asdict(config.bank), seed=config.seed),
    )
    return finish_stage(
        stage,
        plan,
        [*gathered, *chosen],
        details=details,
        max_bad_fraction=config.max_bad_fraction,
        extra_inputs=[Input("regions", sum(entry.bytes for entry in regions.outputs), regions.content_hash)],
        extra_outputs=outputs,
    )


def _concept_counts(
    stage: Stage[BankDetails], vocabulary: Vocabulary, chosen: Iterable[ChosenPatches]
) -> list[ConceptCounts]:
    """For each concept of the vocabulary, by id."""
    cuts = read_cuts(stage)
    patches: dict[int, int] = {}
    near_duplicates: dict[int, int] = {}
    for found in chosen:
        patches |= found.patches
        near_duplicates |= found.near_duplicates
    return [
        ConceptCounts(patches[number], cuts[number].total, near_duplicates[number])
        if number in cuts
        else ConceptCounts()
        for number in range(len(vocabulary.concepts))
    ]


def _chosen_tables(
    stage: Stage[BankDetails], vocabulary: Vocabulary, units: Sequence[str], feature_dim: int
) -> Iterator[pa.Table]:
    chosen = ByConcept(stage.work, units, building.chosen_schema(feature_dim))
    for concept in vocabulary.concepts:
        yield chosen.table(concept.id)
