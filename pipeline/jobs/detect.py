"""Stage `detect`: images → regions/, a Parquet part a unit of images. pipeline/jobs/survey.py finds the images and
makes the units."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.details import RegionsDetails, to_json
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.manifest import Counts, Input, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.stages import DETECT
from vlmixer.bank.concepts import PLACEHOLDERS, Vocabulary
from vlmixer.pipeline.config import MACHINES, Config, ImageSettings
from vlmixer.pipeline.image.decoding import ImageRejected, crop_jpeg, decode, grey_jpeg
from vlmixer.pipeline.image.detectors.base import Detections, Detector
from vlmixer.pipeline.image.detectors.loading import (
    TSV,
    DetectorSpec,
    describe_detector,
    load_detector,
    resolve_device,
)
from vlmixer.pipeline.image.known_regions import FeatureLines, KnownRegions
from vlmixer.pipeline.image.readers.base import ImageCorpus, ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import plan as plan_corpus
from vlmixer.pipeline.image.readers.corpus import read_images
from vlmixer.pipeline.image.readers.features import MAX_LINE_BYTES, photos_by_id, plan_features
from vlmixer.pipeline.image.regions import BadFeature, Region, RegionChoice, choose_regions
from vlmixer.pipeline.jobs.do_units import DoUnits
from vlmixer.pipeline.jobs.engine import Engine
from vlmixer.pipeline.jobs.survey import PHOTOS, Run, read_run, survey_images
from vlmixer.pipeline.units.finishing import finish_stage
from vlmixer.pipeline.units.plan import Plan, begin_stage, pending
from vlmixer.pipeline.units.progress import progress
from vlmixer.pipeline.units.results import read_results
from vlmixer.pipeline.units.stage import Stage
from vlmixer.pipeline.units.unit import Unit, UnitResult

LOG = logging.getLogger("vlmixer")

IMAGES_A_BATCH, IMAGES_ON_CUDA = 8, 32
"""An accelerator works faster on more images at a time; a CPU does not."""
PIXELS_A_BATCH = 32e6
"""A batch that holds as many is full."""
IMAGES_A_ROW_GROUP = 8
PHOTOS_AHEAD = IMAGES_ON_CUDA
"""So many are decoded beside an accelerator's work."""
LABELS_SAID = 10
PACKAGES = ("vlmixer", "numpy", "pillow", "pyarrow", "torch", "torchvision", "onnxruntime")


class DetectRegions(beam.PTransform):
    """PCollection[Unit of Runs] → PCollection[str] of the units done; writes OUT/regions/part-*.parquet."""

    def __init__(
        self,
        settings: ImageSettings,
        detector: DetectorSpec,
        vocabulary: Vocabulary,
        out: str,
        hints: Mapping[str, str] | None = None,
    ) -> None:
        """hints: Beam's resource hints for the step that runs the detector."""
        super().__init__()
        self._worker = DetectWorker(settings, detector, vocabulary, Stage(DETECT, out))
        self._hints = hints

    def expand(self, units: beam.PCollection) -> beam.PCollection:
        return units | "DetectUnits" >> DoUnits(self._worker.stage, self._worker, self._hints)


@dataclass(frozen=True)
class Photo:
    """An image to find regions in, or one whose regions are known.

    pixels: (height, width, 3) uint8, upright RGB; None where regions are known and there is no photo. found: what is
    known of its regions.
    """

    ref: ImageRef
    width: int
    height: int
    pixels: np.ndarray | None
    found: KnownRegions | None = None


@dataclass(frozen=True)
class LoadedDetector:
    """A detector and, for each of its labels, the concept (None: not in the vocabulary).

    In place of a detector there may be files with the regions of all images; their class names are met as they are
    read, and mapped by `concepts_of`.
    """

    detector: Detector | FeatureLines
    concepts: tuple[str | None, ...]
    vocabulary: Vocabulary
    met: dict[str, str | None] = field(default_factory=dict)

    def concepts_of(self, names: Sequence[str]) -> list[str | None]:
        """The concepts of class names."""
        for name in [name for name in names if name not in self.met]:
            (number,) = self.vocabulary.map_labels([name])
            self.met[name] = None if number is None else self.vocabulary.names[number]
        return [self.met[name] for name in names]


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
    concepts = tuple(None if number is None else vocabulary.names[number] for number in ids)
    return LoadedDetector(detector, concepts, vocabulary)


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

    def load(self) -> LoadedDetector:
        if self.detector.name.startswith(TSV):
            return LoadedDetector(load_features(self.detector), (), self.vocabulary)
        resolve_device(self.detector.device)  # where the job was planned, this machine's accelerator was not known
        return load_with_concepts(self.detector, self.vocabulary)

    def run(self, unit: Unit[tuple[Run, ...]], resource: LoadedDetector) -> UnitResult[FoundRegions]:
        log = RejectLog("detect")
        known = resource.detector if isinstance(resource.detector, FeatureLines) else None
        reading = Reading(self.stage, self.settings, log, known)
        images = regions = 0
        concepts: Counter[str] = Counter()
        schema = schemas.regions(resource.detector.feature_dim)
        name = f"{unit.name}.parquet"
        photos = reading.photos(unit.content, beside=self.detector.device == "cuda")
        with schemas.writing_parquet(files.join(self.stage.folder, name), schema) as writer:
            for batch in in_batches(photos, IMAGES_ON_CUDA if self.detector.device == "cuda" else IMAGES_A_BATCH):
                kept: list[tuple[Photo, list[Region]]] = []
                for photo, found in detect_batch(resource, batch, self.settings, log):
                    if not found:
                        log.add(photo.ref.source, photo.ref.key, "no_region")
                        continue
                    images += 1
                    regions += len(found)
                    concepts.update(region.concept for region in found)
                    kept.append((photo, found))
                for start in range(0, len(kept), IMAGES_A_ROW_GROUP):
                    group = kept[start : start + IMAGES_A_ROW_GROUP]
                    rows = [(photo, number, region) for photo, found in group for number, region in enumerate(found)]
                    writer.write_table(regions_table(rows, schema, self.settings.crop_size))
        return UnitResult(
            counts={"images": Counts(reading.read, images, log.counts())},
            inputs=(Input(f"{reading.read} images of {unit.name}", reading.bytes, reading.sha256),),
            outputs=(manifest.describe(self.stage.folder, name, regions),),
            rejects=self.stage.publish_rejects(unit.name, log),
            details=FoundRegions(
                images=images,
                concepts=dict(sorted(concepts.items())),
                feature_dim=resource.detector.feature_dim,
                unmapped=tuple(_unmapped(resource, reading.names)),
            ),
        )


def _unmapped(loaded: LoadedDetector, met: Iterable[str]) -> list[str]:
    """Labels that are no concepts: the detector's, or those that were met in files of features."""
    if isinstance(loaded.detector, FeatureLines):
        return sorted(name for name in met if loaded.concepts_of([name]) == [None])
    return [label for label, known in zip(loaded.detector.labels, loaded.concepts, strict=True) if known is None]


class Reading:
    """Reads and decodes the images of a unit; counts them, and records in `log` those that cannot be used.

    After the iteration `read` is the number of images met, `bytes` what they hold, and `sha256` the hash over a line
    NAME\\0SHA256 each.
    """

    def __init__(
        self,
        stage: Stage[RegionsDetails],
        settings: ImageSettings,
        log: RejectLog,
        features: FeatureLines | None = None,
    ) -> None:
        self.stage = stage
        self.features = features
        self.max_pixels = settings.max_megapixels * 1e6
        self.log = log
        self.read = self.bytes = 0
        self.names: set[str] = set()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._digest.hexdigest()

    def photos(self, runs: Sequence[Run], *, beside: bool) -> Iterator[Photo]:
        """The usable images of the runs, in order. beside: made by a thread, beside the accelerator's work."""
        items = self._items(runs)
        for ref, data, result in ahead(items, PHOTOS_AHEAD) if beside else items:
            self.read += 1
            self.bytes += len(data)
            self._digest.update(f"{ref.name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
            if isinstance(result, Photo):
                if result.found is not None:
                    self.names.update(result.found.names)
                yield result
            else:
                self.log.add(ref.source, ref.key, result.reason, result.detail)

    def _items(self, runs: Sequence[Run]) -> Iterator[tuple[ImageRef, bytes, Photo | Unreadable]]:
        for run in runs:
            again = dict(run.duplicates)
            refs = read_run(self.stage, run)
            read = read_images(refs, max_file_bytes(self.max_pixels)) if self.features is None else None
            for row, ref in enumerate(refs, run.start):
                result: Photo | Unreadable
                if read is None:
                    data, result = self._known(ref)
                else:
                    _, got = next(read)
                    data = b"" if isinstance(got, Unreadable) else got
                    result = got if isinstance(got, Unreadable) else decoded(ref, got, self.max_pixels)
                # Only now: copies of what is broken are broken, and are to be counted so.
                if row in again and isinstance(result, Photo):
                    result = Unreadable("duplicate", f"the same bytes as {again[row]}")
                yield ref, data, result

    def _known(self, ref: ImageRef) -> tuple[bytes, Photo | Unreadable]:
        """An image whose regions are known, with its photo if there are photos."""
        assert self.features is not None
        ((_, line),) = read_images([ref], MAX_LINE_BYTES)
        if isinstance(line, Unreadable):
            return b"", line
        found = self.features.parse(ref, line)
        if isinstance(found, Unreadable) or not ref.photo:
            return line, found if isinstance(found, Unreadable) else Photo(ref, found.width, found.height, None, found)
        ((_, data),) = read_images([ImageRef(ref.photo)], max_file_bytes(self.max_pixels))
        if isinstance(data, Unreadable):
            return line, data
        photo = decoded(ref, data, self.max_pixels)
        if isinstance(photo, Photo) and (photo.width, photo.height) != (found.width, found.height):
            sizes = f"{photo.width}×{photo.height}, the features are for {found.width}×{found.height}"
            return line + data, Unreadable("bad_record", f"the photo {ref.photo} is {sizes}")
        return line + data, photo if isinstance(photo, Unreadable) else replace(photo, found=found)


def max_file_bytes(max_pixels: float) -> float:
    """Larger files are not read into memory: sixteen bits for each of four channels, and a mebibyte for the rest."""
    return max_pixels * 8 + (1 << 20)


def decoded(ref: ImageRef, data: bytes, max_pixels: float) -> Photo | Unreadable:
    """The decoded image, or why there is none."""
    try:
        pixels = decode(data, max_pixels=max_pixels)
        return Photo(ref, pixels.shape[1], pixels.shape[0], pixels)
    except ImageRejected as rejected:
        return Unreadable(rejected.reason, rejected.detail)


def in_batches(photos: Iterator[Photo], size: int) -> Iterator[list[Photo]]:
    """Lists of at most `size` photos, fewer where they are large."""
    batch: list[Photo] = []
    pixels = 0
    for photo in photos:
        batch.append(photo)
        pixels += photo.width * photo.height
        if len(batch) == size or pixels >= PIXELS_A_BATCH:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def detect_batch(
    loaded: LoadedDetector, photos: Sequence[Photo], settings: ImageSettings, log: RejectLog
) -> Iterator[tuple[Photo, list[Region]]]:
    """Each photo with its regions, in order; photos that the detector cannot take are rejected one by one."""
    results = [photo.found.detections if photo.found else None for photo in photos]
    if not isinstance(loaded.detector, FeatureLines):
        results = _detect(loaded.detector, photos, log)
    for photo, detections in zip(photos, results, strict=True):
        if detections is None:
            continue
        if photo.found is None:
            check_detections(detections, loaded)
        try:
            found = choose_regions(
                detections,
                loaded.concepts if photo.found is None else loaded.concepts_of(photo.found.names),
                width=photo.width,
                height=photo.height,
                choice=choice_of(settings),
            )
        except BadFeature as error:
            log.add(photo.ref.source, photo.ref.key, "bad_feature", str(error))
            continue
        yield photo, found


def _detect(detector: Detector, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
    try:
        return list(detector.detect([photo.pixels for photo in photos if photo.pixels is not None]))
    except Exception as error:  # A detector is anybody's code; what it raises for one image must not cost the others.
        if len(photos) == 1:
            log.add(photos[0].ref.source, photos[0].ref.key, "failed_in_detector", f"{type(error).__name__}: {error}")
            return [None]
    # Only now, as the error holds on to what the detector had in memory for all of them.
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
        "image_id": [photo.ref.image_id for photo, _, _ in rows],
        "patch_id": [f"{photo.ref.image_id}-{number:03d}" for photo, number, _ in rows],
        "box": pa.FixedSizeListArray.from_arrays(pa.array(boxes.reshape(-1)), 4),
        "concept": [region.concept for _, _, region in rows],
        "score": [region.score for _, _, region in rows],
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), dim),
        "crop": [
            grey_jpeg(region.box) if photo.pixels is None else crop_jpeg(photo.pixels, region.box, crop_size)
            for photo, _, region in rows
        ],
        "width": [photo.width for photo, _, _ in rows],
        "height": [photo.height for photo, _, _ in rows],
        "source": [photo.ref.source for photo, _, _ in rows],
        "key": [photo.ref.key for photo, _, _ in rows],
        "url": [photo.ref.url for photo, _, _ in rows],
        "license": [photo.ref.license for photo, _, _ in rows],
    }
    return pa.table(columns, schema=schema)


def choice_of(settings: ImageSettings) -> RegionChoice:
    """The settings that say which regions are kept."""
    return RegionChoice(
        settings.score_threshold,
        settings.nms_threshold,
        settings.min_region_side,
        settings.min_regions,
        settings.max_regions,
    )


def is_file_name(weights: str) -> bool:
    """Whether `images.weights` names a file rather than one of the detector's own sets of weights."""
    return "/" in weights or "." in weights


def machine_hints(settings: ImageSettings) -> dict[str, str]:
    """Beam's resource hints for the step that runs the detector: an accelerator where it is to run on one."""
    hints = {}
    if settings.device == "cuda" and settings.worker_accelerator:
        hints["accelerator"] = settings.worker_accelerator
    if settings.worker_ram:
        hints["min_ram"] = settings.worker_ram
    return hints


def detector_spec(settings: ImageSettings, import_paths: Sequence[str], *, remote: bool = False) -> DetectorSpec:
    """The config's detector as plain data. remote: it will run on other machines, which see no file of this one, and
    have an accelerator where the config says `cuda`. Raises CallError if its weights are missing or its device is."""
    weights = None if settings.weights == "default" else settings.weights
    if weights is not None and is_file_name(weights) and not files.exists(weights):
        raise CallError(f"images.weights: no such file: {weights}. Give a file, or 'default'.")
    return DetectorSpec(
        settings.detector,
        weights,
        resolve_device(settings.device) if not remote else "cuda" if settings.device == "cuda" else "cpu",
        # Where some regions are wanted in any case, the detector must not drop them first.
        0.0 if settings.min_regions else settings.score_threshold,
        settings.detector_options,
        () if remote else tuple(import_paths),
    )


def report_unmapped(labels: Sequence[str], vocabulary: Vocabulary, stage: Stage[RegionsDetails]) -> None:
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


def plan_known(
    spec: DetectorSpec, inputs: Sequence[str], photos_file: str
) -> tuple[ImageCorpus, dict[str, str] | None]:
    """The corpus of files with region features, and the photos of `inputs` by id, None without any."""
    corpus = plan_features(spec.name.removeprefix(TSV), spec.options.get("predictions"), photos_file if inputs else "")
    load_features(spec)
    if not inputs:
        return corpus, None
    photos = plan_corpus(inputs)
    return replace(corpus, inputs=[*corpus.inputs, *photos.inputs]), photos_by_id(photos)


def load_features(spec: DetectorSpec) -> FeatureLines:
    """The files with region features that stand in place of a detector. Raises CallError."""
    unknown = sorted(set(spec.options) - {"predictions", "classes"})
    if unknown:
        raise CallError(
            f"images.detector_options: tsv knows predictions and classes, not {', '.join(map(repr, unknown))}."
        )
    return FeatureLines(spec.name.removeprefix(TSV), **spec.options)


def run_detect(
    config: Config, vocabulary: Vocabulary, engine: Engine, *, overwrite: bool, import_paths: Sequence[str]
) -> Manifest[RegionsDetails]:
    """Do the stage, or what is left of it. Raises UserError, CallError."""
    spec = detector_spec(config.images, import_paths, remote=engine.remote)
    photos: dict[str, str] | None = None
    if spec.name.startswith(TSV):
        corpus, photos = plan_known(spec, config.images.inputs, files.join(Stage(DETECT, config.out).work, PHOTOS))
    elif config.images.inputs:
        corpus = plan_corpus(config.images.inputs)
    else:
        raise CallError("images.inputs: empty; expected files, folders or globs with images.")
    described = describe_detector(spec)
    settings = asdict(replace(config.images, inputs=(), weights="", detector_options={})) | {
        "detector": to_json(described),
        "vocabulary": vocabulary.hash,
    }
    settings = {name: value for name, value in settings.items() if name not in MACHINES}
    plan = Plan(settings, [asdict(entry) for entry in corpus.inputs], manifest.versions(PACKAGES))
    stage = Stage(DETECT, config.out)
    finished = begin_stage(stage, plan, overwrite=overwrite)
    if finished is not None:
        return finished
    if photos is not None:
        files.publish_bytes(files.join(stage.work, PHOTOS), manifest.canonical(photos))
    units = survey_images(corpus.pieces, stage, engine, drop_duplicates=config.images.drop_duplicates)
    left = pending(stage, units)
    with progress(stage, "detect", [unit.name for unit in units], "images"):
        if left:
            hints = machine_hints(config.images) if engine.remote else None
            transform = DetectRegions(config.images, spec, vocabulary, config.out, hints)
            engine.run(stage, left, tuple[Run, ...], lambda units: units | "DetectRegions" >> transform, label="detect")
    results = read_results(stage, [unit.name for unit in units], FoundRegions)
    concepts: Counter[str] = Counter()
    for result in results:
        concepts.update(result.details.concepts)
    unmapped = list(dict.fromkeys(label for result in results for label in result.details.unmapped))
    report_unmapped(unmapped, vocabulary, stage)
    details = RegionsDetails(
        detector=described,
        feature_dim=results[0].details.feature_dim,
        vocabulary=vocabulary.name,
        vocabulary_hash=vocabulary.hash,
        regions=dict(sorted(concepts.items())),
        labels_not_in_vocabulary=tuple(unmapped),
        images_by_part=tuple(result.details.images for result in results),
        not_images=len(corpus.set_aside),
    )
    return finish_stage(stage, plan, results, details=details, max_bad_fraction=config.max_bad_fraction)
