"""Decides which matched words are meant as things.

Matching comes first, because it is cheap; then the neighbours of a word (`english`). Only sentences with an undecided
word go through a statistical spaCy pipeline; without one, rules guess. Other languages than English are matched by the
vocabulary's forms and by their pipeline's lemmas, so every sentence goes through the pipeline.
"""

import importlib.util
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.samples import Mention
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import TextSettings
from vlmixer.pipeline.text import english
from vlmixer.pipeline.text.english_senses import senses_of
from vlmixer.pipeline.text.english_words import OTHER_THINGS
from vlmixer.pipeline.text.matching import Derivation, Match, Matcher, Words, one_word
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Token

LOG = logging.getLogger(__name__)

DEFAULT_MODEL = "en_core_web_sm"
RULES = "rules"
"""`text.spacy_model: rules` asks for the built-in rules."""

ENGLISH = "en"
BATCH = 128

_DO = frozenset(("do", "does", "did", "n't", "let", "'s"))


@dataclass(frozen=True, slots=True)
class Tagged:
    """The words found in a sentence: those meant as things, and those that only look so ("a *bear* market")."""

    mentions: tuple[Mention, ...]
    not_meant: tuple[Mention, ...]


class Tagger:
    """Finds the grounded words of sentences. `description` names the rules or pipeline, for manifests and logs.

    tag_modifiers: also tag concepts that only modify the next noun ("*cat* food"). matcher: the result of
    `make_matcher` for the same arguments; making it takes time with many words.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        spacy_model: str = "auto",
        stop_words: Iterable[str] = (),
        tag_modifiers: bool = False,
        matcher: Matcher | None = None,
    ) -> None:
        self._nlp = load_spacy(resolve_model(spacy_model))
        self._modifiers = tag_modifiers
        self.description = describe_model(self._nlp)
        self._matcher = matcher or make_matcher(vocabulary, stop_words, self._nlp)
        self._senses = senses_of(vocabulary)
        self._lemmas: Matcher | None = None
        if self._nlp is not None and self._nlp.lang != ENGLISH:
            self._lemmas = Matcher(vocabulary, stop_words, derivations=[_as(_lemma, self._nlp)])

    def finds(self, text: str) -> bool:
        """Whether the text holds a word of the vocabulary, meant as a thing or not. Always True in other languages than
        English, where only the pipeline could tell."""
        return self._lemmas is not None or bool(self._matcher.find(text))

    def tag(self, texts: list[str]) -> list[Tagged]:
        """The words found in each text."""
        judged = self._judge_english(texts) if self._lemmas is None else self._judge_lemmas(texts)
        return [
            Tagged(
                tuple(_mention(text, match) for match, meant in matches if meant),
                tuple(_mention(text, match) for match, meant in matches if not meant),
            )
            for text, matches in zip(texts, judged, strict=True)
        ]

    def _judge_english(self, texts: list[str]) -> list[list[tuple[Match, bool]]]:
        """Each text's matches, and whether they are meant: by their neighbours, else by part of speech or a guess."""
        sentences = [Words(text) for text in texts]
        found = [self._matcher.find_in(words) for words in sentences]
        verdicts = [
            [english.verdict(words, match, self._modifiers, self._senses) for match in matches]
            for words, matches in zip(sentences, found, strict=True)
        ]
        unsettled = [row for row, given in enumerate(verdicts) if None in given]
        docs: Iterable[Doc | None] = [None] * len(unsettled)
        if self._nlp is not None:
            docs = self._nlp.pipe((texts[row] for row in unsettled), batch_size=BATCH)
        for row, doc in zip(unsettled, docs, strict=True):
            words, matches = sentences[row], found[row]
            for place, match in enumerate(matches):
                if verdicts[row][place] is None and doc is not None:
                    verdicts[row][place] = meant(doc, words, match, self._modifiers)
                elif verdicts[row][place] is None:
                    following = matches[place + 1] if place + 1 < len(matches) else None
                    verdicts[row][place] = english.guess(words, match, following, self._modifiers)
        return [
            [(match, bool(given)) for match, given in zip(matches, row, strict=True)]
            for matches, row in zip(found, verdicts, strict=True)
        ]

    def _judge_lemmas(self, texts: list[str]) -> list[list[tuple[Match, bool]]]:
        """The same for another language: matches by form or lemma; those that contain a noun are meant."""
        assert self._nlp is not None
        assert self._lemmas is not None
        judged = []
        for doc in self._nlp.pipe(texts, batch_size=BATCH):
            by_form = self._matcher.find_in(_doc_words(doc, _form))
            by_lemma = self._lemmas.find_in(_doc_words(doc, _lemma))
            judged.append([(match, _any_noun(doc, match)) for match in _longest(by_form, by_lemma)])
        return judged


def make_tagger(settings: TextSettings, vocabulary: Vocabulary, matcher: Matcher | None = None) -> Tagger:
    """The tagger that the settings describe. Raises CallError."""
    return Tagger(vocabulary, settings.spacy_model, settings.stop_words, settings.tag_modifiers, matcher)


def make_matcher(vocabulary: Vocabulary, stop_words: Iterable[str], nlp: "Language | None") -> Matcher:
    """A matcher of the vocabulary's words: in English in all their forms, else as the pipeline's tokenizer has them."""
    if nlp is None or nlp.lang == ENGLISH:
        return Matcher(vocabulary, stop_words, OTHER_THINGS)
    return Matcher(vocabulary, stop_words, derivations=[lambda word: (word,), _as(_form, nlp)])


def _mention(text: str, match: Match) -> Mention:
    return Mention(match.start, match.end, match.concept, text[match.start : match.end], match.lemma)


def meant(doc: "Doc", words: Words, match: Match, tag_modifiers: bool) -> bool:
    """Whether, by the pipeline, the match's head (its last word) is a noun that does not merely modify the next one.

    "The *traffic light*" counts, "a *bear* market" and "we *park*" do not.
    """
    span = doc.char_span(match.start, match.end, alignment_mode="expand")
    if span is None:
        return False
    if not _is_noun(span[-1]) and not _is_mistaken(doc, span[-1]):
        return False
    if tag_modifiers or span.end == len(doc):
        return True
    following = doc[span.end]
    if not _is_noun(following) or not following.text[0].isalnum():
        return True
    return not english.modifies(
        words,
        match,
        next_is_plural=following.tag_ in ("NNS", "NNPS"),
        no_verb=not any(token.tag_.startswith("V") for token in doc),
    )


def _is_mistaken(doc: "Doc", token: "Token") -> bool:
    """Whether the pipeline's tag for an English token cannot be right in its place, so that it may be a noun."""
    before = doc[max(token.i - 3, 0) : token.i]
    if token.tag_.startswith("V") and before and before[-1].tag_ in ("DT", "PRP$", "CD"):
        return True
    # Infinitives follow "to" or a modal, or open the sentence.
    if token.tag_ == "VB":
        return token.i > 0 and not any(other.tag_ in ("TO", "MD") or other.lower_ in _DO for other in before)
    # Adjectives come before a noun or after a form of "be".
    if token.tag_.startswith("JJ"):
        after = doc[token.i + 1].tag_ if token.i + 1 < len(doc) else "."
        return after[:2] in ("VB", "IN", ".") and not any(other.tag_.startswith("VB") for other in before)
    return False


def _is_noun(token: "Token") -> bool:
    return token.pos_ in ("NOUN", "PROPN") if token.pos_ else token.tag_.startswith("NN")


def _any_noun(doc: "Doc", match: Match) -> bool:
    """Whether any word of the match is a noun. Which word is the head depends on the language."""
    span = doc.char_span(match.start, match.end, alignment_mode="expand")
    return span is not None and any(map(_is_noun, span))


def _doc_words(doc: "Doc", form: Callable[["Token"], str]) -> Words:
    """The tokens with letters as words of the doc's text, in the form that `form` gives."""
    return Words.of_tokens(doc.text, [(token.idx, token.idx + len(token), form(token)) for token in doc])


def _form(token: "Token") -> str:
    return token.text


def _lemma(token: "Token") -> str:
    return token.lemma_ or token.text


def _as(form: Callable[["Token"], str], nlp: "Language") -> Derivation:
    """Derives from a vocabulary's word its tokens' forms or lemmas, as the pipeline gives them."""
    return lambda word: (" ".join(one_word(form(token)) for token in nlp(word)),)


def _longest(*found: list[Match]) -> list[Match]:
    """The matches, without those that overlap an earlier or longer one."""
    kept: list[Match] = []
    for match in sorted((match for matches in found for match in matches), key=lambda match: (match.start, -match.end)):
        if not kept or match.start >= kept[-1].end:
            kept.append(match)
    return kept


def resolve_model(model: str, *, warn: bool = True) -> str:
    """The pipeline's name. `auto` gives the default one if it is installed, else the rules. warn: whether to say so."""
    if model != "auto":
        return model
    if importlib.util.find_spec(DEFAULT_MODEL) is not None:
        return DEFAULT_MODEL
    if warn:
        LOG.warning(
            "text.spacy_model: auto, but %s is not installed. The built-in rules decide which words are meant, "
            "which is less exact. To install it: python -m spacy download %s",
            DEFAULT_MODEL,
            DEFAULT_MODEL,
        )
    return RULES


@lru_cache(maxsize=1)
def load_spacy(model: str) -> "Language | None":
    """The spaCy pipeline without the components that tagging does not need; None for the built-in rules.

    Loaded once per process. Raises CallError if it cannot be loaded or has no part-of-speech component.
    """
    if model == RULES:
        return None
    import spacy

    unneeded = ["parser", "ner", "senter", "sentencizer", "textcat", "textcat_multilabel", "entity_linker", "spancat"]
    try:
        nlp = spacy.load(model, exclude=unneeded)
    except (OSError, ValueError) as error:
        raise CallError(
            f"text.spacy_model: cannot load {model!r}: {error} Expected the name of an installed pipeline, "
            "the folder of one, 'auto', or 'rules'."
        ) from None
    if not {"tagger", "morphologizer"} & set(nlp.pipe_names):
        raise CallError(
            f"text.spacy_model: {model!r} has no part-of-speech component "
            f"(found: {', '.join(nlp.pipe_names) or 'none'}). "
            "Use a pipeline with a tagger or morphologizer, or 'rules'."
        )
    nlp.max_length = max(nlp.max_length, MAX_LINE_BYTES)
    if nlp.lang == ENGLISH:
        # Penn Treebank tags identify nouns. Mapping them to universal tags would cost a third of the time.
        spare = ["lemmatizer"]
        if nlp.has_pipe("tagger") and "NN" in nlp.get_pipe("tagger").labels:
            spare.append("attribute_ruler")
        for name in spare:
            if nlp.has_pipe(name):
                nlp.remove_pipe(name)
    return nlp


def language_of(nlp: "Language | None") -> str:
    """The language code of the pipeline. The built-in rules are English."""
    return ENGLISH if nlp is None else nlp.lang


def describe_model(nlp: "Language | None") -> str:
    """What decides: "rules", or the pipeline's name and version."""
    return RULES if nlp is None else f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
