"""`vlmixer drop`: a result without some images and sentences, made from the result with them. No input is read.

regions/ and tagged/ are those of a run without them (docs/take-down.md says how far). bank/ and shards/ are made anew
where something before them changed. The new result is made next to the old one (pipeline/replacing).
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from vlmixer.artifacts import contents, dropped, files, manifest
from vlmixer.artifacts.details import AnyDetails, BankDetails, RegionsDetails, ShardsDetails
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import DETECT, INDEX, MIX, STAGES, TAG, StageType
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.config import BankSettings, Config, MixSettings
from vlmixer.pipeline.image.duplicates import DuplicateFiles
from vlmixer.pipeline.image.earlier import EarlierImages, RecordedSource
from vlmixer.pipeline.image.parts import FoundRegions, PartWriter, complete_regions
from vlmixer.pipeline.image.photos import Photo, PhotoReader
from vlmixer.pipeline.image.record import IMAGES, write_inputs
from vlmixer.pipeline.image.regions import Region
from vlmixer.pipeline.image.survey import DETECT_UNITS, SurveyRows, divide
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.duplicates import FindDuplicates, compared, group_units
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.finish import Finish, unfinished
from vlmixer.pipeline.jobs.index import run_index
from vlmixer.pipeline.jobs.mix import run_mix
from vlmixer.pipeline.replacing import next_result
from vlmixer.pipeline.replacing.finding import FoundImages, FoundSentences
from vlmixer.pipeline.replacing.images import RemainingInputs, remaining_inputs, without_names, write_survey
from vlmixer.pipeline.replacing.sentences import write_without
from vlmixer.pipeline.report.tagging import write_tagging_report
from vlmixer.pipeline.units.finishing import Finished, finish_stage, publish_known
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

ALL = 1.0
"""The share of bad images that may be among those that stay: taking others out is no reason to stop."""


def drop(
    config: Config, images: FoundImages, sentences: FoundSentences, engine: Engine, report: dict[str, Any]
) -> None:
    """Replace the result in `config.out` by one without these images and sentences. Raises UserError.

    report: what is to be said in the end, also by a command that only has to finish this one; an interrupted command
    with the same `report` continues. The folders that changed are added to it.
    """
    out = config.out
    vocabulary = load_vocabulary(config.vocabulary)
    finished = [stage for stage in STAGES if files.has_file(files.join(out, stage.folder, manifest.NAME))]
    changed: list[StageType[AnyDetails]] = []
    if sentences.ids:
        changed.append(TAG)
    if images.ids:
        changed.append(DETECT)
        if INDEX in finished:
            changed.append(INDEX)
    if MIX in finished:
        changed.append(MIX)
    made = next_result.begin(out, {"command": "drop", **report})
    dropped.publish(made, dropped.read(out).with_more(images.ids, sentences.names))
    for stage in finished:
        if stage not in changed:
            next_result.take_stage(out, stage)
    if TAG in changed:
        tagged = write_without(out, made, sentences)
        write_tagging_report(made, Finished.of(tagged), vocabulary.names)
    if DETECT in changed:
        _write_regions(config, made, images, engine)
    there = replace(config, out=made, max_bad_fraction=ALL)
    if INDEX in changed:
        _build_bank(out, there, vocabulary, engine)
    if MIX in changed:
        _mix(out, there, engine)
    kept = replace(config, images=replace(config.images, inputs=without_names(config.images.inputs, images)))
    files.publish_bytes(files.join(made, contents.CONFIG), kept.to_yaml().encode())
    report["changed"] = [stage.folder for stage in changed]
    next_result.publish(out, report)


def check_record(out: str) -> None:
    """Raises UserError if regions/ has no record of its images."""
    regions = files.join(out, DETECT.folder)
    if not files.has_file(files.join(regions, IMAGES)):
        raise UserError(
            f"{regions}: has no {IMAGES}, as an older version of this program wrote it. Remove the photos from "
            "images.inputs and run with --overwrite."
        )


@dataclass(frozen=True)
class KeepWorker:
    """Writes the parts of regions/ for images that an earlier run (regions: its folder) has recorded."""

    regions: str
    device: str
    inputs: RemainingInputs
    stage: Stage[RegionsDetails]

    def load(self) -> tuple[EarlierImages, DuplicateFiles]:
        return EarlierImages(self.regions), DuplicateFiles(self.stage.work)

    def run(
        self, unit: Unit[tuple[SurveyRows, ...]], resource: tuple[EarlierImages, DuplicateFiles]
    ) -> UnitResult[FoundRegions]:
        earlier, duplicates = resource
        reader = PhotoReader(self.stage.work, RecordedSource(earlier), duplicates.of)
        writer = PartWriter(self.stage, self.device, 0, earlier.feature_dim, _nothing_new, self.inputs.number)
        return writer.write(unit, reader, lambda: earlier.unmapped)


def _nothing_new(photos: Sequence[Photo], log: RejectLog) -> Iterator[tuple[Photo, list[Region]]]:
    raise RuntimeError(f"not in the record: {photos[0].ref.name}")


def _write_regions(config: Config, made: str, gone: FoundImages, engine: Engine) -> Finished[RegionsDetails]:
    """regions/ of the next result."""
    regions, stage = files.join(config.out, DETECT.folder), Stage(DETECT, made, config.rejects == "all")
    present = manifest.read(regions, DETECT)
    inputs = remaining_inputs(regions, gone)
    plan = Plan(present.settings or {}, inputs.entries, present.versions)
    finished = begin_stage(stage, plan, overwrite=False)
    if finished is not None:
        return Finished.of(finished)
    publish_known(stage, plan, present.details, outputs=[write_inputs(stage.folder, inputs.entries)])
    survey = write_survey(regions, stage.work, gone)
    units = [Unit(DETECT_UNITS.name(number), rows) for number, rows in enumerate(divide(survey))]
    names = [unit.name for unit in units]
    if not units:
        raise UserError(f"{regions}: no image would be left. Remove the folder {config.out} instead.")
    groups = group_units(DuplicateFiles(stage.work).begin(survey))
    if not compared(stage):
        engine.run(stage, groups, int, lambda groups: groups | "FindDuplicates" >> FindDuplicates(stage), label="drop")
    worker = KeepWorker(files.absolute(regions), present.details.detector.device, inputs, stage)
    with progress(stage, "drop: regions", names, "images"):
        left = pending(stage, units)
        if left or unfinished(stage):
            finish = Finish(stage, partial(complete_regions, stage, len(units)), len(left))
            engine.run(
                stage,
                left,
                tuple[SurveyRows, ...],
                lambda units: units | "KeepRegions" >> DoUnits(stage, worker) | "Finish" >> finish,
                label="drop",
            )
    return finish_stage(stage, max_bad_fraction=ALL)


def _build_bank(out: str, there: Config, vocabulary: Vocabulary, engine: Engine) -> Finished[BankDetails]:
    """bank/ of the next result, with the settings of the present one."""
    selection: dict[str, Any] = asdict(manifest.read(files.join(out, INDEX.folder), INDEX).details.selection)
    seed = selection.pop("seed")
    config = replace(there, seed=seed, bank=BankSettings(**selection))
    return run_index(config, vocabulary, engine, overwrite=False)


def _mix(out: str, there: Config, engine: Engine) -> Finished[ShardsDetails]:
    """shards/ of the next result, with the settings of the present ones."""
    present = manifest.read(files.join(out, MIX.folder), MIX).details
    config = replace(there, seed=present.seed, mix=MixSettings(**present.settings))
    return run_mix(config, engine, overwrite=False)
