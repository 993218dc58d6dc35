"""Stage `tag`: sentences → tagged/: Parquet parts, a summary and a page.

Three passes, each resumable. The first reads the files and keeps, in the stage's work folder, the sentences that hold a
word of the vocabulary; the second marks those among them that stand in the corpus before; the third tags the rest, in
units of equal size whatever the files were. Sentences travel through files, so memory is bounded by a unit.
"""

import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b

import apache_beam as beam
import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.manifest import Counts, Manifest, Output
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import TAG
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import Config, TextSettings
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.report.tagging import PAGE, SUMMARY, Examples, TagSummary, write_tag_page
from vlmixer.pipeline.text.matching import Matcher
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split
from vlmixer.pipeline.text.readers.reader import SentenceReader, SourceSentence
from vlmixer.pipeline.text.readers.slices import UNIT_BYTES, plan_slices, source_id
from vlmixer.pipeline.text.sentences import SentenceSplitter
from vlmixer.pipeline.text.tagger import (
    ENGLISH,
    Tagged,
    Tagger,
    describe_model,
    language_of,
    load_spacy,
    make_matcher,
    resolve_model,
)
from vlmixer.pipeline.units.finishing import finish_stage
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Content, Resource, Unit, UnitResult, Worker

LOG = logging.getLogger("vlmixer")
PACKAGES = ("vlmixer", "pyarrow", "inflect", "spacy")

ROWS_A_BATCH = 1024
UNITS_WANTED = 32
MOST_BATCHES_A_UNIT = 32

BUCKET_BYTES = 64 << 20
"""Text whose sentences one unit of the second pass compares; it holds 40 bytes a sentence while it sorts them."""

CANDIDATES = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("number", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
HASHES = pa.schema([pa.field("hash", pa.binary(16), nullable=False), pa.field("row", pa.int32(), nullable=False)])
ROWS = pa.schema([pa.field("row", pa.int32(), nullable=False)])


class TagSentences(beam.PTransform):
    """PCollection[Unit of Candidates] → PCollection[str] of the units done; writes OUT/tagged/part-*.parquet."""

    def __init__(
        self, settings: TextSettings, vocabulary: Vocabulary, matcher: Matcher, buckets: int, out: str
    ) -> None:
        super().__init__()
        self._worker = TagWorker(settings, vocabulary, matcher, buckets, Stage(TAG, out))

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "TagUnits" >> DoUnits(self._worker.stage, self._worker)


def find_unit(number: int) -> str:
    """Name of a unit of the first pass."""
    return f"find-{number:05d}"


def _work_file(stage: Stage[TaggedDetails], name: str) -> str:
    return files.join(stage.work, f"{name}.arrow")


@dataclass(frozen=True)
class FoundSentences:
    """What a unit of the first pass found: how many candidates; files of which all or the rest could not be read."""

    candidates: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True)
class FindWorker:
    """Reads the slices of a unit; keeps the sentences that hold a word of the vocabulary, and a hash of each.

    Writes batches of ROWS_A_BATCH candidates, and beside them the hashes, a batch a bucket.
    """

    settings: TextSettings
    matcher: Matcher
    language: str
    buckets: int
    stage: Stage[TaggedDetails]

    def load(self) -> SentenceSplitter | None:
        return SentenceSplitter(self.language) if self.settings.split == "sentences" else None

    def run(self, unit: Unit[tuple[TextSlice, ...]], resource: SentenceSplitter | None) -> UnitResult["FoundSentences"]:
        # In other languages only the pipeline can tell which word a sentence holds, so that all go on to it.
        matcher = self.matcher if self.language == ENGLISH else None
        log = RejectLog("tag")
        reader = SentenceReader(
            log,
            field=self.settings.field,
            min_characters=self.settings.min_characters,
            max_characters=self.settings.max_characters,
            splitter=resource,
        )
        hashes = [bytearray() for _ in range(self.buckets)]
        rows = [array("i") for _ in range(self.buckets)]
        found = 0
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with (
            files.publishing(_work_file(self.stage, unit.name)) as file,
            pa.ipc.new_file(file, CANDIDATES, options=options) as writer,
        ):
            for lines in _batches(_candidates(reader, unit.content, matcher, log)):
                for line in lines:
                    digest = blake2b(line.text.encode(), digest_size=16).digest()
                    bucket = int.from_bytes(digest[:4], "little") % self.buckets
                    hashes[bucket] += digest
                    rows[bucket].append(found)
                    found += 1
                writer.write_batch(pa.record_batch(list(zip(*lines, strict=True)), schema=CANDIDATES))
        with (
            files.publishing(_work_file(self.stage, f"{unit.name}-hashes")) as file,
            pa.ipc.new_file(file, HASHES) as writer,
        ):
            for digests, places in zip(hashes, rows, strict=True):
                columns = [
                    pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(places), [None, pa.py_buffer(digests)]),
                    pa.array(np.frombuffer(places, np.int32)),
                ]
                writer.write_batch(pa.record_batch(columns, schema=HASHES))
        return UnitResult(
            counts={"sentences": Counts(reader.read - found, 0, log.counts())},
            inputs=tuple(reader.inputs),
            rejects=self.stage.publish_rejects(unit.name, log),
            details=FoundSentences(
                candidates=found,
                unreadable=tuple(sorted({entry.source for entry in log.rejects if entry.reason == "unreadable_file"})),
            ),
        )


def _candidates(
    reader: SentenceReader, slices: Sequence[TextSlice], matcher: Matcher | None, log: RejectLog
) -> Iterator[SourceSentence]:
    """The sentences that may hold a mention; the others are rejected."""
    for line in reader.sentences(slices):
        if matcher is None or matcher.may_find(line.text):
            yield line
        else:
            log.add(line.source, line.key, "no_mention")


def _batches(lines: Iterator[SourceSentence]) -> Iterator[list[SourceSentence]]:
    held: list[SourceSentence] = []
    for line in lines:
        held.append(line)
        if len(held) == ROWS_A_BATCH:
            yield held
            held = []
    if held:
        yield held


@dataclass(frozen=True)
class DuplicatesWorker:
    """Marks the candidates of a bucket that stand in an earlier unit or row; unit content: (bucket, number of units of
    the first pass). Writes a batch of rows a unit."""

    stage: Stage[TaggedDetails]

    def load(self) -> None:
        return None

    def run(self, unit: Unit[tuple[int, int]], resource: None) -> UnitResult[None]:
        bucket, finds = unit.content
        hashes: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        for number in range(finds):
            with (
                files.open_read(_work_file(self.stage, f"{find_unit(number)}-hashes")) as file,
                pa.ipc.open_file(file) as reader,
            ):
                batch = reader.get_batch(bucket)
                raw = batch.column(0).buffers()[1]
                hashes.append(np.frombuffer(raw or b"", np.uint64, 2 * len(batch)).reshape(-1, 2).copy())
                rows.append(batch.column(1).to_numpy())
        with files.publishing(_work_file(self.stage, unit.name)) as file, pa.ipc.new_file(file, ROWS) as writer:
            for again, of_unit in zip(repeated(hashes), rows, strict=True):
                writer.write_batch(pa.record_batch([pa.array(np.sort(of_unit[again]), pa.int32())], schema=ROWS))
        return UnitResult(None)


def repeated(hashes: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each array of hashes, (n, 2) uint64, the indices of those that stand before, in it or in an earlier one."""
    ends = np.cumsum([len(part) for part in hashes])
    first, second = (np.concatenate([part[:, half] for part in hashes]) for half in (0, 1))
    order = np.lexsort((second, first))
    same = np.ones(max(len(order) - 1, 0), bool)
    for half in (first, second):
        ordered = half[order]
        same &= ordered[1:] == ordered[:-1]
    again = np.sort(order[1:][same])
    return [
        part - begin
        for part, begin in zip(np.split(again, np.searchsorted(again, ends[:-1])), [0, *ends[:-1]], strict=True)
    ]


@dataclass(frozen=True)
class Candidates:
    """Content of a unit of the third pass: batches first … end-1 of what unit `find` of the first pass kept."""

    find: int
    first: int
    end: int


@dataclass(frozen=True)
class FoundMentions:
    """What a unit of the third pass found: by concept, mentions and words that were not meant."""

    mentions: dict[str, int]
    not_meant: dict[str, int]


@dataclass(frozen=True)
class TagWorker:
    """Tags candidates and writes a part of tagged/."""

    settings: TextSettings
    vocabulary: Vocabulary
    matcher: Matcher
    buckets: int
    stage: Stage[TaggedDetails]

    def load(self) -> Tagger:
        return make_tagger(self.settings, self.vocabulary, self.matcher)

    def run(self, unit: Unit[Candidates], resource: Tagger) -> UnitResult[FoundMentions]:
        log = RejectLog("tag")
        examples = Examples()
        mentions: Counter[str] = Counter()
        not_meant: Counter[str] = Counter()
        read = written = 0
        name = f"{unit.name}.parquet"
        with schemas.writing_parquet(files.join(self.stage.folder, name), schemas.TAGGED) as writer:
            for lines, again in self._read(unit.content):
                read += len(lines)
                for line in (line for line, known in zip(lines, again, strict=True) if known):
                    # The first pass let some sentences through in which nothing is found; these are no duplicates.
                    log.add(line.source, line.key, "duplicate" if resource.finds(line.text) else "no_mention")
                fresh = [line for line, known in zip(lines, again, strict=True) if not known]
                tagged = resource.tag([line.text for line in fresh])
                kept: list[tuple[SourceSentence, Tagged]] = []
                for line, found in zip(fresh, tagged, strict=True):
                    examples.add(line.sentence_id, line.text, found)
                    mentions.update(mention.concept for mention in found.mentions)
                    not_meant.update(mention.concept for mention in found.not_meant)
                    if found.mentions:
                        kept.append((line, found))
                    else:
                        log.add(line.source, line.key, "not_meant" if found.not_meant else "no_mention")
                written += len(kept)
                if kept:
                    writer.write_table(tagged_table(kept))
        files.publish_bytes(
            files.join(self.stage.work, f"{unit.name}.examples"), manifest.canonical(examples.to_json())
        )
        return UnitResult(
            counts={"sentences": Counts(read, written, log.counts())},
            outputs=(manifest.describe(self.stage.folder, name, written),),
            rejects=self.stage.publish_rejects(unit.name, log),
            details=FoundMentions(dict(sorted(mentions.items())), dict(sorted(not_meant.items()))),
        )

    def _read(self, content: Candidates) -> Iterator[tuple[list[SourceSentence], list[bool]]]:
        """The batches of candidates, and whether each of them is a duplicate."""
        marks = []
        for bucket in range(self.buckets):
            with (
                files.open_read(_work_file(self.stage, f"duplicates-{bucket:05d}")) as file,
                pa.ipc.open_file(file) as reader,
            ):
                marks.append(reader.get_batch(content.find).column(0).to_numpy())
        duplicates = np.concatenate(marks)
        with (
            files.open_read(_work_file(self.stage, find_unit(content.find))) as file,
            pa.ipc.open_file(file) as reader,
        ):
            for number in range(content.first, content.end):
                batch = reader.get_batch(number)
                rows = np.arange(number * ROWS_A_BATCH, number * ROWS_A_BATCH + len(batch))
                lines = [
                    SourceSentence(*row) for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
                ]
                yield lines, np.isin(rows, duplicates).tolist()


def make_tagger(settings: TextSettings, vocabulary: Vocabulary, matcher: Matcher | None = None) -> Tagger:
    """The tagger that the settings describe. Raises CallError."""
    return Tagger(vocabulary, settings.spacy_model, settings.stop_words, settings.tag_modifiers, matcher)


def tagged_table(rows: Sequence[tuple[SourceSentence, Tagged]]) -> pa.Table:
    """A table of tagged/."""
    mentions = [mention for _, found in rows for mention in found.mentions]
    offsets = np.cumsum([0, *(len(found.mentions) for _, found in rows)])
    values = pa.StructArray.from_arrays(
        [pa.array([getattr(mention, field.name) for mention in mentions], field.type) for field in schemas.MENTION],
        fields=list(schemas.MENTION),
    )
    columns = [
        pa.array([line.sentence_id for line, _ in rows]),
        pa.array([line.text for line, _ in rows]),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values).cast(schemas.TAGGED.field("mentions").type),
    ]
    return pa.table(columns, schema=schemas.TAGGED)


def plan_finds(inputs: Sequence[FileStat]) -> list[Unit[tuple[TextSlice, ...]]]:
    """Units of the first pass, one for every run of text slices."""
    return [Unit(find_unit(number), slices) for number, slices in enumerate(plan_slices(inputs))]


def count_buckets(inputs: Sequence[FileStat]) -> int:
    """Into how many parts the search for duplicates is divided; packed text is taken for a quarter of its size."""
    return 1 + sum(entry.size * (1 if can_split(entry.name) else 4) for entry in inputs) // BUCKET_BYTES


def plan_parts(candidates: Sequence[int]) -> list[Unit[Candidates]]:
    """Units of the third pass, of equal size but for the last of each unit of the first pass, which kept so many
    candidates each."""
    total = -(-sum(candidates) // ROWS_A_BATCH)
    size = min(max(total // UNITS_WANTED, 1), MOST_BATCHES_A_UNIT)
    contents = []
    for find, count in enumerate(candidates):
        batches = -(-count // ROWS_A_BATCH)
        contents += [Candidates(find, first, min(first + size, batches)) for first in range(0, batches, size)]
    return [Unit(f"part-{number:05d}", content) for number, content in enumerate(contents)]


def _has_sentence(counts: Counts) -> bool:
    """Whether anything was met but empty and unreadable files and blank lines."""
    return counts.read > sum(
        counts.rejected.get(reason, 0) for reason in ("empty_file", "unreadable_file", "empty_line")
    )


def run_tag(config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool) -> Manifest[TaggedDetails]:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    if not config.text.inputs:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    inputs = files.expand(config.text.inputs, key="text.inputs")
    # Workers are told what `auto` stands for, so that it is said once.
    text = replace(config.text, spacy_model=resolve_model(config.text.spacy_model))
    nlp = load_spacy(text.spacy_model)
    tagger = describe_model(nlp)
    settings = asdict(replace(text, inputs=())) | {"spacy_model": tagger, "vocabulary": vocabulary.hash}
    plan = Plan(settings, [asdict(entry) for entry in inputs], manifest.versions(PACKAGES))
    stage = Stage(TAG, config.out)
    finished = begin_stage(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    _say_what_is_not_split(inputs)
    # Made once: deriving all forms of the words takes each process seconds.
    matcher = make_matcher(vocabulary, text.stop_words, nlp)
    buckets = count_buckets(inputs)
    finds = plan_finds(inputs)
    find = FindWorker(text, matcher, language_of(nlp), buckets, stage)
    _do(engine, stage, finds, tuple[TextSlice, ...], find, "tag: read")
    found = read_results(stage, [unit.name for unit in finds], FoundSentences)
    marks = [Unit(f"duplicates-{bucket:05d}", (bucket, len(finds))) for bucket in range(buckets)]
    _do(engine, stage, marks, tuple[int, int], DuplicatesWorker(stage), "tag: duplicates")
    parts = plan_parts([result.details.candidates for result in found])
    left = pending(stage, parts)
    with progress(stage, "tag", [unit.name for unit in parts], "sentences"):
        if left:
            transform = TagSentences(text, vocabulary, matcher, buckets, config.out)
            engine.run(stage, left, Candidates, lambda units: units | "TagSentences" >> transform, label="tag")
    tagged = read_results(stage, [unit.name for unit in parts], FoundMentions)
    results: list[UnitResult[FoundSentences | FoundMentions]] = [*found, *tagged]
    counts = [result.counts["sentences"] for result in results]
    if not any(_has_sentence(each) for each in counts):
        raise UserError("text.inputs: the files hold no sentence at all.")
    details = TaggedDetails(
        tagger=tagger,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        mentions=_sum_counters(result.details.mentions for result in tagged),
        not_meant=_sum_counters(result.details.not_meant for result in tagged),
        sources={source_id(entry.name): entry.name for entry in inputs},
        not_split=sum(not can_split(entry.name) for entry in inputs),
    )
    summary = TagSummary(
        tagger=tagger,
        vocabulary=vocabulary.name,
        counts=sum(counts, Counts(0, 0)),
        mentions=details.mentions,
        not_meant=details.not_meant,
        missing=[name for name in vocabulary.names if name not in details.mentions],
        unreadable=sorted({name for result in found for name in result.details.unreadable}),
    )
    return finish_stage(
        stage,
        plan,
        results,
        details=details,
        max_bad_fraction=config.max_bad_fraction,
        extra_outputs=_describe_what_came_out(stage, summary, parts),
    )


def _do(
    engine: Engine,
    stage: Stage[TaggedDetails],
    units: Sequence[Unit[Content]],
    content: type[Content],
    worker: Worker[Content, Resource],
    label: str,
) -> None:
    """Do the units of a pass that are left."""
    left = pending(stage, units)
    with progress(stage, label, [unit.name for unit in units], "sentences"):
        if left:
            engine.run(stage, left, content, lambda units: units | "Do" >> DoUnits(stage, worker), label=label)


def _say_what_is_not_split(inputs: Sequence[FileStat]) -> None:
    whole = [entry.name for entry in inputs if entry.size > UNIT_BYTES // 8 and not can_split(entry.name)]
    if whole:
        LOG.info(
            "tag: %d files cannot be split (packed, .json or .tar), so that each is read by one worker; what is found "
            "in them is tagged by all: %s",
            len(whole),
            ", ".join(whole[:3]) + (", …" if len(whole) > 3 else ""),
        )


def _sum_counters(counters: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        total.update(counter)
    return dict(sorted(total.items()))


def _describe_what_came_out(
    stage: Stage[TaggedDetails], summary: TagSummary, parts: Sequence[Unit[Candidates]]
) -> list[Output]:
    """Write the summary and the page."""
    examples = Examples()
    for unit in parts:
        examples.merge(json.loads(files.read_bytes(files.join(stage.work, f"{unit.name}.examples"))))
    files.publish_bytes(files.join(stage.folder, SUMMARY), manifest.canonical(summary.to_json(), indent=1))
    write_tag_page(files.join(stage.folder, PAGE), summary, examples)
    return [manifest.describe(stage.folder, name, len(summary.mentions)) for name in (PAGE, SUMMARY)]
