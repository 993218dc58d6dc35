"""Finding a vocabulary's words in text: longest match over inflected forms. Says where, not whether it is meant."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from bank.concepts import Vocabulary
from pipeline.text.forms import forms_of, inflections_of

WORD = re.compile(r"\w+")

# What may stand between the parts of a phrase; "it was hot. Dogs …" is no hot dog.
_GAP = re.compile(r"[\s'’‐‑–-]+|[./&]")


@dataclass(frozen=True)
class Match:
    """`text[start:end]` is a form of the concept; `lemma` is the vocabulary's own word for that form."""

    start: int
    end: int
    concept: str
    lemma: str


@dataclass(frozen=True)
class _Form:
    tokens: tuple[str, ...]
    concept: str
    lemma: str


class Matcher:
    """Finds words of a vocabulary, case folded, with blanks, hyphens or an apostrophe between their parts ("hot dog",
    "hot-dog").

    A word that several concepts list belongs to the first of its `Vocabulary.claims`; a form derived from one word
    never stands for another that the vocabulary lists. `stop_words` are words that are not matched in any of their
    forms, though longer phrases with them are.
    """

    def __init__(self, vocabulary: Vocabulary, stop_words: Iterable[str] = ()) -> None:
        stopped = {_fold(form) for word in stop_words for form in forms_of(" ".join(word.lower().split()))}
        owned = [(word, concepts[0].name) for word, concepts in vocabulary.claims.items()]
        forms: dict[tuple[str, ...], _Form] = {}
        for derive in (lambda word: (word,), inflections_of, forms_of):
            for word, concept in owned:
                for form in derive(word):
                    tokens = _fold(form)
                    if tokens and tokens not in stopped:
                        forms.setdefault(tokens, _Form(tokens, concept, word))
        self._by_first: dict[str, list[_Form]] = {}
        for form in sorted(forms.values(), key=lambda form: (-len(form.tokens), form.tokens)):
            self._by_first.setdefault(form.tokens[0], []).append(form)

    def find(self, text: str) -> list[Match]:
        """Matches from left to right, not overlapping, the longest where several begin at one word."""
        words = [(match.start(), match.end(), _fold_word(match.group())) for match in WORD.finditer(text)]
        found: list[Match] = []
        at = 0
        while at < len(words):
            form = self._longest(text, words, at)
            if form is None:
                at += 1
                continue
            last = at + len(form.tokens) - 1
            found.append(Match(words[at][0], words[last][1], form.concept, form.lemma))
            at = last + 1
        return found

    def _longest(self, text: str, words: list[tuple[int, int, str]], at: int) -> _Form | None:
        for form in self._by_first.get(words[at][2], ()):
            parts = words[at : at + len(form.tokens)]
            if tuple(word for _, _, word in parts) == form.tokens and all(
                _GAP.fullmatch(text, end, start) for (_, end, _), (start, _, _) in pairwise(parts)
            ):
                return form
        return None


def _fold(phrase: str) -> tuple[str, ...]:
    return tuple(_fold_word(match.group()) for match in WORD.finditer(phrase))


def _fold_word(word: str) -> str:
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()
