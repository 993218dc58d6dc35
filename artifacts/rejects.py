"""Inputs that were not used, each with a reason.

`bad` inputs are faulty. `unused` ones are in order, but not needed. Only bad inputs count towards `max_bad_fraction`.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import schemas
from vlmixer.artifacts.parquet import reading
from vlmixer.artifacts.texts import encodable

BAD = {
    "not_utf8": "bytes that are not valid UTF-8",
    "nul_byte": "text with a NUL byte in it",
    "not_json": "a line that is not a JSON object",
    "missing_field": "the field, column or member with the sentence is missing or not text, or there is no image",
    "unreadable_file": "the file ends early, or is not of the type that its name says",
    "empty_file": "a file without content",
    "truncated_image": "the image ends before its last pixel",
    "not_an_image": "not an image format that can be decoded",
    "zero_pixels": "an image without pixels",
    "too_many_pixels": "more pixels than the limit, in all or on a side (a decompression bomb?)",
    "too_large_file": "more bytes than an image within the pixel limit can need",
    "missing_photo": "region features, or an example of a task, whose photo is not among the inputs",
    "timeout": "the server did not send the whole image within images.url_timeout",
    "no_connection": "the server cannot be reached, or the URL is not one",
    "ambiguous_photo": "region features, or an example of a task, whose photo's name fits several among the inputs",
    "bad_record": "region features, or boxes, whose parts contradict each other or the photo",
    "bad_box": "a box in a file of boxes whose numbers, photo or class cannot be right",
    "failed_in_detector": "the detector raises an exception for this image alone",
    "bad_feature": "a feature or box that is not finite",
    "duplicate_id": "a question, annotation or caption whose id occurred before",
    "unknown_question": "an annotation whose question is not among the files",
    "no_answer": "a question to train on without an annotation",
    "empty_answer": "an annotation without an answer",
}
UNUSED = {
    "too_long": "longer than the limit",
    "too_short": "shorter than the limit",
    "empty_line": "only white space",
    "no_mention": "no word of the vocabulary",
    "not_meant": "words of the vocabulary, none of them meant as a thing",
    "no_image": "members of a tar that do not belong to an image",
    "duplicate": "equal to an earlier one",
    "crowd": "a box around many things at once (iscrowd)",
    "absent_photo": "boxes of a photo that is not among the inputs",
    "unlisted_photo": "a photo that the file of boxes does not name",
    "no_region": "the detector found no region of a known concept",
    "no_patch": "the bank has no patch for any mentioned concept",
    "lacking_patch": "the bank has no patch for one of the mentioned concepts (mix.lacking: reject)",
    "rare_concept": "only concepts with too few patches are mentioned (mix.min_patches, mix.max_uses)",
    "kept_phrase": "only phrases are mentioned, and they are not replaced (mix.phrases: keep)",
    "near_duplicate": "a region too similar to a better one of its concept",
    "over_limit": "a region beyond max_patches_per_concept",
    "not_downloaded": "a row without bytes, whose download failed before",
    "not_allowed": "the server asks that the image is not collected (X-Robots-Tag)",
    "taken_down": "a patch of an image that was dropped from the bank",
    "not_balanced": "a question of GQA that is not scored, because it is not among the balanced ones",
    "unknown_answer": "an example to train on, none of whose answers is among those that are learned",
}
REASONS = BAD | UNUSED
HTTP = re.compile(r"http_[45]\d\d")
"""Reasons that are answers of web servers. 429 and 5xx are bad: later the image may be there. The others are unused."""


VOLUMINOUS = frozenset({"empty_line", "no_mention", "duplicate", "not_meant", "unlisted_photo"})
"""Unused inputs that a sound corpus has by the million. A RejectFile lists some of each, and counts the rest."""
LISTED = 100
"""Of each voluminous reason and source, per unit of work."""
BATCH = 10_000
"""Rows that are held in memory before they are written."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Inputs that were not used: one, or `number` of them that are not listed each.

    key: which one of `source` (a byte position, a row, or "").
    """

    source: str
    key: str
    reason: str
    detail: str = ""
    number: int = 1


class RejectLog:
    """The rejects of a piece of work, kept in memory as `rejects`."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.rejects: list[Reject] = []
        self._counts: Counter[str] = Counter()

    def add(self, source: str, key: object, reason: str, detail: str = "") -> None:
        """Record one input that is not used."""
        if reason not in REASONS and not HTTP.fullmatch(reason):
            raise ValueError(f"unknown reject reason {reason!r}; known: {', '.join(REASONS)}")
        self._counts[reason] += 1
        if self._lists(source, reason):
            # Keys and details may quote files and other software; what UTF-8 cannot encode becomes question marks.
            self._keep(Reject(source, encodable(str(key)), reason, encodable(detail[:300])))

    def add_each(self, source: str, keys: Sequence[object] | np.ndarray, reason: str) -> None:
        """Record many inputs that are not used, as `add` would."""
        for key in keys:
            self.add(source, key, reason)

    def keep(self, reject: Reject) -> None:
        """Add a row as it is."""
        self._counts[reject.reason] += reject.number
        self._keep(reject)

    @property
    def total(self) -> int:
        """Number of rejects."""
        return self._counts.total()

    def counts(self) -> dict[str, int]:
        """Rejects by reason, sorted by reason."""
        return dict(sorted(self._counts.items()))

    def publish(self, path: str) -> int:
        """Write the Parquet file `path` of rejects and return the number of rows. Without rows no file is written."""
        if self.rejects:
            with schemas.writing_parquet(path, schemas.REJECTS) as writer:
                writer.write_table(_table(self.stage, self.rejects))
        return len(self.rejects)

    def _lists(self, source: str, reason: str) -> bool:
        """Whether the next reject of this source and reason is listed by itself."""
        return True

    def _keep(self, reject: Reject) -> None:
        self.rejects.append(reject)


class CappedRejects(RejectLog):
    """Lists the first `most` rejects of each reason and counts the others in one row, so memory stays bounded."""

    def __init__(self, stage: str, most: int = BATCH) -> None:
        super().__init__(stage)
        self._most = most

    def publish(self, path: str) -> int:
        self.rejects = self.rows()
        return super().publish(path)

    def rows(self) -> list[Reject]:
        """Those that are listed, and for each reason with others a row that counts these."""
        listed: Counter[str] = Counter()
        for reject in self.rejects:
            listed[reject.reason] += reject.number
        rest = {reason: number - listed[reason] for reason, number in self.counts().items()}
        return [
            *self.rejects,
            *(Reject("", "", reason, "not listed each", number) for reason, number in rest.items() if number),
        ]

    def _lists(self, source: str, reason: str) -> bool:
        return self._counts[reason] <= self._most


class FirstRejects(RejectLog):
    """The numbers of rejects, and the first of each reason: memory does not grow with them."""

    def _lists(self, source: str, reason: str) -> bool:
        return self._counts[reason] == 1


class RejectFile(RejectLog):
    """The rejects of a unit of work, written to the Parquet file `path` as they come.

    Memory is bounded by `batch`, however many there are. Of the reasons VOLUMINOUS, the first `listed` of each source
    have a row each, and one row counts the others. Use it in a `with` block, at whose end the file appears; it does not
    if there are no rejects, or if the block raises.
    """

    def __init__(
        self, stage: str, path: str, *, list_all: bool = False, listed: int = LISTED, batch: int = BATCH
    ) -> None:
        """list_all: give each input a row, whatever its reason."""
        super().__init__(stage)
        self.path = path
        self.rows = 0
        self._list_all, self._most, self._batch = list_all, listed, batch
        self._seen: Counter[tuple[str, str]] = Counter()
        self._writer: pq.ParquetWriter | None = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for (source, reason), number in sorted(self._seen.items()):
                if number > self._most:
                    rest = number - self._most
                    self._keep(Reject(source, "", reason, "not listed each (rejects: sample)", rest))
            self._write()
        self._open.__exit__(kind, error, trace)

    def _lists(self, source: str, reason: str) -> bool:
        if self._list_all or reason not in VOLUMINOUS:
            return True
        self._seen[source, reason] += 1
        return self._seen[source, reason] <= self._most

    def add_each(self, source: str, keys: Sequence[object] | np.ndarray, reason: str) -> None:
        listed = len(keys)
        if reason in VOLUMINOUS and not self._list_all:
            listed = min(max(self._most - self._seen[source, reason], 0), len(keys))
        super().add_each(source, keys[:listed], reason)
        if rest := len(keys) - listed:
            self._counts[reason] += rest
            self._seen[source, reason] += rest

    def _keep(self, reject: Reject) -> None:
        self.rejects.append(reject)
        if len(self.rejects) >= self._batch:
            self._write()

    def _write(self) -> None:
        if self.rejects:
            if self._writer is None:
                self._writer = self._open.enter_context(schemas.writing_parquet(self.path, schemas.REJECTS))
            self._writer.write_table(_table(self.stage, self.rejects))
            self.rows += len(self.rejects)
            self.rejects.clear()


def read_rejects(path: str) -> Iterator[Reject]:
    """The rows of a file of rejects, some of them in memory at a time. Raises UserError if the file is damaged."""
    with reading(path, schemas.REJECTS) as table:
        for group in range(len(table.row_groups)):
            for row in table.read_row_group(group).to_pylist():
                yield Reject(row["source"], row["key"], row["reason"], row["detail"], row["number"])


def _table(stage: str, rejects: Sequence[Reject]) -> pa.Table:
    columns = {
        "stage": [stage] * len(rejects),
        "source": [reject.source for reject in rejects],
        "key": [reject.key for reject in rejects],
        "reason": [reject.reason for reject in rejects],
        "detail": [reject.detail for reject in rejects],
        "number": [reject.number for reject in rejects],
    }
    return pa.table(columns, schema=schemas.REJECTS)


def bad_count(counts: Iterable[tuple[str, int]]) -> int:
    """The number of bad inputs among counted rejects, (reason, number)."""
    return sum(number for reason, number in counts if is_bad(reason))


def is_bad(reason: str) -> bool:
    """Whether inputs with this reason count towards `max_bad_fraction`."""
    return reason in BAD or reason == "http_429" or reason.startswith("http_5")


def meaning(reason: str) -> str:
    """The reason in words; "" for one that is not known."""
    if HTTP.fullmatch(reason):
        return f"the server answered {reason.removeprefix('http_')}"
    return REASONS.get(reason, "")
