"""Inputs that were not used, each with a reason.

`bad` inputs are faulty. `unused` ones are in order, but not needed. Only bad inputs count towards `max_bad_fraction`.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import pyarrow as pa

from vlmixer.artifacts import schemas

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
    "too_many_pixels": "more pixels than the limit (a decompression bomb?)",
    "too_large_file": "more bytes than an image within the pixel limit can need",
    "missing_photo": "region features whose photo is not among the inputs",
    "bad_record": "a line of region features whose parts contradict each other",
    "failed_in_detector": "the detector raises an exception for this image alone",
    "bad_feature": "the detector returned a feature that is not finite",
}
UNUSED = {
    "too_long": "longer than the limit",
    "too_short": "shorter than the limit",
    "empty_line": "only white space",
    "no_mention": "no word of the vocabulary",
    "not_meant": "words of the vocabulary, none of them meant as a thing",
    "no_image": "members of a tar that do not belong to an image",
    "duplicate": "equal to an earlier one",
    "no_region": "the detector found no region of a known concept",
    "no_patch": "the bank has no patch for any mentioned concept",
    "lacking_patch": "the bank has no patch for one of the mentioned concepts (mix.lacking: reject)",
    "rare_concept": "only concepts with too few patches are mentioned (mix.min_patches, mix.max_uses)",
    "kept_phrase": "only phrases are mentioned, and they are not replaced (mix.phrases: keep)",
    "near_duplicate": "a region too similar to a better one of its concept",
    "over_limit": "a region beyond max_patches_per_concept",
    "taken_down": "a patch of an image that was dropped from the bank",
}
REASONS = BAD | UNUSED


@dataclass(frozen=True, slots=True)
class Reject:
    """One input that was not used. `key`: which one of `source` (a byte position, a row, or "")."""

    source: str
    key: str
    reason: str
    detail: str = ""

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reject reason {self.reason!r}; known: {', '.join(REASONS)}")


@dataclass
class RejectLog:
    """The rejects of one unit of work. Their number is bounded by the unit."""

    stage: str
    rejects: list[Reject] = field(default_factory=list)

    def add(self, source: str, key: object, reason: str, detail: str = "") -> None:
        """Record one input that is not used."""
        # Details may quote messages of other software; characters that UTF-8 cannot encode become question marks.
        self.rejects.append(Reject(source, str(key), reason, detail[:300].encode(errors="replace").decode()))

    def counts(self) -> dict[str, int]:
        """Rejects by reason, sorted by reason."""
        return dict(sorted(Counter(reject.reason for reject in self.rejects).items()))

    def publish(self, path: str) -> int:
        """Write the Parquet file `path` of rejects/ and return the number of rows. Without rows no file is written."""
        if self.rejects:
            columns = {
                "stage": [self.stage] * len(self.rejects),
                "source": [reject.source for reject in self.rejects],
                "key": [reject.key for reject in self.rejects],
                "reason": [reject.reason for reject in self.rejects],
                "detail": [reject.detail for reject in self.rejects],
            }
            with schemas.writing_parquet(path, schemas.REJECTS) as writer:
                writer.write_table(pa.table(columns, schema=schemas.REJECTS))
        return len(self.rejects)


def bad_count(counts: Iterable[tuple[str, int]]) -> int:
    """The number of bad inputs among counted rejects, (reason, number)."""
    return sum(number for reason, number in counts if reason in BAD)
