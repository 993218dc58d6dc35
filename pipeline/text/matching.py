"""Finds a vocabulary's words in text: the longest match over all forms. `tagger` decides which are meant as things."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.text.folding import Folded, fold, word_pattern
from vlmixer.pipeline.text.forms import forms_of, inflections_of

Derivation = Callable[[str], Iterable[str]]
"""Derives forms from a vocabulary's word."""

ENGLISH: tuple[Derivation, ...] = (lambda word: (word,), inflections_of, forms_of)

# What may separate the parts of a phrase: blanks, an apostrophe, one hyphen without blanks around it; nothing where a
# tokenizer splits text without blanks. "It was hot. Dogs …", "hot - dogs" and "wine/glass" are not phrases.
_GAP = re.compile(r"\s*'?\s*|[‐‑–-]")
# What may separate them where one is a single letter ("T.V.").
_GAP_OF_LETTERS = re.compile(r"[./&]")


# Whatever is joined to "://", "www.", an @ between words, a frequent ending of hosts or files, or an underscore; and
# tags with attributes, as in HTML (a bare one may stand for a word: "<PERSON> rides a horse").
_MARKS_OF_ADDRESSES = re.compile(r"://|www\.|@|_|\w\.\w|<[a-z]")
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]*://|\bwww\.)[^\s<>\"]+"
    r"|[\w.+-]+@[\w-]+(?:\.[\w-]+)+"
    r"|(?<!\w)@\w+"
    r"|\b[\w%-]+(?:[./][\w%-]+)*\.(?:com|org|net|edu|gov|info|html?|php|jpe?g|png|gif|webp|bmp|tiff?|svg|pdf|txt|json"
    r"|csv|tsv|tar|zip|gz|mp[34]|avi|mov|webm)\b(?:/[^\s<>\"]*)?"
    r"|\b\w*[a-z0-9]_\w+"
    r"|<[a-z][^<>=]*=[^<>]*>"
)


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:end]` is a form of the concept. `lemma` is the vocabulary's word that it is a form of.

    In its `Words`, the match spans the words `first` … `last`, both included.
    """

    start: int
    end: int
    concept: str
    lemma: str
    first: int
    last: int


class Words:
    """The words of a text, folded. `folded` is the text that contains them."""

    __slots__ = ("_spans", "folded", "text", "words")

    def __init__(self, text: str) -> None:
        self.text = text
        self.folded: Folded = fold(text)
        self.words: list[str] = word_pattern(self.folded.text).findall(self.folded.text)
        self._spans: list[tuple[int, int]] | None = None

    @classmethod
    def of_tokens(cls, text: str, tokens: Iterable[tuple[int, int, str]]) -> "Words":
        """Words from a tokenizer: (start, end, form of the word). Tokens without letters are dropped."""
        words = cls.__new__(cls)
        words.text = text
        words.folded = Folded(text)
        held = [(start, end, one_word(form)) for start, end, form in tokens]
        words.words = [form for _, _, form in held if form]
        words._spans = [(start, end) for start, end, form in held if form]
        return words

    def __len__(self) -> int:
        return len(self.words)

    @property
    def spans(self) -> list[tuple[int, int]]:
        """(start, end) of each word in the folded text."""
        if self._spans is None:
            # Between two words there are no word characters, so the next occurrence is the word itself.
            text, at = self.folded.text, 0
            self._spans = []
            for word in self.words:
                begin = text.index(word, at)
                at = begin + len(word)
                self._spans.append((begin, at))
        return self._spans

    def word(self, index: int) -> str:
        """The word at `index`; "" outside the text."""
        return self.words[index] if 0 <= index < len(self.words) else ""

    def gap(self, index: int) -> str:
        """The text between the words `index` and `index` + 1. -1: from the text's start; the last word: to its end."""
        begin = self.spans[index][1] if index >= 0 else 0
        return self.folded.text[begin : self.spans[index + 1][0] if index + 1 < len(self.words) else None]

    def is_capital(self, index: int) -> bool:
        """Whether the word at `index` begins with a capital in the stored text. False outside the text."""
        return 0 <= index < len(self.words) and self.text[self.stored(index, index)[0]].isupper()

    def stored(self, first: int, last: int) -> tuple[int, int]:
        """The range of the stored text that the words `first` … `last` cover."""
        return self.folded.stored(self.spans[first][0], self.spans[last][1])


@dataclass(frozen=True, slots=True)
class _Form:
    """`concept` is None for a phrase that is recognised and skipped."""

    words: tuple[str, ...]
    concept: str | None
    lemma: str


class Matcher:
    """Finds words of a vocabulary in any case, with blanks, hyphens or an apostrophe between their parts ("hot dog",
    "hot-dog").

    A word that several concepts list belongs to the first of its `Vocabulary.claims`. Derivations apply in turn, so a
    form derived from one word never hides another word of the vocabulary. `stop_words` are words and phrases that are
    skipped in all their forms; longer phrases that contain them are not. `other_things` are skipped likewise, unless
    the vocabulary lists them.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        stop_words: Iterable[str] = (),
        other_things: Iterable[str] = (),
        derivations: Sequence[Derivation] = ENGLISH,
    ) -> None:
        found: dict[tuple[str, ...], _Form] = {}

        def add(derive: Derivation, word: str, concept: str | None) -> None:
            for form in derive(word):
                if words := split(form):
                    found.setdefault(words, _Form(words, concept, word))

        for word in stop_words:
            for derive in derivations:
                add(derive, " ".join(word.lower().split()), None)
        for derive in derivations:
            for word, concepts in vocabulary.claims.items():
                add(derive, word, concepts[0].name)
        for word in other_things:
            for derive in derivations[:2]:
                add(derive, word, None)
        self._forms = found
        counts: dict[str, set[int]] = {}
        for words in found:
            counts.setdefault(words[0], set()).add(len(words))
        self._counts = {first: sorted(lengths, reverse=True) for first, lengths in counts.items()}
        """How many words the forms have that begin with a word, the most first."""
        self._firsts = frozenset(form.words[0] for form in found.values() if form.concept is not None)

    def may_find(self, text: str) -> bool:
        """Whether `find` may find anything. Fast; False is always right."""
        folded = text.lower() if text.isascii() else fold(text).text
        return not self._firsts.isdisjoint(word_pattern(folded).findall(folded))

    def find(self, text: str) -> list[Match]:
        """Matches from left to right without overlaps. Where several begin at one word, the longest."""
        return self.find_in(Words(text))

    def find_in(self, words: Words) -> list[Match]:
        """Like `find`, for a text that is already split into words."""
        found: list[Match] = []
        after = 0
        for at, word in enumerate(words.words):
            if at < after or word not in self._counts:
                continue
            form = self._longest(words, at)
            if form is None:
                continue
            after = at + len(form.words)
            if form.concept is not None:
                found.append(Match(*words.stored(at, after - 1), form.concept, form.lemma, at, after - 1))
        return _outside_addresses(found, words.folded) if found else found

    def _longest(self, words: Words, at: int) -> _Form | None:
        for count in self._counts[words.words[at]]:
            form = self._forms.get(tuple(words.words[at : at + count]))
            if form is not None and all(_joins(words, index) for index in range(at, at + len(form.words) - 1)):
                return form
        return None


def _joins(words: Words, index: int) -> bool:
    """Whether the words `index` and `index` + 1 may be parts of one phrase."""
    gap = words.gap(index)
    if _GAP.fullmatch(gap):
        return True
    letters = len(words.word(index)) == 1 or len(words.word(index + 1)) == 1
    return letters and _GAP_OF_LETTERS.fullmatch(gap) is not None


def _outside_addresses(matches: list[Match], folded: Folded) -> list[Match]:
    """The matches that are not part of a URL, an e-mail address, a file name or a tag with attributes."""
    if not _MARKS_OF_ADDRESSES.search(folded.text):
        return matches
    spans = [folded.stored(*found.span()) for found in _ADDRESS.finditer(folded.text)]
    return [match for match in matches if not any(begin < match.end and match.start < end for begin, end in spans)]


def split(phrase: str) -> tuple[str, ...]:
    """The folded words of a vocabulary's word or phrase."""
    return tuple(Words(phrase).words)


def one_word(token: str) -> str:
    """A token such as "T-Shirt" as one folded word. "" if it holds no letter."""
    return "".join(split(token))
