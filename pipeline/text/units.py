"""The units of the stage `tag`: how many there are in each of its three passes, what each does, what it found.

1. find: read slices of the input files, keep the candidates (sentences that hold a word of the vocabulary).
2. duplicates: mark the candidates that repeat an earlier one, one bucket of their hashes per unit.
3. part: tag the other candidates and write a part of tagged/.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split
from vlmixer.pipeline.text.readers.slices import UNIT_BYTES, plan_slices
from vlmixer.pipeline.units.passes import StagePass, UnitKind, UnitLoad, finish_pass
from vlmixer.pipeline.units.unit import Unit

FIND = UnitKind("tag", "find")
DUPLICATES = UnitKind("tag", "duplicates")
PART = UnitKind("tag", "part")


@dataclass(frozen=True)
class TagSizes:
    """How large units are. None of these changes the rows of tagged/, but some change how they are divided into
    files."""

    find_bytes: int = UNIT_BYTES
    """Text that one unit of the first pass reads."""

    bucket_bytes: int = 64 << 20
    """Text whose candidates one unit of the second pass compares."""

    rows_per_batch: int = 1024
    """Candidates that are read and tagged together."""

    parts_wanted: int = 32
    """Units of the third pass, if there are that many batches; more if units would otherwise be too large."""

    max_batches_per_part: int = 32

    def find_units(self, inputs: Sequence[FileStat]) -> list[Unit[tuple[TextSlice, ...]]]:
        """The first pass: one unit per run of text slices."""
        slices = plan_slices(inputs, self.find_bytes)
        return [Unit(FIND.name(number), content) for number, content in enumerate(slices)]

    def buckets(self, inputs: Sequence[FileStat]) -> int:
        """The number of buckets, and of units of the second pass. Packed text is counted at four times its size."""
        return self.buckets_of(sum(entry.size * (1 if can_split(entry.name) else 4) for entry in inputs))

    def buckets_of(self, text_bytes: int) -> int:
        """The number of buckets for that much unpacked text."""
        return 1 + text_bytes // self.bucket_bytes

    def part_units(self, candidates: Sequence[int]) -> list[Unit["Candidates"]]:
        """The third pass, given how many candidates each unit of the first kept.

        Units are of equal size, but for the last one of each unit of the first pass.
        """
        batches_found = [math.ceil(count / self.rows_per_batch) for count in candidates]
        size = self._batches_per_part(math.ceil(sum(candidates) / self.rows_per_batch))
        contents = [
            Candidates(find, first, min(first + size, batches))
            for find, batches in enumerate(batches_found)
            for first in range(0, batches, size)
        ]
        return [Unit(PART.name(number), content) for number, content in enumerate(contents)]

    def count_parts(self, candidates: int, finds: int) -> int:
        """About how many units the third pass has, if `finds` units of the first kept this many candidates in all."""
        batches = math.ceil(candidates / self.rows_per_batch)
        return max(math.ceil(batches / self._batches_per_part(batches)), min(finds, batches))

    def passes(
        self, sentences: int, candidates: float, text_bytes: int, finds: int | None = None
    ) -> tuple[StagePass, ...]:
        """The passes for a text of this size. finds: units of the first pass, if the files are known."""
        if finds is None:
            finds = math.ceil(text_bytes / self.find_bytes)
        parts = self.count_parts(math.ceil(candidates), finds)
        return (
            StagePass("read", (UnitLoad(FIND, finds, sentences),)),
            StagePass("duplicates", (UnitLoad(DUPLICATES, self.buckets_of(text_bytes), candidates),), new_job=False),
            StagePass("tag", (UnitLoad(PART, parts, candidates),)),
            finish_pass("tag", candidates),
        )

    def _batches_per_part(self, batches: int) -> int:
        return min(max(batches // self.parts_wanted, 1), self.max_batches_per_part)


@dataclass(frozen=True)
class Bucket:
    """Content of a unit of the second pass: the bucket, and how many units the first pass had."""

    number: int
    finds: int


@dataclass(frozen=True)
class Candidates:
    """Content of a unit of the third pass: batches first … end-1 of what unit `find` of the first pass kept."""

    find: int
    first: int
    end: int


@dataclass(frozen=True)
class FoundSentences:
    """What a unit of the first pass found: the number of candidates, and the bytes of files that cannot be read."""

    candidates: int
    unreadable_bytes: int = 0


@dataclass(frozen=True)
class FoundMentions:
    """What a unit of the third pass found: by concept, mentions and words that were not meant."""

    mentions: dict[str, int]
    not_meant: dict[str, int]


def duplicates_units(buckets: int, finds: int) -> list[Unit[Bucket]]:
    """The second pass: one unit per bucket."""
    return [Unit(DUPLICATES.name(number), Bucket(number, finds)) for number in range(buckets)]
