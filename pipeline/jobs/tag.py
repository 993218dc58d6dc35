"""Stage `tag`: sentences → tagged/, a Parquet part a unit of text."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam

from artifacts import files, manifest, schemas
from artifacts.errors import CallError, UserError
from artifacts.manifest import Counts, Manifest
from artifacts.rejects import RejectLog
from bank.concepts import Vocabulary
from pipeline.config import Config, TextSettings
from pipeline.jobs import work
from pipeline.jobs.engine import DoUnits, Engine, progress
from pipeline.jobs.work import Plan, Stage, Unit, UnitResult
from pipeline.text.sources import UNIT_BYTES, Reading, can_split, plan_slices, source_id
from pipeline.text.tagger import Tagger, describe_model, load_spacy

LOG = logging.getLogger("vlmixer")
ROWS_A_GROUP = 4096
PACKAGES = ("vlmixer", "pyarrow", "inflect", "spacy")


class TagSentences(beam.PTransform):
    """PCollection[Unit of text slices] → PCollection[str] of the units done; writes OUT/tagged/part-*.parquet."""

    def __init__(self, settings: TextSettings, vocabulary: Vocabulary, out: str) -> None:
        super().__init__()
        self._worker = TagWorker(settings, vocabulary, Stage("tag", out))

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "TagUnits" >> DoUnits(self._worker.stage, self._worker)


@dataclass(frozen=True)
class TagWorker:
    """Tags the slices of a unit."""

    settings: TextSettings
    vocabulary: Vocabulary
    stage: Stage

    def load(self) -> Tagger:
        return Tagger(self.vocabulary, self.settings.spacy_model, self.settings.stop_words)

    def run(self, unit: Unit, resource: Tagger) -> UnitResult:
        log = RejectLog("tag")
        reading = Reading(self.settings.field, self.settings.max_characters, log)
        concepts: Counter[str] = Counter()
        written = 0
        name = f"{unit.name}.parquet"
        with schemas.writing_parquet(files.join(self.stage.folder, name), schemas.TAGGED) as writer:
            rows: list[dict[str, Any]] = []
            for line, mentions in resource.tag(reading.lines(unit.content), lambda line: line.text):
                if not mentions:
                    log.add(line.source, line.position, "no_mention")
                    continue
                rows.append(
                    {
                        "sentence_id": line.sentence_id,
                        "text": line.text,
                        "mentions": [asdict(mention) for mention in mentions],
                    }
                )
                concepts.update(mention.concept for mention in mentions)
                written += 1
                if len(rows) == ROWS_A_GROUP:
                    writer.write_table(schemas.rows_to_table(rows, schemas.TAGGED))
                    rows = []
            if rows:
                writer.write_table(schemas.rows_to_table(rows, schemas.TAGGED))
        return UnitResult(
            counts={"sentences": Counts(reading.read, written, log.counts())},
            inputs=tuple(reading.inputs),
            outputs=(manifest.describe(self.stage.folder, name, written),),
            rejects=self.stage.publish_rejects(unit.name, log),
            details={"mentions": dict(sorted(concepts.items()))},
        )


def plan_units(inputs: Sequence[files.FileStat]) -> list[Unit]:
    """A unit for every run of text slices."""
    return [Unit(f"part-{index:05d}", slices) for index, slices in enumerate(plan_slices(inputs))]


def _has_sentence(counts: Counts) -> bool:
    """Whether anything was met but empty and unreadable files and blank lines."""
    return counts.read > sum(
        counts.rejected.get(reason, 0) for reason in ("empty_file", "unreadable_file", "empty_line")
    )


def run_tag(config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool) -> Manifest:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    if not config.text.inputs:
        raise CallError("text.inputs: empty; expected files, folders or globs with sentences.")
    inputs = files.expand(config.text.inputs, key="text.inputs")
    tagger = describe_model(load_spacy(config.text.spacy_model))
    settings = asdict(replace(config.text, inputs=())) | {"spacy_model": tagger, "vocabulary": vocabulary.hash}
    plan = Plan(settings, [asdict(entry) for entry in inputs], manifest.versions(PACKAGES))
    stage = Stage("tag", config.out)
    finished = work.begin(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    units = plan_units(inputs)
    whole = [entry.name for entry in inputs if entry.size > UNIT_BYTES // 8 and not can_split(entry.name)]
    if whole:
        LOG.info(
            "tag: %d files are packed and cannot be split, so that each is read by one worker and counts when it is "
            "done: %s",
            len(whole),
            ", ".join(whole[:3]) + (", …" if len(whole) > 3 else ""),
        )
    left = work.pending(stage, units)
    with progress(stage, "tag", [unit.name for unit in units], "sentences"):
        if left:
            transform = TagSentences(config.text, vocabulary, config.out)
            engine.run(
                stage,
                lambda pipeline: pipeline | "ListUnits" >> beam.Create(left) | "TagSentences" >> transform,
                len(left),
            )
    results = [work.read_result(stage, unit.name) for unit in units]
    if not any(_has_sentence(result.counts["sentences"]) for result in results):
        raise UserError("text.inputs: the files hold no sentence at all.")
    mentions: Counter[str] = Counter()
    for result in results:
        mentions.update(result.details["mentions"])
    details = {
        "tagger": tagger,
        "vocabulary": vocabulary.name,
        "vocabulary_hash": vocabulary.hash,
        "mentions": dict(sorted(mentions.items())),
        "sources": {source_id(entry.name): entry.name for entry in inputs},
        "not_split": sum(not can_split(entry.name) for entry in inputs),
    }
    return work.finish(stage, plan, results, details=details, max_bad_fraction=config.max_bad_fraction)
