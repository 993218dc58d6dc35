"""Stage `detect`: images → regions/, a Parquet part a unit of images.

Units take the images in the order of a stable hash of their names, so that every part is a fair sample of them.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from artifacts import files, manifest, schemas
from artifacts.errors import CallError, UserError
from artifacts.files import FileStat
from artifacts.manifest import Counts, Input, Manifest
from artifacts.rejects import RejectLog
from artifacts.rng import stable_hash, stable_id
from bank.concepts import PLACEHOLDERS, Vocabulary
from pipeline.config import Config, ImageSettings
from pipeline.image.decoding import ImageRejected, crop_jpeg, decode
from pipeline.image.detectors.base import Detections, Detector
from pipeline.image.detectors.loading import (
    DetectorSpec,
    describe_detector,
    load_detector,
    resolve_device,
)
from pipeline.image.regions import BadFeature, Region, choose_regions
from pipeline.jobs import work
from pipeline.jobs.engine import DoUnits, Engine, progress
from pipeline.jobs.work import Plan, Stage, Unit, UnitResult

LOG = logging.getLogger("vlmixer")

IMAGES_A_UNIT = 64
IMAGES_A_BATCH = 8
LABELS_SAID = 10
PACKAGES = ("vlmixer", "numpy", "pillow", "pyarrow", "torch", "torchvision", "onnxruntime")


class DetectRegions(beam.PTransform):
    """PCollection[Unit of image names] → PCollection[str] of the units done; writes OUT/regions/part-*.parquet."""

    def __init__(self, settings: ImageSettings, detector: DetectorSpec, vocabulary: Vocabulary, out: str) -> None:
        super().__init__()
        self._worker = DetectWorker(settings, detector, vocabulary, Stage("detect", out))

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "DetectUnits" >> DoUnits(self._worker.stage, self._worker)


@dataclass(frozen=True)
class Photo:
    """A decoded image. pixels: (height, width, 3) uint8, upright RGB."""

    source: str
    pixels: np.ndarray

    @property
    def image_id(self) -> str:
        """Names the image in all that follows: sixteen hexadecimal digits of its source's hash."""
        return stable_id("image", self.source)


@dataclass(frozen=True)
class LoadedDetector:
    """A detector and, for each of its labels, the concept (None: not in the vocabulary)."""

    detector: Detector
    concepts: tuple[str | None, ...]


def load_with_concepts(spec: DetectorSpec, vocabulary: Vocabulary) -> LoadedDetector:
    """The detector, its labels mapped. Raises UserError if the vocabulary knows none of them."""
    detector = load_detector(spec)
    ids = vocabulary.map_labels(list(detector.labels))
    if all(concept is None for concept in ids):
        first = ", ".join(list(detector.labels)[:5])
        raise UserError(
            f"images.detector: none of the {len(ids)} labels of {spec.name} ({first}, …) is a concept of "
            f"vocabulary {vocabulary.name}. Choose a vocabulary that has the detector's classes."
        )
    return LoadedDetector(detector, tuple(None if number is None else vocabulary.names[number] for number in ids))


@dataclass(frozen=True)
class DetectWorker:
    """Detects the regions of a unit's images."""

    settings: ImageSettings
    detector: DetectorSpec
    vocabulary: Vocabulary
    stage: Stage

    def load(self) -> LoadedDetector:
        return load_with_concepts(self.detector, self.vocabulary)

    def run(self, unit: Unit, resource: LoadedDetector) -> UnitResult:
        log = RejectLog("detect")
        digest = hashlib.sha256()
        total_bytes = images = regions = 0
        concepts: Counter[str] = Counter()
        schema = schemas.regions(resource.detector.feature_dim)
        name = f"{unit.name}.parquet"

        def readable() -> Iterator[Photo]:
            nonlocal total_bytes
            for source in unit.content:
                data = read_image_bytes(source, log)
                digest.update(f"{source}\0{hashlib.sha256(data or b'').hexdigest()}\n".encode())
                total_bytes += len(data or b"")
                if data is not None:
                    yield from decoded(source, data, self.settings.max_megapixels * 1e6, log)

        with schemas.writing_parquet(files.join(self.stage.folder, name), schema) as writer:
            for batch in in_batches(readable(), IMAGES_A_BATCH):
                rows: list[tuple[Photo, int, Region]] = []
                for photo, found in detect_batch(resource, batch, self.settings, log):
                    if not found:
                        log.add(photo.source, "", "no_region")
                        continue
                    images += 1
                    regions += len(found)
                    concepts.update(region.concept for region in found)
                    rows += [(photo, number, region) for number, region in enumerate(found)]
                if rows:
                    writer.write_table(regions_table(rows, schema, self.settings.crop_size))
        return UnitResult(
            counts={"images": Counts(len(unit.content), images, log.counts())},
            inputs=(Input(f"{len(unit.content)} images of {unit.name}", total_bytes, digest.hexdigest()),),
            outputs=(manifest.describe(self.stage.folder, name, regions),),
            rejects=self.stage.publish_rejects(unit.name, log),
            details={
                "images": images,
                "concepts": dict(sorted(concepts.items())),
                "feature_dim": resource.detector.feature_dim,
                "unmapped": [
                    label
                    for label, concept in zip(resource.detector.labels, resource.concepts, strict=True)
                    if concept is None
                ],
            },
        )


def read_image_bytes(source: str, log: RejectLog) -> bytes | None:
    """The file's bytes; None, and a reject, where it cannot be read."""
    try:
        return files.read_bytes(source)
    except OSError as error:
        log.add(source, "", "unreadable_file", f"{type(error).__name__}: {error.strerror or error}")
        return None


def decoded(source: str, data: bytes, max_pixels: float, log: RejectLog) -> Iterator[Photo]:
    """The decoded image, or none and a reject."""
    try:
        yield Photo(source, decode(data, max_pixels=max_pixels))
    except ImageRejected as rejected:
        log.add(source, "", rejected.reason, rejected.detail)


def in_batches(photos: Iterator[Photo], size: int) -> Iterator[list[Photo]]:
    """Lists of `size` photos; the last one may be shorter."""
    batch: list[Photo] = []
    for photo in photos:
        batch.append(photo)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def detect_batch(
    loaded: LoadedDetector, photos: Sequence[Photo], settings: ImageSettings, log: RejectLog
) -> Iterator[tuple[Photo, list[Region]]]:
    """Each photo with its regions, in order; photos that the detector cannot take are rejected one by one."""
    for photo, detections in zip(photos, _detect(loaded.detector, photos, log), strict=True):
        if detections is None:
            continue
        check_detections(detections, loaded)
        height, width = photo.pixels.shape[:2]
        try:
            found = choose_regions(
                detections,
                loaded.concepts,
                width=width,
                height=height,
                score_threshold=settings.score_threshold,
                max_regions=settings.max_regions,
            )
        except BadFeature as error:
            log.add(photo.source, "", "bad_feature", str(error))
            continue
        yield photo, found


def _detect(detector: Detector, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
    try:
        return list(detector.detect([photo.pixels for photo in photos]))
    except Exception as error:  # A detector is anybody's code; what it raises for one image must not cost the others.
        if len(photos) == 1:
            log.add(photos[0].source, "", "failed_in_detector", f"{type(error).__name__}: {error}")
            return [None]
        return [result for photo in photos for result in _detect(detector, [photo], log)]


def check_detections(found: Detections, loaded: LoadedDetector) -> None:
    """Raises UserError where a detector breaks the protocol: shapes that do not belong together, unknown labels."""
    count = len(found.scores)
    dim = loaded.detector.feature_dim
    shapes = (found.boxes.shape, found.scores.shape, found.labels.shape, found.features.shape)
    expected = ((count, 4), (count,), (count,), (count, dim))
    if shapes != expected:
        raise UserError(
            f"images.detector: {type(loaded.detector).__name__}.detect gave boxes, scores, labels, features of shapes "
            f"{shapes}, expected {expected}. See the Detector protocol in pipeline/image/detectors/base.py."
        )
    if count and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < len(loaded.concepts):
        raise UserError(
            f"images.detector: {type(loaded.detector).__name__}.detect gave a label outside 0 … "
            f"{len(loaded.concepts) - 1}; labels are indices into the detector's `labels`."
        )


def regions_table(rows: Sequence[tuple[Photo, int, Region]], schema: pa.Schema, crop_size: int) -> pa.Table:
    """A table of regions/ for (photo, number of the region in it, region)."""
    dim = schema.field("feature").type.list_size
    features = np.stack([region.feature for _, _, region in rows])
    boxes = np.stack([region.box for _, _, region in rows])
    columns: dict[str, Any] = {
        "image_id": [photo.image_id for photo, _, _ in rows],
        "patch_id": [f"{photo.image_id}-{number:03d}" for photo, number, _ in rows],
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), 4),
        "concept": [region.concept for _, _, region in rows],
        "score": [region.score for _, _, region in rows],
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), dim),
        "crop": [crop_jpeg(photo.pixels, region.box, crop_size) for photo, _, region in rows],
        "width": [photo.pixels.shape[1] for photo, _, _ in rows],
        "height": [photo.pixels.shape[0] for photo, _, _ in rows],
        "source": [photo.source for photo, _, _ in rows],
    }
    return pa.table(columns, schema=schema)


def plan_units(inputs: Sequence[FileStat]) -> list[Unit]:
    """Units of images in hash order."""
    names = sorted((entry.name for entry in inputs), key=lambda name: (stable_hash("image", name), name))
    return [
        Unit(f"part-{start // IMAGES_A_UNIT:05d}", tuple(names[start : start + IMAGES_A_UNIT]))
        for start in range(0, len(names), IMAGES_A_UNIT)
    ]


def detector_spec(settings: ImageSettings, import_paths: Sequence[str]) -> DetectorSpec:
    """The config's detector as plain data. Raises CallError if its weights are missing or its device is."""
    weights = None if settings.weights == "default" else settings.weights
    looks_like_file = weights is not None and ("/" in weights or "." in weights)
    if weights is not None and looks_like_file and not files.exists(weights):
        raise CallError(f"images.weights: no such file: {weights}. Give a file, or 'default'.")
    return DetectorSpec(
        settings.detector,
        weights,
        resolve_device(settings.device),
        settings.score_threshold,
        settings.detector_options,
        tuple(import_paths),
    )


def report_unmapped(labels: Sequence[str], vocabulary: Vocabulary, stage: Stage) -> None:
    """Say which of the detector's labels are no concept, the placeholders of unused label numbers left aside."""
    names = [label for label in labels if label not in PLACEHOLDERS]
    if names:
        more = f" and {len(names) - LABELS_SAID} more" if len(names) > LABELS_SAID else ""
        LOG.warning(
            "detect: %d of the detector's labels are no concepts of vocabulary %s, their regions are not kept: %s%s. "
            "All are in %s (labels_not_in_vocabulary).",
            len(names),
            vocabulary.name,
            ", ".join(names[:LABELS_SAID]),
            more,
            files.join(stage.folder, manifest.NAME),
        )


def run_detect(
    config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool, import_paths: Sequence[str]
) -> Manifest:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    if not config.images.inputs:
        raise CallError("images.inputs: empty; expected files, folders or globs with images.")
    inputs = files.expand(config.images.inputs, key="images.inputs")
    spec = detector_spec(config.images, import_paths)
    described = describe_detector(spec)
    settings = asdict(replace(config.images, inputs=(), weights="", detector_options={})) | {
        "detector": described,
        "vocabulary": vocabulary.hash,
    }
    plan = Plan(settings, [asdict(entry) for entry in inputs], manifest.versions(PACKAGES))
    stage = Stage("detect", config.out)
    finished = work.begin(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    units = plan_units(inputs)
    left = work.pending(stage, units)
    with progress(stage, "detect", [unit.name for unit in units], "images"):
        if left:
            transform = DetectRegions(config.images, spec, vocabulary, config.out)
            engine.run(
                stage,
                lambda pipeline: pipeline | "ListUnits" >> beam.Create(left) | "DetectRegions" >> transform,
                len(left),
            )
    results = [work.read_result(stage, unit.name) for unit in units]
    concepts: Counter[str] = Counter()
    for result in results:
        concepts.update(result.details["concepts"])
    unmapped = results[0].details["unmapped"]
    report_unmapped(unmapped, vocabulary, stage)
    details = {
        "detector": described,
        "feature_dim": results[0].details["feature_dim"],
        "vocabulary": vocabulary.name,
        "vocabulary_hash": vocabulary.hash,
        "regions": dict(sorted(concepts.items())),
        "labels_not_in_vocabulary": unmapped,
        "images_by_part": [result.details["images"] for result in results],
    }
    return work.finish(stage, plan, results, details=details, max_bad_fraction=config.max_bad_fraction)
