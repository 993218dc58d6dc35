"""The order of a concept's regions, and its cut: the place of the last region that is a candidate for the bank.

Only scores and places are looked at here, 16 bytes for each region.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, npy_files, schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.parquet import reading, scores_possible
from vlmixer.bank import selection
from vlmixer.pipeline.indexing.units import Group

REFERENCES = ("image_id", "patch_id", "concept", "score")
"""The columns of regions/ that a ranking needs."""


@dataclass(frozen=True)
class Ranking:
    """How the regions of a vocabulary are ordered, and where they are.

    limit: candidates of a concept. ids: concept ids by name. regions: the folder.
    """

    selection: selection.Selection
    limit: int
    seed: int
    ids: Mapping[str, int]
    regions: str

    def read(self, name: str, number: int, columns: Sequence[str]) -> tuple[pa.Table, np.ndarray, np.ndarray]:
        """Columns of part `number`, and for each of its rows the concept's id, int32, and the place, PLACE.

        Raises UserError for a damaged part, an unknown concept, or a score that is not from 0 to 1.
        """
        path = files.join(self.regions, name)
        with reading(path, schemas.regions_as_wide_as, finite=False) as part:
            table = part.read(columns)
        words = table["concept"].combine_chunks().dictionary_encode()
        unknown = [word for word in words.dictionary.to_pylist() if word not in self.ids]
        if unknown:
            raise UserError(
                f"{path}: has regions of {unknown[0]!r}, which is not a concept of the vocabulary. Run detect with the "
                "vocabulary that the config names."
            )
        ids = np.array([self.ids[word] for word in words.dictionary.to_pylist()], np.int32)
        places = np.empty(len(table), selection.PLACE)
        patch_ids = table["patch_id"].to_pylist() if self.selection == "random" else ()
        scores = table["score"].to_numpy()
        if not scores_possible(table):
            raise UserError(f"{path}: has a score that is not from 0 to 1. Run detect again, with scores that are.")
        places["rank"] = selection.ranks(self.selection, scores, patch_ids, self.seed)
        places["part"] = number
        places["row"] = np.arange(len(table))
        return table, ids[words.indices.to_numpy()], places


@dataclass(frozen=True)
class Places:
    """The best places (PLACE) of a concept so far, unordered, and how many regions the concept has in all."""

    best: np.ndarray
    total: int


@dataclass(frozen=True)
class Cut:
    """Where a concept's candidates end: the number of its regions, and the place of the last candidate."""

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
class Cuts:
    """The cuts by concept id, ascending."""

    by_concept: dict[int, Cut]


def list_places(group: Group, ranking: Ranking) -> dict[int, Places]:
    """The best places of each concept that has regions in the group."""
    ids: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for offset, name in enumerate(group.parts):
        _, of_part, places_of_part = ranking.read(name, group.first + offset, REFERENCES)
        ids.append(of_part)
        places.append(places_of_part)
    return {
        concept: Places(selection.best(found, ranking.limit), len(found))
        for concept, found in by_concept(np.concatenate(ids), np.concatenate(places))
    }


def write_places(path: str, found: Mapping[int, Places]) -> None:
    """Write the places of a group by concept id, for `find_cuts`."""
    totals = np.array([(concept, places.total, len(places.best)) for concept, places in found.items()], np.int64)
    best = np.concatenate([np.zeros(0, selection.PLACE), *(places.best for places in found.values())])
    with files.publishing(path) as file:
        np.lib.format.write_array(file, totals.reshape(-1, 3), allow_pickle=False)
        np.lib.format.write_array(file, best, allow_pickle=False)


def find_cuts(paths: Iterable[str], limit: int) -> Cuts:
    """The cuts of the concepts that have places in these files. Holds at most twice `limit` places of each."""
    held: dict[int, Places] = {}
    for path in paths:
        kinds = npy_files.Kind(np.int64, 3), npy_files.Kind(selection.PLACE)
        totals, best = npy_files.read(path, *kinds, advice="Run index with --overwrite.")
        for (concept, total, _), more in zip(totals.tolist(), np.split(best, totals[:, 2].cumsum())[:-1], strict=True):
            before = held.get(concept, Places(best[:0], 0))
            together = np.concatenate([before.best, more])
            kept = selection.best(together, limit) if len(together) > 2 * limit else together
            held[concept] = Places(kept, before.total + total)
    return Cuts({concept: cut(held[concept], limit) for concept in sorted(held)})


def cut(places: Places, limit: int) -> Cut:
    """The cut behind the best `limit` places."""
    last = selection.best(places.best, limit)[-1]
    return Cut(places.total, float(last["rank"]), int(last["part"]), int(last["row"]))


def by_concept(ids: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The rows of each concept, in the order of ids."""
    order = np.argsort(ids, kind="stable")
    numbers, starts = np.unique(ids[order], return_index=True)
    for number, found in zip(numbers, np.split(rows[order], starts[1:]), strict=True):
        yield int(number), found
