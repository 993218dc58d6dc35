"""Candidates for the bank: reading them from regions/, and choosing among those of a concept."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.parquet import boxes_inside, reading
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank import building, selection
from vlmixer.pipeline.config import BankSettings
from vlmixer.pipeline.indexing.ranking import REFERENCES, Cut, Ranking, by_concept
from vlmixer.pipeline.indexing.units import Group

PLACE = list(selection.PLACE.names or ())
BAD_REGION = "the region's feature is not finite, or its box is not inside its image"


def candidates_schema(feature_dim: int) -> pa.Schema:
    """A candidate: the columns that the bank keeps, and its place."""
    places = [pa.field(name, pa.from_numpy_dtype(selection.PLACE[name])) for name in PLACE]
    return pa.schema([*building.chosen_schema(feature_dim), *places])


def read_candidates(
    group: Group, ranking: Ranking, cuts: Mapping[int, Cut], feature_dim: int, log: RejectLog
) -> dict[int, pa.Table]:
    """The candidates of a group of parts, by concept id, ascending. All other regions go into the log."""
    schema = candidates_schema(feature_dim)
    found: list[pa.Table] = []
    for offset, name in enumerate(group.parts):
        found += _of_part(name, group.first + offset, ranking, cuts, schema, log)
    table = pa.concat_tables(found) if found else schema.empty_table()
    table = table.take(np.argsort(table["concept_id"].to_numpy(), kind="stable")).combine_chunks()
    concepts, starts = np.unique(table["concept_id"].to_numpy(), return_index=True)
    ends = [*starts[1:].tolist(), len(table)]
    return {
        concept: table.slice(start, end - start)
        for concept, start, end in zip(concepts.tolist(), starts.tolist(), ends, strict=False)
    }


def _of_part(
    name: str, number: int, ranking: Ranking, cuts: Mapping[int, Cut], schema: pa.Schema, log: RejectLog
) -> list[pa.Table]:
    """The candidates of a part: one table for each of its row groups that has any."""
    table, ids, places = ranking.read(name, number, [*REFERENCES, *schemas.PROVENANCE])
    wanted = np.zeros(len(table), dtype=bool)
    for concept, rows in by_concept(ids, np.arange(len(ids))):
        wanted[rows] = cuts[concept].candidates(places[rows])
    _reject(table.filter(pa.array(~wanted)), "over_limit", log)
    images = table["image_id"].combine_chunks().dictionary_encode().indices.to_numpy()
    found = []
    begin = 0
    with reading(files.join(ranking.regions, name), schemas.regions_as_wide_as, finite=False) as parquet:
        for row_group, rows_in_group in enumerate(parquet.row_groups):
            end = begin + rows_in_group
            rows = np.flatnonzero(wanted[begin:end])
            if len(rows):
                taken = parquet.read_row_group(row_group).take(pa.array(rows))
                sound = np.isfinite(building.feature_rows(taken["feature"])).all(axis=1) & boxes_inside(taken)
                _reject(taken.filter(pa.array(~sound)), "bad_feature", log, BAD_REGION)
                rows = begin + rows[sound]
                taken = taken.filter(pa.array(sound))
                contexts = pa.array(other_concepts(images, ids, rows), pa.list_(pa.int32()))
                taken = taken.append_column("context", contexts)
                taken = taken.append_column("concept_id", pa.array(ids[rows], pa.int32()))
                for column in PLACE:
                    taken = taken.append_column(column, pa.array(places[rows][column]))
                found.append(taken.select(schema.names).cast(schema))
            begin = end
    return found


def other_concepts(images: np.ndarray, ids: np.ndarray, rows: np.ndarray) -> list[np.ndarray]:
    """For each of these rows of a part, the ids of the other concepts in its image, ascending.

    images: (n,) a number for the image of each row of the part. ids: (n,) the id of its concept.
    """
    pairs = np.unique(np.stack([images, ids], axis=1), axis=0)
    starts = np.searchsorted(pairs[:, 0], images[rows], "left")
    ends = np.searchsorted(pairs[:, 0], images[rows], "right")
    found = [pairs[start:end, 1] for start, end in zip(starts, ends, strict=True)]
    return [concepts[concepts != own] for concepts, own in zip(found, ids[rows], strict=True)]


@dataclass(frozen=True)
class ChosenPatches:
    """The patches kept of a concept, in bank order, and how many candidates were near-duplicates."""

    table: pa.Table
    near_duplicates: int


def choose_patches(candidates: pa.Table, settings: BankSettings, log: RejectLog) -> ChosenPatches:
    """Choose among a concept's candidates. Those that are not kept go into the log."""
    order = pc.sort_indices(candidates.select(PLACE), [(name, "ascending") for name in PLACE])
    chosen = selection.choose(
        settings.selection,
        building.feature_rows(candidates["feature"].take(order)),
        settings.max_patches_per_concept,
        settings.duplicate_similarity,
    )
    for reason, rows in (("near_duplicate", chosen.duplicates), ("over_limit", chosen.over_limit)):
        _reject(candidates.select(["source", "patch_id"]).take(order.take(pa.array(rows, pa.int64()))), reason, log)
    # Only kept crops are copied out of the memory-mapped files.
    kept = order.take(pa.array(chosen.kept, pa.int64()))
    return ChosenPatches(candidates.drop_columns(PLACE).take(kept), len(chosen.duplicates))


def _reject(regions: pa.Table, reason: str, log: RejectLog, detail: str = "") -> None:
    for source, patch_id in zip(regions["source"].to_pylist(), regions["patch_id"].to_pylist(), strict=True):
        log.add(source, patch_id, reason, detail)
