"""Text made comparable: case, widths, ligatures and accents written in two ways folded, with the way back to the text
as it is stored."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

_APOSTROPHES = str.maketrans("’ʼ＇", "'''")


@dataclass(frozen=True)
class Folded:
    """`text` is what to compare. `starts[i]`, `ends[i]`: the stored characters that its character i comes from; None
    where both have the same offsets."""

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def stored(self, start: int, end: int) -> tuple[int, int]:
        """The stretch of the stored text that `text[start:end]` (not empty) comes from."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """`text` for comparing: NFKC, case folded, apostrophes alike, without marks that are not seen (soft hyphens,
    joiners, directions)."""
    if text.isascii():
        return Folded(text.lower())
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for cluster in _clusters().finditer(text):
        piece = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster.group()).casefold())
        for character in piece.translate(_APOSTROPHES):
            if unicodedata.category(character) != "Cf":
                folded.append(character)
                starts.append(cluster.start())
                ends.append(cluster.end())
    return Folded("".join(folded), starts, ends)


@cache
def _marks() -> str:
    """The combining marks, as the inside of a character class; `\\w` lacks them."""
    marks = [point for point in range(sys.maxunicode + 1) if unicodedata.category(chr(point)) in ("Mn", "Mc")]
    ranges: list[list[int]] = []
    for point in marks:
        if ranges and ranges[-1][1] == point - 1:
            ranges[-1][1] = point
        else:
            ranges.append([point, point])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)


@cache
def _clusters() -> re.Pattern[str]:
    """A character with what composes with it: its marks, Korean vowels and finals, voice marks of narrow kana."""
    korean, kana = "[\u1100-\u115f\uac00-\ud7a3][\u1160-\u11ff]+", "[\uff66-\uff9d][\uff9e\uff9f]"
    return re.compile(f"(?:{korean}|{kana}|(?s:.))[{_marks()}]*")


@cache
def _words() -> re.Pattern[str]:
    return re.compile(rf"\w[\w{_marks()}]*")


_ASCII_WORDS = re.compile(r"\w+", re.ASCII)


def word_pattern(folded: str) -> re.Pattern[str]:
    """What the words of a folded text match."""
    return _ASCII_WORDS if folded.isascii() else _words()
