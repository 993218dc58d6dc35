"""TagSentences: the grounded words of sentences."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations
from apache_beam.utils.shared import Shared

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import stable_id
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.metrics import count, measure
from vlmixer.pipeline.beam.outputs import MAIN, REJECTS, WithRejects, reject
from vlmixer.pipeline.beam.rows import GroundedWord, TaggedSentence, pair_of, plain_key
from vlmixer.pipeline.config import HARDLY_VISUAL, TextSettings
from vlmixer.pipeline.text.matching import Matcher
from vlmixer.pipeline.text.readers.reader import why_unusable
from vlmixer.pipeline.text.tagger import Tagger, load_spacy, make_matcher, make_tagger, resolve_model

STEP = "tag"
BATCH = 128
"""Sentences that are tagged together."""


class TagSentences(WithRejects):
    """PCollection of str, (key, text), rows or dicts with these fields, such as `Text` → PCollection[TaggedSentence].

    Sentences without a mention are rejects: `no_mention`, `not_meant`; texts that cannot be used, too: `too_long`,
    `empty_line`, `missing_field` (None), … Works on unbounded collections.
    Repeated sentences stay: put `beam.Distinct()` before it.
    """

    def __init__(
        self,
        vocabulary: str | Vocabulary = "coco",
        spacy_model: str = "auto",
        *,
        stop_words: Sequence[str] = HARDLY_VISUAL,
        tag_modifiers: bool = False,
        min_characters: int = 1,
        max_characters: int = 1000,
        spread: bool = True,
    ) -> None:
        """vocabulary: its name or file. spacy_model: a pipeline's name or folder, `rules`, or `auto`. spread: whether
        the texts are spread over the workers first. Otherwise the worker that reads a file which cannot be split, such
        as a .gz, tags all of it. The others are those of the section `text` of a config.

        Raises UserError, CallError if vocabulary or pipeline cannot be loaded.
        """
        super().__init__()
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        settings = TextSettings(
            spacy_model=resolve_model(spacy_model),
            stop_words=tuple(stop_words),
            tag_modifiers=tag_modifiers,
            min_characters=min_characters,
            max_characters=max_characters,
        )
        # Made once and sent to the workers: deriving all forms of many words takes a second.
        matcher = make_matcher(known, settings.stop_words, load_spacy(settings.spacy_model))
        self._tag = _Tag(known, settings, matcher)
        self._spread = spread

    def expand(self, texts: beam.PCollection) -> Any:
        if self._spread:
            texts = texts | "SpreadTexts" >> beam.Reshuffle()
        outputs = (
            texts
            | "BatchTexts" >> beam.BatchElements(min_batch_size=1, max_batch_size=BATCH)
            | "TagTexts" >> beam.ParDo(self._tag).with_outputs(REJECTS, main=MAIN)
        )
        return self.given(outputs, TaggedSentence)


class _Tag(beam.DoFn):
    def __init__(self, vocabulary: Vocabulary, settings: TextSettings, matcher: Matcher) -> None:
        self._vocabulary, self._settings, self._matcher = vocabulary, settings, matcher
        self._shared = Shared()

    def setup(self) -> None:
        self._tagger: Tagger = self._shared.acquire(
            lambda: make_tagger(self._settings, self._vocabulary, self._matcher)
        )

    @no_annotations
    def process(self, batch: Sequence[object]) -> Iterator[Any]:
        began = time.monotonic()
        usable: list[tuple[str, str]] = []
        for key, text in map(_keyed, batch):
            if text is None:
                yield from reject(STEP, key, "missing_field")
                continue
            wrong = why_unusable(text, self._settings.min_characters, self._settings.max_characters)
            if wrong is None:
                usable.append((key, text))
            else:
                yield from reject(STEP, key, *wrong)
        for (key, text), found in zip(usable, self._tagger.tag([text for _, text in usable]), strict=True):
            if found.mentions:
                words = [GroundedWord(**vars(mention)) for mention in found.mentions]
                count(STEP, "tagged")
                yield TaggedSentence(plain_key(key), text, words)
            else:
                yield from reject(STEP, key, "not_meant" if found.not_meant else "no_mention")
        measure(STEP, "milliseconds", round(1000 * (time.monotonic() - began)))


def _keyed(element: object) -> tuple[str, str | None]:
    """The key and the text, without white space around it; None for no text. Rows and dicts are read by name.

    Raises UserError for other elements.
    """
    if isinstance(element, str):
        return stable_id("text", element), element.strip()
    key, text = pair_of(element, "key", "text") or (None, None)
    if not isinstance(key, str) or not (text is None or isinstance(text, str)):
        raise UserError(
            f"TagSentences: an element is {repr(element)[:100]}, expected a str, (key, text), or a row or dict with "
            "the fields key and text, both str. Put a beam.Map before it that makes one."
        )
    return key, None if text is None else text.strip()
