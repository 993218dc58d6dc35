"""Splits running text into sentences by spaCy's rules for a language. Needs no model."""

import re
from functools import cached_property
from typing import TYPE_CHECKING

from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES

if TYPE_CHECKING:
    from spacy.language import Language

_OPENING = re.compile(r"\s[\"'“‘«(]")
_BLANK_LINE = re.compile(r"\n\s*\n")


class SentenceSplitter:
    """Splits texts of `language`, a spaCy language code. Sentences may cross line ends, but not blank lines."""

    def __init__(self, language: str = "en") -> None:
        self.language = language

    @cached_property
    def _nlp(self) -> "Language":
        import spacy

        nlp = spacy.blank(self.language)
        nlp.add_pipe("sentencizer")
        nlp.max_length = MAX_LINE_BYTES + 1
        return nlp

    def split(self, text: str) -> list[str]:
        """The sentences, with single blanks for all white space. [] if there is only white space."""
        found = []
        for paragraph in _BLANK_LINE.split(text.replace("\r\n", "\n")):
            line = " ".join(paragraph.split())
            if line:
                found += self._sentences(line)
        return found

    def _sentences(self, line: str) -> list[str]:
        ends = [span.end_char for span in self._nlp(line).sents]
        # An opening quotation mark belongs to what follows.
        begins = [0, *(end - 1 if _OPENING.match(line, max(end - 2, 0), end) else end for end in ends[:-1])]
        pieces = (line[begin:end].strip() for begin, end in zip(begins, [*begins[1:], len(line)], strict=True))
        return [piece for piece in pieces if piece]
