"""Dividing text files into units of work by size, and the name of a file in sentence ids."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rng import stable_id
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split

UNIT_BYTES = 8 << 20
"""Text that one unit of work reads. Small files share a unit; big ones are divided where they can be."""

MAX_SLICES_PER_UNIT = 1000


@lru_cache(maxsize=1024)
def source_id(name: str) -> str:
    """Twelve hexadecimal digits that name a file in sentence ids."""
    return stable_id("sentences", name, digits=12)


def plan_slices(inputs: Sequence[FileStat], unit_bytes: int = UNIT_BYTES) -> list[tuple[TextSlice, ...]]:
    """Units of work: runs of slices of about `unit_bytes`. A file that cannot be split is one slice."""
    units: list[list[TextSlice]] = []
    filled = 0
    for text_slice in (part for file in inputs for part in _split(file, unit_bytes)):
        if not units or filled + text_slice.bytes > unit_bytes or len(units[-1]) >= MAX_SLICES_PER_UNIT:
            units.append([])
            filled = 0
        units[-1].append(text_slice)
        filled += text_slice.bytes
    return [tuple(unit) for unit in units]


def _split(file: FileStat, unit_bytes: int) -> list[TextSlice]:
    if not can_split(file.name) or file.size <= unit_bytes:
        return [TextSlice(file.name, file.size, stamp=file.stamp)]
    cuts = [*range(0, file.size, unit_bytes), file.size]
    return [TextSlice(file.name, file.size, start, end, file.stamp) for start, end in pairwise(cuts)]
