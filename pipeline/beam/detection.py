"""DetectRegions: the regions of images, by Beam's RunInference."""

import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.io.fileio import ReadableFile
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.metrics import NAMESPACE, count, measure
from vlmixer.pipeline.beam.outputs import MAIN, REJECTS, WithRejects, reject
from vlmixer.pipeline.beam.rows import DetectedImage, DetectedRegion, pair_of
from vlmixer.pipeline.config import ImageSettings, fetch_policy
from vlmixer.pipeline.image.decoding import crop_jpeg
from vlmixer.pipeline.image.detection import DetectorFinder, detect_batch, load_with_concepts
from vlmixer.pipeline.image.detectors.base import Detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, detector_spec, is_open
from vlmixer.pipeline.image.parts import IMAGES_PER_BATCH
from vlmixer.pipeline.image.photos import MAX_PIXELS_PER_BATCH, ImageSource, Photo, decode_photo, max_file_bytes
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.regions import Region

STEP = "detect"
Image = Any
"""A name and the bytes of an image file, as a pair, row or dict; a ReadableFile of `fileio.ReadMatches`; or a path."""
Found = list[Region] | tuple[str, str]
"""The regions that are kept, or why the photo cannot be used: a reason and its detail."""


class DetectRegions(WithRejects):
    """PCollection of (name, bytes), of rows or dicts with the fields name and data, such as `ImageFile`, of
    `fileio.ReadableFile`, or of paths → PCollection[DetectedImage].

    Images that cannot be read or decoded, or on which the detector fails, and images without regions are rejects; the
    others of their batch are not affected. A detector that fails whatever the image, or breaks its protocol, is an
    error. Works on unbounded collections.
    """

    def __init__(
        self,
        detector: str | Callable[..., Detector] = ImageSettings.detector,
        vocabulary: str | Vocabulary = "coco",
        settings: ImageSettings | None = None,
        *,
        one_model_per_machine: bool = False,
        import_paths: Sequence[str] = (),
    ) -> None:
        """detector: as `images.detector` in a config; or a class of your own itself, which Beam sends to the workers
        with the job, also from `__main__`. settings: weights, thresholds, device, and what else that section has.
        one_model_per_machine: its processes share a model, if the engine can. import_paths: folders with your own
        detector's module; on other machines it must be installed.

        Raises CallError if weights or device are missing. Labels are compared with the vocabulary on the workers.
        """
        super().__init__()
        name = detector if isinstance(detector, str) else f"class {getattr(detector, '__qualname__', repr(detector))}"
        self._settings = replace(settings or ImageSettings(), detector=name)
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        spec = detector_spec(self._settings, import_paths)
        if is_open(spec):
            raise CallError("images.precision: auto needs a run that records the choice. Give float32 or bfloat16.")
        if not isinstance(detector, str):
            spec = replace(spec, given=detector)
        self._model = RegionModel(spec, known, self._settings, one_model_per_machine=one_model_per_machine)

    def expand(self, images: beam.PCollection) -> Any:
        decoded = images | "DecodeImages" >> beam.ParDo(_Decode(self._settings)).with_outputs(REJECTS, main=MAIN)
        outputs = (
            decoded[MAIN]
            | "FindRegions" >> RunInference(self._model)
            | "CutCrops" >> beam.ParDo(_CutCrops(self._settings.crop_size)).with_outputs(REJECTS, main=MAIN)
        )
        return self.given(outputs, DetectedImage, decoded[REJECTS])


class RegionModel(ModelHandler[Photo, PredictionResult, "Regions"]):
    """A detector for RunInference. Photos are not padded to a common size: a result does not depend on its batch."""

    def __init__(
        self, spec: DetectorSpec, vocabulary: Vocabulary, settings: ImageSettings, *, one_model_per_machine: bool
    ) -> None:
        most = round(MAX_PIXELS_PER_BATCH)
        # A batch is full with this many images, or before, with so many pixels. Nothing depends on timing.
        least = most // IMAGES_PER_BATCH[spec.device]
        super().__init__(
            min_batch_size=most,
            max_batch_size=most,
            element_size_fn=lambda photo: min(max(_pixels(photo), least), most),
            large_model=one_model_per_machine,
        )
        self._spec, self._vocabulary, self._settings = spec, vocabulary, settings

    def load_model(self) -> "Regions":
        return Regions(load_with_concepts(self._spec, self._vocabulary), self._settings)

    def run_inference(
        self, batch: Sequence[Photo], model: "Regions", inference_args: Mapping[str, Any] | None = None
    ) -> Iterable[PredictionResult]:
        return [PredictionResult(photo, found) for photo, found in zip(batch, model.find(batch), strict=True)]

    def get_num_bytes(self, batch: Sequence[Photo]) -> int:
        return sum(3 * _pixels(photo) for photo in batch)

    def get_metrics_namespace(self) -> str:
        return NAMESPACE

    def get_resource_hints(self) -> dict[str, str]:
        hints = {"min_ram": self._settings.worker_ram}
        if self._spec.device == "cuda":
            hints["accelerator"] = self._settings.worker_accelerator
        return {name: value for name, value in hints.items() if value}


class Regions:
    """A loaded detector. Processes that share it call `find`."""

    def __init__(self, finder: DetectorFinder, settings: ImageSettings) -> None:
        self._finder, self._settings = finder, settings

    def find(self, photos: Sequence[Photo]) -> list[Found]:
        """What is found in each photo. Raises UserError if the detector breaks its protocol."""
        log = RejectLog(STEP)
        # By their places in the batch: two photos may have one name.
        numbered = [replace(photo, ref=replace(photo.ref, key=str(place))) for place, photo in enumerate(photos)]
        kept = {photo.ref.key: found for photo, found in detect_batch(self._finder, numbered, self._settings, log)}
        wrong = {each.key: (each.reason, each.detail) for each in log.rejects}
        return [kept.get(photo.ref.key) or wrong.get(photo.ref.key, ("no_region", "")) for photo in numbered]


class _Decode(beam.DoFn):
    def __init__(self, settings: ImageSettings) -> None:
        self._max_pixels = settings.max_megapixels * 1e6
        self._source = ImageSource(self._max_pixels, fetch_policy(settings))

    @no_annotations
    def process(self, image: Image) -> Iterator[Any]:
        name, data = _named(image)
        ref = ImageRef(name)
        found = self._photo(ref, data)
        if isinstance(found, Unreadable):
            yield from reject(STEP, ref.source, found.reason, found.detail)
        else:
            count(STEP, "decoded")
            yield found

    def _photo(self, ref: ImageRef, data: bytes | ReadableFile | Unreadable | None) -> Photo | Unreadable:
        if isinstance(data, Unreadable):
            return data
        if data is None:
            ((_, photo),) = self._source.photos([ref])
            return photo
        most = int(max_file_bytes(self._max_pixels))
        try:
            content = data if isinstance(data, bytes) else _read(data, most + 1)
        except (OSError, EOFError, zlib.error) as error:  # the file was removed since it was found, or is a damaged .gz
            return Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
        if len(content) > most:
            return Unreadable("too_large_file", f"{len(content)} bytes or more")
        return decode_photo(ref, content, self._max_pixels)


def _read(image: ReadableFile, most: int) -> bytes:
    with image.open() as file:
        content: bytes = file.read(most)
    return content


class _CutCrops(beam.DoFn):
    def __init__(self, crop_size: int) -> None:
        self._crop_size = crop_size

    @no_annotations
    def process(self, result: PredictionResult) -> Iterator[Any]:
        photo, found = result.example, result.inference
        began = time.monotonic()
        if isinstance(found, tuple):
            yield from reject(STEP, photo.ref.source, *found)
            return
        regions = [
            DetectedRegion(
                f"{photo.ref.image_id}-{number:03d}",
                region.box.tolist(),
                region.concept,
                region.score,
                region.feature.astype("<f2").tobytes(),
                crop_jpeg(photo.pixels, region.box, self._crop_size),
            )
            for number, region in enumerate(found)
        ]
        count(STEP, "images")
        measure(STEP, "regions", len(regions))
        measure(STEP, "crop_milliseconds", round(1000 * (time.monotonic() - began)))
        yield DetectedImage(photo.ref.image_id, photo.ref.source, photo.width, photo.height, regions)


def _named(image: Image) -> tuple[str, bytes | ReadableFile | Unreadable | None]:
    """The name of an image, and its bytes; None for a path, which is read by its name. Raises UserError."""
    if isinstance(image, str | os.PathLike):
        return os.fsdecode(image), None
    if isinstance(image, ReadableFile):
        return image.metadata.path, image
    name, data = pair_of(image, "name", "data") or (None, None)
    if isinstance(name, str) and isinstance(data, bytes | bytearray | memoryview):
        return name, bytes(data)
    if isinstance(name, str) and data is None:
        return name, Unreadable("missing_field")
    raise UserError(
        f"DetectRegions: an element is {repr(image)[:100]}, expected (name, bytes), a row or dict with the fields "
        "name, a str, and data, bytes, a fileio.ReadableFile, or a path. Put beam.Map or fileio.ReadMatches before it."
    )


def _pixels(photo: Photo) -> int:
    return photo.width * photo.height
