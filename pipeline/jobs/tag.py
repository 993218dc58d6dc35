"""Stage `tag`: sentences → tagged/: Parquet parts and examples; and the stage's report.

Three passes, each resumable (`text.units` says what their units are): find the sentences that hold a word of the
vocabulary, mark duplicates among them, tag the rest. Sentences travel between passes in files (`text.candidates`), so
memory is bounded by a unit. What a pass does with a unit is in `text.passes`.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.details import TaggedDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.manifest import Output
from vlmixer.artifacts.stages import TAG
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import Config, TextSettings
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.last_pass import do_last_pass
from vlmixer.pipeline.report.tagging import write_tagging_report
from vlmixer.pipeline.text.bad_inputs import check_unreadable, has_sentence, why
from vlmixer.pipeline.text.inputs import files_that_cannot_be_split, find_inputs, log_set_aside
from vlmixer.pipeline.text.matching import Matcher
from vlmixer.pipeline.text.passes import (
    SIZES,
    DuplicatesWorker,
    FindWorker,
    TagWorker,
    complete_tagged,
)
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split
from vlmixer.pipeline.text.readers.reader import same_content
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.record import NOT_MEANT
from vlmixer.pipeline.text.tagger import (
    RULES,
    describe_model,
    language_of,
    load_spacy,
    make_matcher,
    resolve_model,
)
from vlmixer.pipeline.text.units import (
    Bucket,
    Candidates,
    FoundSentences,
    TagSizes,
    duplicates_units,
)
from vlmixer.pipeline.units.failures import any_failed
from vlmixer.pipeline.units.finishing import COMPLETE, Finished, completed, finish_stage, publish_known
from vlmixer.pipeline.units.inputs import InputFiles
from vlmixer.pipeline.units.plan import Plan, begin_stage, check_extendable, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import each_result
from vlmixer.pipeline.units.share import preparing
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit

if TYPE_CHECKING:
    from spacy.language import Language

LOG = logging.getLogger("vlmixer")


class ReadSentences(beam.PTransform):
    """PCollection[Unit] of all text slices → PCollection[str], the last units done. Keeps sentences that hold a word
    of the vocabulary, then marks the duplicates among them. finds: how many units there are."""

    def __init__(self, worker: FindWorker, finds: int) -> None:
        super().__init__()
        self._worker, self._finds = worker, finds

    def expand(self, slices: beam.PCollection) -> beam.PCollection:
        stage = self._worker.stage
        return (
            slices
            | "FindSentences" >> DoUnits(stage, self._worker)
            | "CountFinds" >> beam.combiners.Count.Globally()
            | "ListBuckets" >> beam.FlatMap(_bucket_units, stage, self._worker.buckets, self._finds)
            | "MarkDuplicates" >> DoUnits(stage, DuplicatesWorker(self._worker.buckets, stage))
        )


@no_annotations
def _bucket_units(done: int, stage: Stage[TaggedDetails], buckets: int, finds: int) -> list[Unit[Bucket]]:
    """Units of buckets, once all sentences are read. None if a unit failed."""
    return duplicates_units(buckets, finds) if done >= finds and not any_failed(stage) else []


class TagSentences(beam.PTransform):
    """PCollection[Unit[Candidates]] → PCollection[str], the units done. Writes OUT/tagged/part-*.parquet."""

    def __init__(
        self,
        settings: TextSettings,
        vocabulary: Vocabulary,
        matcher: Matcher,
        buckets: int,
        out: str,
        sizes: TagSizes = SIZES,
        *,
        list_all: bool = False,
        earlier: str = "",
    ) -> None:
        """list_all: see Stage. earlier: see TagWorker."""
        super().__init__()
        self._worker = TagWorker(settings, vocabulary, matcher, buckets, Stage(TAG, out, list_all), sizes, earlier)

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "TagUnits" >> DoUnits(self._worker.stage, self._worker)


def run_tag(
    config: Config,
    vocabulary: Vocabulary,
    engine: Engine,
    *,
    overwrite: bool,
    sizes: TagSizes = SIZES,
    earlier: str = "",
) -> Finished[TaggedDetails]:
    """Run the stage, or resume it. Raises UserError, CallError.

    earlier: tagged/ of an earlier run, whose results are taken over for sentences that are the same; "" without.
    """
    # The next result is made in OUT, whose own results are no inputs.
    out = files.parent(earlier) if earlier else config.out
    inputs, aside = find_inputs(config.text.inputs, out)
    log_set_aside(aside)
    # `auto` is resolved here, so that its warning is given once and not by every worker.
    text = replace(config.text, spacy_model=resolve_model(config.text.spacy_model))
    engine.import_packages(packages(text))
    nlp = load_spacy(text.spacy_model)
    tagger = describe_model(nlp)
    settings = asdict(replace(text, inputs=())) | {"spacy_model": tagger, "vocabulary": vocabulary.hash}
    settings["rejects"] = config.rejects
    plan = Plan(settings, files.NamesAndSizes(inputs), manifest.versions(packages(text)))
    stage = Stage(TAG, config.out, config.rejects == "all")
    if earlier:
        check_extendable(manifest.read(earlier, TAG), plan, earlier)
        earlier = earlier if files.has_file(files.join(earlier, NOT_MEANT)) else ""  # of an older version
    watched = InputFiles(
        files.FileStats.of(inputs), lambda: files.FileStats.of(find_inputs(config.text.inputs, out)[0]), same_content
    )
    job = _Job(config, text, vocabulary, nlp, stage, engine, sizes)
    with preparing(stage, engine.share):
        alone = engine.share is None
        before = begin_stage(stage, plan, overwrite=overwrite, inputs=watched, alone=alone)
        candidates = [] if before is not None else job.find(plan, watched.found)
    finished = job.tag(watched, candidates, earlier) if before is None else Finished.of(before)
    write_tagging_report(config.out, finished, vocabulary.names)
    return finished


def packages(settings: TextSettings) -> list[str]:
    """What the bytes of tagged/ depend on. spaCy is used by its pipelines, and to split running text."""
    uses_spacy = settings.spacy_model != RULES or settings.split == "sentences"
    return ["vlmixer", "pyarrow", "inflect", *(["spacy"] if uses_spacy else [])]


@dataclass(frozen=True)
class _Job:
    """The passes of the stage, or what is left of them."""

    config: Config
    text: TextSettings
    vocabulary: Vocabulary
    nlp: "Language | None"
    stage: Stage[TaggedDetails]
    engine: Engine
    sizes: TagSizes

    @cached_property
    def matcher(self) -> Matcher:
        """Made once and sent to the workers: deriving all forms of many words takes a second."""
        return make_matcher(self.vocabulary, self.text.stop_words, self.nlp)

    def find(self, plan: Plan, inputs: Sequence[FileStat]) -> list[int]:
        """Find the candidates, and the duplicates among them. Returns the number of candidates by unit."""
        stage, sizes = self.stage, self.sizes
        if said := files_that_cannot_be_split(inputs, sizes.find_bytes // 8):
            LOG.info("tag: %s", said)
        known = TaggedDetails(
            tagger=describe_model(self.nlp),
            vocabulary=self.vocabulary.name,
            vocabulary_hash=self.vocabulary.hash,
            mentions={},
            not_meant={},
            sources={source_id(entry.name): entry.name for entry in inputs},
            not_split=sum(not can_split(entry.name) for entry in inputs),
        )
        publish_known(stage, plan, known)
        buckets, units = sizes.buckets(inputs), sizes.find_units(inputs)
        names = [unit.name for unit in units]
        left = [*pending(stage, units), *pending(stage, duplicates_units(buckets, len(units)))]
        with progress(stage, "tag: read", names, "sentences"):
            if left:
                worker = FindWorker(self.text, self.matcher, language_of(self.nlp), buckets, stage, sizes)
                transform = ReadSentences(worker, len(units))
                self.engine.run(
                    stage,
                    units,
                    tuple[TextSlice, ...],
                    lambda slices: slices | "ReadSentences" >> transform,
                    label="tag: read",
                    processes=len(left),
                )
        candidates: list[int] = []
        lost, in_files = 0, list[Output]()
        for result in each_result(stage, names, FoundSentences):
            candidates.append(result.details.candidates)
            if result.details.unreadable_bytes:
                lost += result.details.unreadable_bytes
                in_files += result.rejects
        total = sum(entry.size for entry in inputs)
        check_unreadable(stage, lost, in_files, total, self.config.max_bad_fraction)
        return candidates

    def tag(self, watched: InputFiles, candidates: Sequence[int], earlier: str) -> Finished[TaggedDetails]:
        """Tag the candidates, and finish the stage. Raises ShareDone."""
        config, stage = self.config, self.stage
        parts = self.sizes.part_units(candidates)
        transform = TagSentences(
            self.text,
            self.vocabulary,
            self.matcher,
            self.sizes.buckets(watched.found),
            config.out,
            self.sizes,
            list_all=stage.list_all,
            earlier=earlier,
        )
        complete = partial(complete_tagged, stage, len(candidates), len(parts))
        do_last_pass(
            stage, self.engine, parts, Candidates, "TagSentences" >> transform, complete, items="sentences"
        )  # fmt: skip
        if not has_sentence(completed(stage).counts["sentences"]):
            rejects = manifest.read(files.join(stage.work, COMPLETE), TAG).rejects
            raise UserError("text.inputs: the files hold no sentence at all.", *why(stage, rejects))
        watched.finish(stage)
        return finish_stage(stage, max_bad_fraction=config.max_bad_fraction)
