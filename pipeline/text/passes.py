"""The three passes of stage `tag` over its units, without Beam: find, mark duplicates, tag."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from vlmixer.artifacts import dropped, files, json_files, manifest, schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import TextSettings
from vlmixer.pipeline.report.tagging import EXAMPLES, Examples
from vlmixer.pipeline.text.candidates import CandidateFiles
from vlmixer.pipeline.text.matching import Matcher
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.reader import SentenceReader, SourceSentence
from vlmixer.pipeline.text.record import EarlierSentences, join_units, record_table, tag_new, write_unit
from vlmixer.pipeline.text.sentences import SentenceSplitter
from vlmixer.pipeline.text.tables import tagged_table
from vlmixer.pipeline.text.tagger import ENGLISH, Tagged, Tagger, make_tagger
from vlmixer.pipeline.text.units import FIND, PART, Bucket, Candidates, FoundMentions, FoundSentences, TagSizes
from vlmixer.pipeline.units.finishing import with_outputs, with_results
from vlmixer.pipeline.units.results import each_result
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

SIZES = TagSizes()


@dataclass(frozen=True)
class FindWorker:
    """First pass: reads the slices of a unit and keeps the sentences that hold a word of the vocabulary."""

    settings: TextSettings
    matcher: Matcher
    language: str
    buckets: int
    stage: Stage[TaggedDetails]
    sizes: TagSizes = SIZES

    def load(self) -> SentenceSplitter | None:
        return SentenceSplitter(self.language) if self.settings.split == "sentences" else None

    def run(self, unit: Unit[tuple[TextSlice, ...]], resource: SentenceSplitter | None) -> UnitResult[FoundSentences]:
        with self.stage.reject_file(unit.name) as log:
            reader = SentenceReader(
                log,
                field=self.settings.field,
                min_characters=self.settings.min_characters,
                max_characters=self.settings.max_characters,
                splitter=resource,
            )
            found = self._candidates(reader.sentences(unit.content), log)
            count = CandidateFiles(self.stage.work).write(unit.name, found, self.buckets, self.sizes.rows_per_batch)
        return UnitResult(
            counts={"sentences": Counts(reader.read - count, 0, log.counts())},
            inputs=tuple(reader.inputs),
            rejects=self.stage.listed(log),
            details=FoundSentences(count, reader.unreadable_bytes),
        )

    def _candidates(self, sentences: Iterable[SourceSentence], log: RejectLog) -> Iterator[SourceSentence]:
        """The sentences that may hold a mention; the others are rejected."""
        # In other languages only the pipeline knows which word a sentence holds, so all sentences are candidates.
        every = self.language != ENGLISH
        for sentence in sentences:
            if every or self.matcher.may_find(sentence.text):
                yield sentence
            else:
                log.add(sentence.source, sentence.key, "no_mention")


@dataclass(frozen=True)
class DuplicatesWorker:
    """Second pass: marks the candidates of a bucket, of so many, that repeat an earlier one."""

    buckets: int
    stage: Stage[TaggedDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[Bucket], resource: None) -> UnitResult[None]:
        CandidateFiles(self.stage.work).mark_duplicates(unit.name, unit.content, self.buckets)
        return UnitResult(None)


@dataclass(frozen=True)
class TagWorker:
    """Third pass: tags candidates and writes a part of tagged/. Passes over sentences that were dropped from OUT.

    earlier: tagged/ of a run whose results are taken over for sentences that are the same, "" without.
    """

    settings: TextSettings
    vocabulary: Vocabulary
    matcher: Matcher
    buckets: int
    stage: Stage[TaggedDetails]
    sizes: TagSizes = SIZES
    earlier: str = ""

    def load(self) -> tuple[Tagger, EarlierSentences | None]:
        tagger = make_tagger(self.settings, self.vocabulary, self.matcher)
        return tagger, EarlierSentences(self.earlier) if self.earlier else None

    def run(
        self, unit: Unit[Candidates], resource: tuple[Tagger, EarlierSentences | None]
    ) -> UnitResult[FoundMentions]:
        tagger, earlier = resource
        without = dropped.read(self.stage.out)
        examples = Examples()
        record: list[pa.Table] = []
        mentions: Counter[str] = Counter()
        not_meant: Counter[str] = Counter()
        read = written = 0
        name = f"{unit.name}.parquet"
        batches = CandidateFiles(self.stage.work).read(unit.content, self.buckets, self.sizes.rows_per_batch)
        with (
            self.stage.reject_file(unit.name) as log,
            schemas.writing_parquet(files.join(self.stage.folder, name), schemas.TAGGED) as writer,
        ):
            for sentences, duplicates in batches:
                read += len(sentences)
                for sentence in _where(sentences, duplicates):
                    # The first pass lets some sentences through in which nothing is found: these are not duplicates.
                    reason = "duplicate" if tagger.finds(sentence.text) else "no_mention"
                    log.add(sentence.source, sentence.key, reason)
                fresh = _where(sentences, [not duplicate for duplicate in duplicates])
                # As if they had not been read. Only here, so that no other sentence moves to another batch.
                there = [sentence for sentence in fresh if not without.has_sentence(sentence.text)]
                read -= len(fresh) - len(there)
                fresh = there
                kept: list[tuple[SourceSentence, Tagged]] = []
                tagged = tag_new(fresh, tagger, earlier)
                record.append(record_table(tagged))
                for sentence, found in tagged:
                    examples.add(sentence.sentence_id, sentence.text, found)
                    mentions.update(mention.concept for mention in found.mentions)
                    not_meant.update(mention.concept for mention in found.not_meant)
                    if found.mentions:
                        kept.append((sentence, found))
                    else:
                        reason = "not_meant" if found.not_meant else "no_mention"
                        log.add(sentence.source, sentence.key, reason)
                written += len(kept)
                if kept:
                    writer.write_table(tagged_table(kept))
        files.publish_bytes(examples_path(self.stage, unit.name), manifest.canonical(examples.to_json()))
        write_unit(record_path(self.stage, unit.name), record)
        return UnitResult(
            counts={"sentences": Counts(read, written, log.counts())},
            outputs=(manifest.output_of(self.stage.folder, name, written),),
            rejects=self.stage.listed(log),
            details=FoundMentions(dict(sorted(mentions.items())), dict(sorted(not_meant.items()))),
        )


def record_path(stage: Stage[TaggedDetails], unit: str) -> str:
    """The file of a unit of the third pass with what it found in every sentence."""
    return files.join(stage.work, f"{unit}.record")


def examples_path(stage: Stage[TaggedDetails], unit: str) -> str:
    """The file of a unit of the third pass with its examples for the report."""
    return files.join(stage.work, f"{unit}.examples")


def complete_tagged(
    stage: Stage[TaggedDetails], finds: int, parts: int, known: Manifest[TaggedDetails]
) -> Manifest[TaggedDetails]:
    """Write the examples and not-meant.parquet, and complete the manifest, of what so many units of the first and of
    the third pass left."""
    examples = Examples()
    mentions: Counter[str] = Counter()
    not_meant: Counter[str] = Counter()
    names = [PART.name(number) for number in range(parts)]

    def results() -> Iterator[UnitResult[Any]]:
        yield from each_result(stage, [FIND.name(number) for number in range(finds)], FoundSentences)
        for name, result in zip(names, each_result(stage, names, FoundMentions), strict=True):
            examples.merge(
                json_files.read(examples_path(stage, name), Examples, advice="Run `vlmixer tag … --overwrite`.")
            )
            mentions.update(result.details.mentions)
            not_meant.update(result.details.not_meant)
            yield result

    made = with_results(known, results())
    files.publish_bytes(files.join(stage.folder, EXAMPLES), manifest.canonical(examples.to_json()))
    outputs = [
        manifest.output_of(stage.folder, EXAMPLES, len(mentions)),
        join_units(stage.folder, [record_path(stage, name) for name in names]),
    ]
    details = replace(known.details, mentions=dict(sorted(mentions.items())), not_meant=dict(sorted(not_meant.items())))
    return replace(with_outputs(made, outputs), details=details)


def _where(sentences: Sequence[SourceSentence], wanted: Sequence[bool]) -> list[SourceSentence]:
    return [sentence for sentence, is_wanted in zip(sentences, wanted, strict=True) if is_wanted]
