"""Stage `detect`: images → regions/, one Parquet part per unit of images. pipeline/jobs/survey.py finds the images and
makes the units; what happens to an image is in pipeline/image."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import apache_beam as beam

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import RegionsDetails, to_json
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.concepts import PLACEHOLDERS, Vocabulary
from vlmixer.pipeline.config import MACHINES, Config, ImageSettings
from vlmixer.pipeline.image.decoding import decoders
from vlmixer.pipeline.image.detection import RegionFinder, detect_batch, load_finder
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, describe_detector, detector_spec, packages_of
from vlmixer.pipeline.image.inputs import plan_inputs
from vlmixer.pipeline.image.photos import Photo, PhotoReader, in_batches
from vlmixer.pipeline.image.regions import Region
from vlmixer.pipeline.image.regions_table import regions_table
from vlmixer.pipeline.image.survey import SurveyRows
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.survey import survey_images
from vlmixer.pipeline.units.finishing import finish_stage
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

LOG = logging.getLogger("vlmixer")

IMAGES_PER_BATCH = {"cpu": 8, "cuda": 32}
"""By device. An accelerator works faster on more images at a time; a CPU does not."""
IMAGES_PER_ROW_GROUP = 8
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
    ) -> None:
        """hints: Beam's resource hints for the step that runs the detector. list_all: see Stage."""
        super().__init__()
        self._worker = DetectWorker(settings, detector, vocabulary, Stage(DETECT, out, list_all))
        self._hints = hints

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "DetectUnits" >> DoUnits(self._worker.stage, self._worker, self._hints)


@dataclass(frozen=True)
class FoundRegions:
    """What a unit found: images with regions, regions by concept, width of the features, labels without a concept."""

    images: int
    concepts: dict[str, int]
    feature_dim: int
    unmapped: tuple[str, ...]


@dataclass(frozen=True)
class DetectWorker:
    """Detects the regions of a unit's images."""

    settings: ImageSettings
    detector: DetectorSpec
    vocabulary: Vocabulary
    stage: Stage[RegionsDetails]

    def load(self) -> RegionFinder:
        return load_finder(self.detector, self.vocabulary)

    def run(self, unit: Unit[tuple[SurveyRows, ...]], resource: RegionFinder) -> UnitResult[FoundRegions]:
        images = regions = 0
        concepts: Counter[str] = Counter()
        schema = schemas.regions(resource.feature_dim)
        name = f"{unit.name}.parquet"
        with (
            self.stage.reject_file(unit.name) as log,
            schemas.writing_parquet(files.join(self.stage.folder, name), schema) as writer,
        ):
            reader = PhotoReader(self.stage.work, resource.source(self.settings), log)
            photos = reader.photos(unit.content, decode_ahead=self.detector.device == "cuda")
            for batch in in_batches(photos, IMAGES_PER_BATCH[self.detector.device]):
                kept: list[tuple[Photo, list[Region]]] = []
                for photo, found in detect_batch(resource, batch, self.settings, log):
                    if not found:
                        log.add(photo.ref.source, photo.ref.key, "no_region")
                        continue
                    images += 1
                    regions += len(found)
                    concepts.update(region.concept for region in found)
                    kept.append((photo, found))
                for start in range(0, len(kept), IMAGES_PER_ROW_GROUP):
                    group = kept[start : start + IMAGES_PER_ROW_GROUP]
                    writer.write_table(regions_table(group, schema, self.settings.crop_size))
        return UnitResult(
            counts={"images": Counts(reader.read, images, log.counts())},
            inputs=(Input(f"{reader.read} images of {unit.name}", reader.bytes, reader.sha256),),
            outputs=(manifest.output_of(self.stage.folder, name, regions),),
            rejects=self.stage.listed(log),
            details=FoundRegions(
                images=images,
                concepts=dict(sorted(concepts.items())),
                feature_dim=resource.feature_dim,
                unmapped=tuple(resource.unmapped(reader.class_names)),
            ),
        )


def run_detect(
    config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool, import_paths: Sequence[str]
) -> Manifest[RegionsDetails]:
    """Run the stage, or resume it. Raises UserError, CallError."""
    stage = Stage(DETECT, config.out, config.rejects == "all")
    spec = detector_spec(config.images, import_paths, remote=engine.remote)
    corpus, photos = plan_inputs(spec, config.images.inputs, files.join(stage.work, PHOTOS))
    identity = describe_detector(spec)
    settings = asdict(replace(config.images, inputs=(), weights="", detector_options={})) | {
        "detector": to_json(identity),
        "vocabulary": vocabulary.hash,
        "rejects": config.rejects,
    }
    settings = {name: value for name, value in settings.items() if name not in MACHINES}
    versions = manifest.versions([*PACKAGES, *decoders(), *packages_of(spec)])
    plan = Plan(settings, [asdict(entry) for entry in corpus.inputs], versions)
    finished = begin_stage(stage, plan, overwrite=overwrite, preparation="survey")
    if finished is not None:
        return finished
    report_set_aside(corpus.set_aside)
    if photos is not None:
        files.publish_bytes(files.join(stage.work, PHOTOS), manifest.canonical(photos))
    units = survey_images(corpus.pieces, stage, engine, config.images)
    left = pending(stage, units)
    with progress(stage, "detect", [unit.name for unit in units], "images"):
        if left:
            hints = machine_hints(config.images) if engine.remote else None
            transform = DetectRegions(config.images, spec, vocabulary, config.out, hints, list_all=stage.list_all)
            engine.run(
                stage, left, tuple[SurveyRows, ...], lambda units: units | "DetectRegions" >> transform, label="detect"
            )
    results = read_results(stage, [unit.name for unit in units], FoundRegions)
    concepts: Counter[str] = Counter()
    for result in results:
        concepts.update(result.details.concepts)
    unmapped = list(dict.fromkeys(label for result in results for label in result.details.unmapped))
    report_unmapped(unmapped, vocabulary, stage)
    details = RegionsDetails(
        detector=identity,
        feature_dim=results[0].details.feature_dim,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        regions=dict(sorted(concepts.items())),
        labels_not_in_vocabulary=tuple(unmapped),
        images_by_part=tuple(result.details.images for result in results),
        not_images=len(corpus.set_aside),
    )
    return finish_stage(stage, plan, results, details=details, max_bad_fraction=config.max_bad_fraction)


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
