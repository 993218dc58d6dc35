"""Makes text comparable: folds case, widths, ligatures and equivalent accents, and keeps the offsets in the stored
text."""

import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

# A zero-width space separates words, and so does a byte order mark in the middle of text; joiners do not.
_CHARACTERS = str.maketrans("’ʼ＇\u200b\ufeff", "'''  ")


@dataclass(frozen=True)
class Folded:
    """`text` is what to compare. Its character i comes from the stored characters `starts[i]` … `ends[i]`-1. None: both
    have the same offsets."""

    text: str
    starts: Sequence[int] | None = None
    ends: Sequence[int] | None = None

    def stored(self, start: int, end: int) -> tuple[int, int]:
        """The range of the stored text that `text[start:end]`, which is not empty, comes from."""
        if self.starts is None or self.ends is None:
            return start, end
        return self.starts[start], self.ends[end - 1]


def fold(text: str) -> Folded:
    """`text` for comparison: NFKC, case folded, one kind of apostrophe, no invisible characters (soft hyphens, joiners,
    directions)."""
    if text.isascii():
        return Folded(text.lower())
    folded: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for cluster in _clusters().finditer(text):
        piece = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", cluster.group()).casefold())
        for character in piece.translate(_CHARACTERS):
            if unicodedata.category(character) != "Cf":
                folded.append(character)
                starts.append(cluster.start())
                ends.append(cluster.end())
    return Folded("".join(folded), starts, ends)


@cache
def _marks() -> str:
    """The combining marks, for use in a character class. `\\w` does not match them."""
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
    """A character and what composes with it: marks, Korean vowels and finals, voice marks of narrow kana."""
    korean, kana = "[\u1100-\u115f\uac00-\ud7a3][\u1160-\u11ff]+", "[\uff66-\uff9d][\uff9e\uff9f]"
    return re.compile(f"(?:{korean}|{kana}|(?s:.))[{_marks()}]*")


@cache
def _words() -> re.Pattern[str]:
    return re.compile(rf"\w[\w{_marks()}]*")


_ASCII_WORDS = re.compile(r"\w+", re.ASCII)


def word_pattern(folded: str) -> re.Pattern[str]:
    """The pattern of the words in a folded text."""
    return _ASCII_WORDS if folded.isascii() else _words()
