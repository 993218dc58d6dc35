"""Finding a vocabulary's words in text: longest match over inflected forms. Says where, not whether it is meant."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import inflect

from bank.concepts import Vocabulary

WORD = re.compile(r"\w+")


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
    """Finds words of a vocabulary, case folded, whatever stands between their parts ("hot dog", "hot-dog").

    A form that two concepts share belongs to the first of them. `stop_words` are words that are not matched.
    """

    def __init__(self, vocabulary: Vocabulary, stop_words: Iterable[str] = ()) -> None:
        stopped = {_fold(word) for word in stop_words}
        engine = inflect.engine()
        forms: dict[tuple[str, ...], _Form] = {}
        # Words as they stand come before derived plurals, so that a concept's own name is never another's plural.
        for inflected in (False, True):
            for concept in vocabulary.concepts:
                for word in concept.words:
                    if _fold(word) in stopped:
                        continue
                    tokens = tuple(_fold(engine.plural_noun(word) if inflected else word))
                    if tokens:
                        forms.setdefault(tokens, _Form(tokens, concept.name, word))
        self._by_first: dict[str, list[_Form]] = {}
        for form in sorted(forms.values(), key=lambda form: (-len(form.tokens), form.tokens)):
            self._by_first.setdefault(form.tokens[0], []).append(form)

    def find(self, text: str) -> list[Match]:
        """Matches from left to right, not overlapping, the longest where several begin at one word."""
        words = [(match.start(), match.end(), _fold_word(match.group())) for match in WORD.finditer(text)]
        found: list[Match] = []
        at = 0
        while at < len(words):
            form = self._longest(words, at)
            if form is None:
                at += 1
                continue
            last = at + len(form.tokens) - 1
            found.append(Match(words[at][0], words[last][1], form.concept, form.lemma))
            at = last + 1
        return found

    def _longest(self, words: list[tuple[int, int, str]], at: int) -> _Form | None:
        for form in self._by_first.get(words[at][2], ()):
            if all(
                at + offset < len(words) and words[at + offset][2] == token for offset, token in enumerate(form.tokens)
            ):
                return form
        return None


def _fold(phrase: str) -> tuple[str, ...]:
    return tuple(_fold_word(match.group()) for match in WORD.finditer(phrase))


def _fold_word(word: str) -> str:
    return word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).casefold()
