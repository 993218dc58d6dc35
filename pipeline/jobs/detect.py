"""Stage `detect`: images → regions/, one Parquet part per unit of images. pipeline/jobs/survey.py finds the images and
makes the units; what happens to an image is in pipeline/image."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import islice

import apache_beam as beam

from vlmixer.artifacts import dropped, files, manifest
from vlmixer.artifacts.details import RegionsDetails, to_json
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.concepts import PLACEHOLDERS, Vocabulary
from vlmixer.pipeline.config import MACHINES, Config, ImageSettings, fetch_policy
from vlmixer.pipeline.image.boxes.index import INDEX
from vlmixer.pipeline.image.decoding import decoders
from vlmixer.pipeline.image.detection import RegionFinder, detect_batch, load_finder
from vlmixer.pipeline.image.detectors.choosing import PHOTOS as TRIED_PHOTOS
from vlmixer.pipeline.image.detectors.choosing import as_recorded, choose
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import (
    BOXES,
    FLOAT32,
    TSV,
    DetectorSpec,
    detector_spec,
    in_precision,
    is_open,
    load_detector,
    packages_of,
)
from vlmixer.pipeline.image.duplicates import DuplicateFiles
from vlmixer.pipeline.image.earlier import EarlierImages, KnownSource
from vlmixer.pipeline.image.inputs import plan_inputs
from vlmixer.pipeline.image.known_inputs import same_content
from vlmixer.pipeline.image.parts import FoundRegions, PartWriter, complete_regions
from vlmixer.pipeline.image.photos import ImageSource, Photo, PhotoReader, max_file_bytes
from vlmixer.pipeline.image.readers.base import ImageCorpus
from vlmixer.pipeline.image.readers.corpus import sample
from vlmixer.pipeline.image.record import IMAGES, write_inputs
from vlmixer.pipeline.image.recorded_inputs import RecordedContents
from vlmixer.pipeline.image.regions import Region
from vlmixer.pipeline.image.survey import PREPARATION, SurveyRows
from vlmixer.pipeline.jobs.boxes import NO_BOXES, find_boxes
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.last_pass import do_last_pass
from vlmixer.pipeline.jobs.survey import survey_images, surveyed_files
from vlmixer.pipeline.units.finishing import Finished, completed, finish_stage, publish_known
from vlmixer.pipeline.units.inputs import InputFiles
from vlmixer.pipeline.units.plan import Plan, begin_stage, check_extendable, recorded_settings
from vlmixer.pipeline.units.share import preparing
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

LOG = logging.getLogger("vlmixer")

MAX_LABELS_NAMED = 10
MAX_FILES_NAMED = 3
PHOTOS = "photos.map"
"""JSON in the work folder: the photos that may belong to region features, by id."""
PACKAGES = ("vlmixer", "numpy", "pyarrow")
"""What the bytes of regions/ depend on, besides the detector's own packages. Pillow decodes images and writes crops."""


class DetectRegions(beam.PTransform):
    """PCollection[Unit of SurveyRows] → PCollection[str] of the units done; writes OUT/regions/part-*.parquet."""

    def __init__(
        self,
        settings: ImageSettings,
        detector: DetectorSpec,
        vocabulary: Vocabulary,
        out: str,
        hints: Mapping[str, str] | None = None,
        *,
        list_all: bool = False,
        earlier: str = "",
    ) -> None:
        """hints: Beam's resource hints for the step that runs the detector. list_all: see Stage. earlier: see
        DetectWorker."""
        super().__init__()
        self._worker = DetectWorker(settings, detector, vocabulary, Stage(DETECT, out, list_all), earlier)
        self._hints = hints

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "DetectUnits" >> DoUnits(self._worker.stage, self._worker, self._hints)


@dataclass(frozen=True)
class DetectWorker:
    """Detects the regions of a unit's images. earlier: regions/ of a run whose results are taken over for images that
    are the same, "" without."""

    settings: ImageSettings
    detector: DetectorSpec
    vocabulary: Vocabulary
    stage: Stage[RegionsDetails]
    earlier: str = ""

    def load(self) -> "_Loaded":
        return _Loaded(self)

    def run(self, unit: Unit[tuple[SurveyRows, ...]], resource: "_Loaded") -> UnitResult[FoundRegions]:
        reader = PhotoReader(self.stage.work, resource.source, resource.duplicates.of)
        return resource.writer.write(unit, reader, lambda: resource.unmapped(reader.class_names))


class _Loaded:
    """What a worker process holds: the region finder, loaded at the first photo that needs it if there are earlier
    results, and these."""

    def __init__(self, worker: DetectWorker) -> None:
        self._worker = worker
        self.duplicates = DuplicateFiles(worker.stage.work)
        self._earlier = EarlierImages(worker.earlier) if worker.earlier else None
        settings = worker.settings
        dim = self.finder.feature_dim if self._earlier is None else self._earlier.feature_dim
        self.source = (
            KnownSource(self._earlier, settings.max_megapixels * 1e6, fetch_policy(settings))
            if self._earlier
            else self.finder.source(settings)
        )
        self.writer = PartWriter(worker.stage, worker.detector.device, settings.crop_size, dim, self._find)

    @cached_property
    def finder(self) -> RegionFinder:
        index = files.join(self._worker.stage.work, INDEX)
        return load_finder(self._worker.detector, self._worker.vocabulary, index)

    def _find(self, photos: Sequence[Photo], log: RejectLog) -> Iterator[tuple[Photo, list[Region]]]:
        return detect_batch(self.finder, photos, self._worker.settings, log)

    def unmapped(self, class_names: set[str]) -> Sequence[str]:
        """The labels without a concept. class_names: those met in known regions."""
        return self.finder.unmapped(class_names) if self._earlier is None else self._earlier.unmapped


def run_detect(
    config: Config,
    vocabulary: Vocabulary,
    engine: Engine,
    *,
    overwrite: bool,
    import_paths: Sequence[str],
    earlier: str = "",
) -> Finished[RegionsDetails]:
    """Run the stage, or resume it. Raises UserError, CallError.

    earlier: regions/ of an earlier run, whose results are taken over for images that are the same; "" without.
    """
    stage = Stage(DETECT, config.out, config.rejects == "all")
    spec = detector_spec(config.images, import_paths, remote=engine.remote)
    packages = packages_of(spec.name, spec.features)
    engine.import_packages(packages)

    # The next result is made in OUT, whose own results are no inputs.
    out = files.parent(earlier) if earlier else config.out

    def look() -> tuple[ImageCorpus, dict[str, list[str]] | None]:
        return plan_inputs(spec, config.images.inputs, files.join(stage.work, PHOTOS), dropped.read(config.out), out)

    corpus, photos = look()
    without, limit = dropped.read(config.out), max_file_bytes(config.images.max_megapixels * 1e6)
    recorded = RecordedContents(stage.folder, corpus, without, limit, fetch_policy(config.images))
    watched = InputFiles(
        corpus.inputs, lambda: look()[0].inputs, lambda _, known: same_content(corpus, known, recorded)
    )
    with preparing(stage, engine.share):
        spec = _in_chosen_precision(spec, config, vocabulary, stage, corpus, overwrite=overwrite, earlier=earlier)
        identity = describe_detector(spec)
        settings = asdict(replace(config.images, inputs=(), weights="", detector_options={})) | {
            "detector": to_json(identity),
            "vocabulary": vocabulary.hash,
            "rejects": config.rejects,
        }
        own = {*MACHINES, "features", "feature_options", "precision"}  # the detector's identity has these
        settings = {name: value for name, value in settings.items() if name not in own}
        versions = manifest.versions([*PACKAGES, *decoders(), *packages])
        plan = Plan(settings, files.NamesAndSizes(corpus.inputs), versions)
        if earlier:
            check_extendable(manifest.read(earlier, DETECT), plan, earlier)
            # Region features are read in a moment; taking them over would cost as much.
            earlier = "" if spec.name.startswith(TSV) else _with_record(earlier)
        known = RegionsDetails(
            detector=identity,
            feature_dim=0,
            vocabulary=vocabulary.name,
            vocabulary_hash=vocabulary.hash,
            regions={},
            labels_not_in_vocabulary=(),
            images_by_part=(),
            not_images=len(corpus.set_aside),
        )
        finished = begin_stage(
            stage, plan, overwrite=overwrite, preparation=PREPARATION, inputs=watched, alone=engine.share is None
        )  # fmt: skip
        if finished is not None:
            return Finished.of(finished)
        report_set_aside(corpus.set_aside)
        if photos is not None:
            files.publish_bytes(files.join(stage.work, PHOTOS), manifest.canonical(photos))
        units = survey_images(corpus.pieces, stage, engine, config.images)
        boxes = find_boxes(config, spec, stage, len(corpus.pieces)) if spec.name.startswith(BOXES) else NO_BOXES
        publish_known(
            stage, plan, known, outputs=[write_inputs(stage.folder, plan.inputs)],
            rejects=boxes.rejects, counts=boxes.counts,
        )  # fmt: skip
    hints = machine_hints(config.images) if engine.remote else None
    do_last_pass(
        stage,
        engine,
        units,
        tuple[SurveyRows, ...],
        "DetectRegions"
        >> DetectRegions(config.images, spec, vocabulary, config.out, hints, list_all=stage.list_all, earlier=earlier),
        partial(complete_regions, stage, len(units)),
        items="images",
    )
    labels = completed(stage).details.labels_not_in_vocabulary
    watched.finish(stage, surveyed_files(stage, corpus, contents=config.images.drop_duplicates))
    report_unmapped(labels, vocabulary, stage)
    return finish_stage(stage, max_bad_fraction=config.max_bad_fraction)


def _in_chosen_precision(
    spec: DetectorSpec,
    config: Config,
    vocabulary: Vocabulary,
    stage: Stage[RegionsDetails],
    corpus: ImageCorpus,
    *,
    overwrite: bool,
    earlier: str,
) -> DetectorSpec:
    """The detector in the format that was chosen when the stage, or the earlier run, began; or that is chosen now."""
    if not is_open(spec):
        return spec
    settings = manifest.read(earlier, DETECT).settings if earlier else None
    if settings is None and not overwrite:
        settings = recorded_settings(stage)
    settled = as_recorded(spec, (settings or {}).get("detector"))
    if settled is not None:
        return settled
    if spec.device != "cpu":
        LOG.info("detect: images.precision: auto is float32 on an accelerator and on other machines")
        return in_precision(spec, FLOAT32)
    source = ImageSource(config.images.max_megapixels * 1e6, fetch_policy(config.images))
    read = source.photos(sample(corpus, 2 * TRIED_PHOTOS, max_pieces=4).refs)
    photos = list(islice((photo for _, photo in read if isinstance(photo, Photo)), TRIED_PHOTOS))
    choice = choose(
        lambda precision: load_detector(in_precision(spec, precision), vocabulary.concepts),
        photos,
        config.images.score_threshold,
    )
    LOG.info("detect: images.precision: auto is %s", choice)
    return in_precision(spec, choice.precision)


def _with_record(folder: str) -> str:
    """The folder. Raises UserError if it has no record of its images."""
    if not files.has_file(files.join(folder, IMAGES)):
        raise UserError(
            f"{folder}: has no {IMAGES}, as an older version of this program wrote it. Run detect with --overwrite."
        )
    return folder


def machine_hints(settings: ImageSettings) -> dict[str, str]:
    """Beam's resource hints for the step that runs the detector: an accelerator if it is to run on one, and memory."""
    hints = {}
    if settings.device == "cuda" and settings.worker_accelerator:
        hints["accelerator"] = settings.worker_accelerator
    if settings.worker_ram:
        hints["min_ram"] = settings.worker_ram
    return hints


def report_set_aside(names: Sequence[str]) -> None:
    """Log how many input files are not images and not meant to be."""
    if names:
        LOG.info(
            "detect: %d files among the inputs are not images and are set aside: %s%s",
            len(names),
            ", ".join(names[:MAX_FILES_NAMED]),
            ", …" if len(names) > MAX_FILES_NAMED else "",
        )


def report_unmapped(labels: Sequence[str], vocabulary: Vocabulary, stage: Stage[RegionsDetails]) -> None:
    """Log the detector's labels that are not concepts. Placeholders of unused label numbers are left out."""
    names = [label for label in labels if label not in PLACEHOLDERS]
    if names:
        more = f" and {len(names) - MAX_LABELS_NAMED} more" if len(names) > MAX_LABELS_NAMED else ""
        LOG.warning(
            "detect: vocabulary %s has no concept for %d of the detector's labels, whose regions are dropped: %s%s. "
            "See labels_not_in_vocabulary in %s for all of them.",
            vocabulary.name,
            len(names),
            ", ".join(names[:MAX_LABELS_NAMED]),
            more,
            files.join(stage.folder, manifest.NAME),
        )
