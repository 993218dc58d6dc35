"""Which references of a surveyed corpus have the same content as an earlier one, found a share of the digests at a
time, so that memory is bounded by the share and not by the corpus."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vlmixer.pipeline.units.duplicates import first_of_each

DIGESTS_AT_A_TIME = 1 << 21


@dataclass(frozen=True)
class Duplicate:
    """Row `row` of survey part `part` has the content of row `first_row` of part `first_part`."""

    part: int
    row: int
    first_part: int
    first_row: int


def find_duplicates(
    rows: Sequence[int], read: Callable[[int], pa.Table], at_a_time: int = DIGESTS_AT_A_TIME
) -> list[Duplicate]:
    """All references but the first of each content, in order of (part, row).

    rows: how many each part has; read(part): its columns digest, input, place. First is what comes first among the
    inputs, whatever the order of the parts.
    """
    shares = max(-(-sum(rows) // at_a_time), 1)
    found = [found for share in range(shares) for found in _in_share(len(rows), read, share, shares)]
    return sorted(found, key=lambda duplicate: (duplicate.part, duplicate.row))


def _in_share(parts: int, read: Callable[[int], pa.Table], share: int, shares: int) -> list[Duplicate]:
    columns: list[np.ndarray] = []
    for part in range(parts):
        table = read(part)
        held = table["digest"].combine_chunks()
        start = held.offset * 16
        halves = np.frombuffer(held.buffers()[1], np.uint8)[start : start + len(held) * 16].view(np.uint64)
        halves = halves.reshape(-1, 2)
        mine = np.flatnonzero(halves[:, 1] % np.uint64(shares) == share)
        places = [table[name].to_numpy().astype(np.uint64)[mine] for name in ("input", "place")]
        where = [np.full(len(mine), part, np.uint64), mine.astype(np.uint64)]
        columns.append(np.stack([halves[mine, 0], halves[mine, 1], *places, *where]))
    if not columns:
        return []
    low, high, numbers, places, part_of, row_of = np.concatenate(columns, axis=1)
    first = first_of_each(np.stack([low, high], axis=1), (numbers, places))
    return [
        Duplicate(int(part_of[at]), int(row_of[at]), int(part_of[first[at]]), int(row_of[first[at]]))
        for at in np.flatnonzero(first != np.arange(len(first)))
    ]
