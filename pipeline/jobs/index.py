"""Stage `index`: regions/ → bank/.

Three passes over the regions, each in parallel. The first reads scores only and lists the best places of each concept;
one unit finds each concept's cut in them, the place where its candidates end. The second reads each group of
parts once and writes the candidates' rows to a file with one record batch per concept; all other regions are rejects.
The third has units of concepts, which gather their batches and choose. A last unit writes the bank. Features and crops
cross no shuffle.

The pure logic is in pipeline/indexing/; the bank's files are written by bank/building.py.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import BankDetails, BankSelection
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.stages import DETECT, INDEX
from vlmixer.bank import building, selection
from vlmixer.bank.building import ConceptCounts
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import BankSettings, Config
from vlmixer.pipeline.indexing.candidates import candidates_schema, choose_patches, read_candidates
from vlmixer.pipeline.indexing.concept_files import ConceptFiles, write_concepts
from vlmixer.pipeline.indexing.ranking import Cut, Cuts, Ranking, find_cuts, list_places, write_places
from vlmixer.pipeline.indexing.units import CUTS, GATHER, PLACES, SIZES, Group, IndexSizes
from vlmixer.pipeline.indexing.upstream import read_upstream
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.finishing import Finished, finish_stage, finish_unit, publish_known, with_results
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_result, read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

PACKAGES = ("vlmixer", "numpy", "pyarrow", "faiss-cpu")


class IndexPatches(beam.PTransform):
    """PCollection[Group] of OUT/regions → PCollection[str], the names of the concept units done.

    Leaves the chosen patches of every concept in OUT/work/index. `assemble` makes OUT/bank of them.
    """

    def __init__(
        self,
        settings: BankSettings,
        vocabulary: Vocabulary,
        feature_dim: int,
        groups: int,
        seed: int,
        out: str,
        sizes: IndexSizes = SIZES,
    ) -> None:
        """groups: the number of groups. feature_dim: length of a feature. out: the output folder OUT."""
        super().__init__()
        self._sizes = sizes
        self._stage = Stage(INDEX, out)
        limit = selection.candidate_limit(settings.selection, settings.max_patches_per_concept)
        regions = Stage(DETECT, out).folder
        self._ranking = Ranking(settings.selection, limit, seed, vocabulary.ids, regions)
        self._groups = groups
        self._gather = GatherWorker(self._ranking, feature_dim, self._stage)
        self._choose = ConceptWorker(settings, feature_dim, groups, self._stage)

    def expand(self, groups: beam.PCollection) -> beam.PCollection:
        stage = self._stage
        cuts = (
            groups
            | "ListPlacesUnits" >> beam.FlatMap(_places_units, stage)
            | "ListPlaces" >> DoUnits(stage, PlacesWorker(self._ranking, stage))
            | "CountGroups" >> beam.combiners.Count.Globally()
            | "MakeCutsUnit" >> beam.FlatMap(_cuts_unit, stage)
            | "FindCuts" >> DoUnits(stage, CutsWorker(self._ranking.limit, self._groups, stage))
        )
        gathered = (
            groups
            | "AfterCuts" >> beam.FlatMap(_group_units, stage, beam.pvalue.AsIter(cuts))
            | "GatherCandidates" >> DoUnits(stage, self._gather)
        )
        return (
            cuts
            | "AfterGathering" >> beam.FlatMap(_concept_units, stage, self._sizes, beam.pvalue.AsIter(gathered))
            | "ChoosePatches" >> DoUnits(stage, self._choose)
        )


@no_annotations
def _content(unit: Unit[Group]) -> Group:
    return unit.content


@no_annotations
def _places_units(group: Group, stage: Stage[BankDetails]) -> list[Unit[Group]]:
    """The unit that lists the group's places, unless the cuts are found already."""
    return [] if files.exists(stage.stats(CUTS)) else [Unit(group.places, group)]


@no_annotations
def _cuts_unit(groups: int, stage: Stage[BankDetails]) -> list[Unit[None]]:
    """The unit that finds the cuts. None if a group could not be read: the cuts would not cover all regions."""
    return [] if any_failed(stage) else [Unit(CUTS, None)]


@no_annotations
def _group_units(group: Group, stage: Stage[BankDetails], cuts: Iterable[str]) -> list[Unit[Group]]:
    """The group's unit, once the cuts are on disk. None if a unit failed before."""
    return [] if not list(cuts) or any_failed(stage) else [Unit(group.unit, group)]


@no_annotations
def _concept_units(
    _: str, stage: Stage[BankDetails], sizes: IndexSizes, gathered: Iterable[str]
) -> list[Unit[tuple[int, ...]]]:
    """Units of concepts, once all candidates are gathered. None if a unit failed before."""
    return [] if not list(gathered) or any_failed(stage) else sizes.plan_concepts(list(read_cuts(stage)))


@dataclass(frozen=True)
class PlacesWorker:
    """Lists the best places of every concept in a group of parts (the unit's content)."""

    ranking: Ranking
    stage: Stage[BankDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[Group], resource: None) -> UnitResult[None]:
        write_places(_places_file(self.stage, unit.name), list_places(unit.content, self.ranking))
        return UnitResult(None)


@dataclass(frozen=True)
class CutsWorker:
    """Finds and keeps the cuts, of the places in this many groups."""

    limit: int
    groups: int
    stage: Stage[BankDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[None], resource: None) -> UnitResult[Cuts]:
        paths = (_places_file(self.stage, PLACES.name(number)) for number in range(self.groups))
        return UnitResult(find_cuts(paths, self.limit))


def _places_file(stage: Stage[BankDetails], unit: str) -> str:
    return files.join(stage.work, f"{unit}.places")


def read_cuts(stage: Stage[BankDetails]) -> dict[int, Cut]:
    """The cuts by concept id, ascending."""
    return dict(sorted(read_result(stage, CUTS, Cuts).details.by_concept.items()))


@dataclass(frozen=True)
class GatherWorker:
    """Reads a group of parts (the unit's content). Candidates go to UNIT.arrow, all other regions to the rejects."""

    ranking: Ranking
    feature_dim: int
    stage: Stage[BankDetails]

    def load(self) -> dict[int, Cut]:
        return read_cuts(self.stage)

    def run(self, unit: Unit[Group], resource: dict[int, Cut]) -> UnitResult[None]:
        with self.stage.reject_file(unit.name) as log:
            found = read_candidates(unit.content, self.ranking, resource, self.feature_dim, log)
        path, schema = _file(self.stage, unit.name), candidates_schema(self.feature_dim)
        write_concepts(path, schema, list(found), found.values())
        return UnitResult(
            details=None,
            counts={"regions": Counts(log.total, 0, log.counts())},
            rejects=self.stage.listed(log),
        )


@dataclass(frozen=True)
class ChosenCounts:
    """How many patches a unit of concepts kept, and how many near-duplicates it dropped, by concept id."""

    patches: dict[int, int]
    near_duplicates: dict[int, int]


@dataclass(frozen=True)
class ConceptWorker:
    """Chooses the patches of concepts (ids, the unit's content) among their candidates. They go to UNIT.arrow."""

    settings: BankSettings
    feature_dim: int
    groups: int
    stage: Stage[BankDetails]

    def load(self) -> ConceptFiles:
        # Files are named, not listed: a store's listing may not yet show what was written last.
        paths = [_file(self.stage, GATHER.name(number)) for number in range(self.groups)]
        return ConceptFiles(paths, candidates_schema(self.feature_dim))

    def run(self, unit: Unit[tuple[int, ...]], resource: ConceptFiles) -> UnitResult[ChosenCounts]:
        concepts = unit.content
        patches: dict[int, int] = {}
        near_duplicates: dict[int, int] = {}
        read = 0

        def chosen() -> Iterator[pa.Table]:
            nonlocal read
            for number in concepts:
                candidates = resource.table(number)
                found = choose_patches(candidates, self.settings, log)
                read += len(candidates)
                patches[number], near_duplicates[number] = len(found.table), found.near_duplicates
                yield found.table

        schema = building.chosen_schema(self.feature_dim)
        with self.stage.reject_file(unit.name) as log:
            write_concepts(_file(self.stage, unit.name), schema, concepts, chosen())
        return UnitResult(
            counts={"regions": Counts(read, sum(patches.values()), log.counts())},
            rejects=self.stage.listed(log),
            details=ChosenCounts(patches, near_duplicates),
        )


def _file(stage: Stage[BankDetails], unit: str) -> str:
    return files.join(stage.work, f"{unit}.arrow")


def run_index(
    config: Config,
    vocabulary: Vocabulary,
    engine: Engine,
    *,
    overwrite: bool,
    sizes: IndexSizes = SIZES,
) -> Finished[BankDetails]:
    """Run the stage, or resume it. Raises UserError, CallError."""
    regions = read_upstream(config.out, vocabulary)
    stage = Stage(INDEX, config.out)
    settings: dict[str, Any] = asdict(config.bank) | {"seed": config.seed, "vocabulary": vocabulary.hash}
    plan = Plan(settings, [regions.content_hash], manifest.versions(PACKAGES))
    finished = begin_stage(stage, plan, overwrite=overwrite)
    if finished is not None:
        return Finished.of(finished)
    feature_dim = regions.details.feature_dim
    known = BankDetails(
        feature_dim=feature_dim,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        detector=regions.details.detector,
        selection=BankSelection(**asdict(config.bank), seed=config.seed),
    )
    size = sum(entry.bytes for entry in regions.outputs)
    publish_known(stage, plan, known, inputs=[Input(DETECT.folder, size, regions.content_hash)])
    groups = sizes.plan_groups(regions.parts)
    numbers = [vocabulary.ids[name] for name in regions.details.regions]
    concepts = [unit.name for unit in sizes.plan_concepts(numbers)]
    names = [*(group.unit for group in groups), *concepts]
    with progress(stage, "index", names, "regions"):
        if pending(stage, [*(Unit(name, None) for name in names), finish_unit(stage)]):
            transform = IndexPatches(config.bank, vocabulary, feature_dim, len(groups), config.seed, config.out, sizes)
            listed = [Unit(group.unit, group) for group in groups]
            finish = Finish(stage, partial(assemble, stage, vocabulary, feature_dim, len(groups), sizes), len(concepts))
            engine.run(
                stage,
                listed,
                Group,
                lambda listed: (
                    listed | "TakeGroups" >> beam.Map(_content) | "IndexPatches" >> transform | "Finish" >> finish
                ),
                label="index",
                processes=len(names),
            )
    return finish_stage(stage, max_bad_fraction=config.max_bad_fraction)


def assemble(
    stage: Stage[BankDetails],
    vocabulary: Vocabulary,
    feature_dim: int,
    groups: int,
    sizes: IndexSizes,
    known: Manifest[BankDetails],
) -> Manifest[BankDetails]:
    """Write the files of OUT/bank, of what the units of concepts chose, and complete the manifest."""
    cuts = read_cuts(stage)
    names = [unit.name for unit in sizes.plan_concepts(list(cuts))]
    chosen = read_results(stage, names, ChosenCounts)
    tables = ConceptFiles([_file(stage, name) for name in names], building.chosen_schema(feature_dim))
    outputs = building.write_bank(
        stage.folder,
        vocabulary.concepts,
        feature_dim,
        _concept_counts(cuts, len(vocabulary.concepts), [result.details for result in chosen]),
        (tables.table(concept.id) for concept in vocabulary.concepts),
    )
    gathered = read_results(stage, [GATHER.name(number) for number in range(groups)], type(None))
    return with_results(known, [*gathered, *chosen], outputs)


def _concept_counts(cuts: dict[int, Cut], concepts: int, chosen: Iterable[ChosenCounts]) -> list[ConceptCounts]:
    """The counts of each concept, by id."""
    patches: dict[int, int] = {}
    near_duplicates: dict[int, int] = {}
    for counts in chosen:
        patches |= counts.patches
        near_duplicates |= counts.near_duplicates
    return [
        ConceptCounts(patches[number], cuts[number].total, near_duplicates[number])
        if number in cuts
        else ConceptCounts()
        for number in range(concepts)
    ]
