"""Which matched words are meant as things: part of speech decides where a statistical spaCy pipeline is at hand,
a few rules where none is. Cheap matching goes first, so that spaCy sees only sentences that hold a candidate."""

import importlib.util
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from artifacts.errors import CallError
from artifacts.samples import Mention
from bank.concepts import Vocabulary
from pipeline.text.matching import WORD, Match, Matcher

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc

LOG = logging.getLogger(__name__)

DEFAULT_MODEL = "en_core_web_sm"
RULES = "rules"
"""`text.spacy_model: rules` asks for the built-in rules."""

CHUNK = 1024
BATCH = 128

Item = TypeVar("Item")

# Words after which an English noun form is a verb ("they train", "to book", "don't park").
VERB_CUES = frozenset(
    "i you he she it we they who to will would can could may might must shall should not never please let lets cannot "
    "'ll 'd n't".split()
)
# Nouns that often stand behind another one which then only modifies them ("a bus *stop*", "the fish *market*").
COMPOUND_HEADS = frozenset(
    "market stop station cover tower row food fair idea style rule rules days time house shop store park race racing "
    "driver player trainer lover owner ride show team game company industry sky dress shirt jacket coat hat light seat "
    "door window handle road track lane cage farm bed bowl".split()
)
# Words, with the contracted ones apart: "don't" is "do" and "n't".
CONTRACTED = re.compile(r"n['’]t\b|['’](?:ll|d)\b|\w+?(?=n['’]t\b)|\w+")


class Tagger:
    """Finds the grounded words of sentences. `description` names what decides, for manifests and logs."""

    def __init__(self, vocabulary: Vocabulary, spacy_model: str = "auto", stop_words: Iterable[str] = ()) -> None:
        self._matcher = Matcher(vocabulary, stop_words)
        self._nlp = load_spacy(spacy_model)
        self.description = describe_model(self._nlp)

    def tag(self, items: Iterable[Item], text: Callable[[Item], str]) -> Iterator[tuple[Item, tuple[Mention, ...]]]:
        """Each item with the mentions of its text, in order; memory is bounded by CHUNK items."""
        stream = iter(items)
        while chunk := list(islice(stream, CHUNK)):
            yield from zip(chunk, self.tag_texts([text(item) for item in chunk]), strict=True)

    def tag_texts(self, texts: list[str]) -> list[tuple[Mention, ...]]:
        """The mentions of each text."""
        matches = [self._matcher.find(text) for text in texts]
        if self._nlp is None:
            kept = [rule_out(text, found) for text, found in zip(texts, matches, strict=True)]
        else:
            candidates = [row for row, found in enumerate(matches) if found]
            docs = self._nlp.pipe((texts[row] for row in candidates), batch_size=BATCH)
            kept = [[] for _ in texts]
            for row, doc in zip(candidates, docs, strict=True):
                kept[row] = [match for match in matches[row] if meant(doc, match)]
        return [
            tuple(
                Mention(match.start, match.end, match.concept, text[match.start : match.end], match.lemma)
                for match in found
            )
            for text, found in zip(texts, kept, strict=True)
        ]


def meant(doc: "Doc", match: Match) -> bool:
    """Whether the pipeline takes the match's head for a noun that does not merely modify the next one.

    The head is the last token of the match: "the *traffic light*" counts, "a *bear* market" and "we *park*" do not.
    """
    span = doc.char_span(match.start, match.end, alignment_mode="expand")
    if span is None or not _is_noun(span[-1]):
        return False
    if span.end == len(doc):
        return True
    following = doc[span.end]
    return not (_is_noun(following) and following.text[0].isalnum())


def _is_noun(token: object) -> bool:
    pos: str = token.pos_  # type: ignore[attr-defined]
    return pos in ("NOUN", "PROPN") if pos else token.tag_.startswith("NN")  # type: ignore[attr-defined]


def rule_out(text: str, matches: list[Match]) -> list[Match]:
    """The matches that rules on neighbouring words do not speak against.

    Without parts of speech, a single word after a pronoun, "to" or an auxiliary is a verb ("they *train* hard"), and so
    is one that has no plural ending after one that has ("the students *train*"); a word straight before another match
    or before a noun of COMPOUND_HEADS modifies it ("a *dog* bed"); and "a *bear* of a problem" is an idiom.
    """
    words = [(found.start(), found.group().lower()) for found in WORD.finditer(text)]
    kept = []
    for position, match in enumerate(matches):
        before = [found.group().lower().replace("’", "'") for found in CONTRACTED.finditer(text, 0, match.start)]
        after = [word for start, word in words if start >= match.end]
        single = " " not in text[match.start : match.end].strip()
        said = [word for word in before[-2:] if not word.endswith("ly")]
        singular = text[match.start : match.end].lower() == match.lemma
        # An infinitive has no plural ending: "talking to *people*" is none.
        if single and said and said[-1] in VERB_CUES and (singular or said[-1] != "to"):
            continue
        if single and singular and said and _plural(said[-1]):
            continue
        if after and after[0] in COMPOUND_HEADS and text[match.end : match.end + 1] == " ":
            continue
        if position + 1 < len(matches) and text[match.end : matches[position + 1].start] == " ":
            continue
        if after[:2] == ["of", "a"] and before and before[-1] in ("a", "an"):
            continue
        kept.append(match)
    return kept


def _plural(word: str) -> bool:
    """Whether the word looks like a noun in the plural."""
    return word in ("people", "men", "women", "children") or (
        len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    )


def load_spacy(model: str) -> "Language | None":
    """The spaCy pipeline, or None for the built-in rules. Raises CallError if a named one cannot be loaded."""
    if model == RULES:
        return None
    if model == "auto":
        if importlib.util.find_spec(DEFAULT_MODEL) is None:
            LOG.warning(
                "text.spacy_model: auto, and %s is not installed: the built-in rules decide which words are meant, "
                "which is less exact. To install it: python -m spacy download %s",
                DEFAULT_MODEL,
                DEFAULT_MODEL,
            )
            return None
        model = DEFAULT_MODEL
    import spacy

    try:
        nlp = spacy.load(model, exclude=["parser", "ner", "lemmatizer", "senter", "textcat"])
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
    return nlp


def describe_model(nlp: "Language | None") -> str:
    """What decides, in a word or two: "rules", or the pipeline's name and version."""
    return RULES if nlp is None else f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"
