"""Dividing text files into units of work, by size."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rng import stable_id

UNIT_BYTES = 8 << 20
"""Text that one unit of work reads: small files are packed together up to it, big ones split by it if they can be."""

MAX_UNIT_SLICES = 1000

PACKED = (".gz", ".zst", ".tgz")


@dataclass(frozen=True)
class Slice:
    """What begins at bytes start … end-1 of the file `name`: lines, paragraphs, or row groups of Parquet; end -1: to
    its end."""

    name: str
    size: int
    start: int = 0
    end: int = -1

    @property
    def bytes(self) -> int:
        """Size of the slice."""
        return (self.size if self.end < 0 else self.end) - self.start


@lru_cache(maxsize=1024)
def source_id(name: str) -> str:
    """Twelve hexadecimal digits that name a source in sentence ids."""
    return stable_id("sentences", name, digits=12)


def kind(name: str) -> str:
    """The format that a file's name tells: "txt", "jsonl", "json", "parquet" or "tar"."""
    lower = name.lower()
    if lower.endswith(".tgz"):
        return "tar"
    ending = lower.removesuffix(".gz").removesuffix(".zst").rpartition(".")[2]
    return {"jsonl": "jsonl", "ndjson": "jsonl", "json": "json", "parquet": "parquet", "tar": "tar"}.get(ending, "txt")


def can_split(name: str) -> bool:
    """Whether reading can begin in the middle of the file."""
    return not name.lower().endswith(PACKED) and kind(name) in ("txt", "jsonl", "parquet")


def plan_slices(inputs: Sequence[FileStat], unit_bytes: int = UNIT_BYTES) -> list[tuple[Slice, ...]]:
    """Units of work: runs of slices of about `unit_bytes`; a file that cannot be split is one slice."""
    slices = [piece for file in inputs for piece in _split(file, unit_bytes)]
    units: list[list[Slice]] = []
    filled = 0
    for piece in slices:
        if not units or filled + piece.bytes > unit_bytes or len(units[-1]) >= MAX_UNIT_SLICES:
            units.append([])
            filled = 0
        units[-1].append(piece)
        filled += piece.bytes
    return [tuple(unit) for unit in units]


def _split(file: FileStat, unit_bytes: int) -> list[Slice]:
    if not can_split(file.name) or file.size <= unit_bytes:
        return [Slice(file.name, file.size)]
    cuts = [*range(0, file.size, unit_bytes), file.size]
    return [Slice(file.name, file.size, start, end) for start, end in pairwise(cuts)]
