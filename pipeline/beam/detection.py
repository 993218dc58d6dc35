"""DetectRegions: the regions of images, by Beam's RunInference."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.io.fileio import ReadableFile
from apache_beam.ml.inference.base import ModelHandler, PredictionResult, RunInference
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import Vocabulary, load_vocabulary
from vlmixer.pipeline.beam.metrics import NAMESPACE, count, measure
from vlmixer.pipeline.beam.outputs import MAIN, REJECTS, WithRejects, reject
from vlmixer.pipeline.beam.rows import DetectedImage, DetectedRegion
from vlmixer.pipeline.config import ImageSettings, fetch_policy
from vlmixer.pipeline.image.decoding import crop_jpeg
from vlmixer.pipeline.image.detection import DetectorFinder, detect_batch, load_with_concepts
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, detector_spec
from vlmixer.pipeline.image.parts import IMAGES_PER_BATCH
from vlmixer.pipeline.image.photos import MAX_PIXELS_PER_BATCH, ImageSource, Photo, decode_photo, max_file_bytes
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.regions import Region

STEP = "detect"
Image = Any
"""A name and the bytes of an image file; a ReadableFile of `fileio.ReadMatches`; or a path."""
Found = list[Region] | tuple[str, str]
"""The regions that are kept, or why the photo cannot be used: a reason and its detail."""


class DetectRegions(WithRejects):
    """PCollection of (name, bytes), of `fileio.ReadableFile` or of paths → PCollection[DetectedImage].

    Images that cannot be decoded, or on which the detector fails, and images without regions are rejects; the others of
    their batch are not affected. Works on unbounded collections.
    """

    def __init__(
        self,
        detector: str = ImageSettings.detector,
        vocabulary: str | Vocabulary = "coco",
        settings: ImageSettings | None = None,
        *,
        one_model_per_machine: bool = False,
        import_paths: Sequence[str] = (),
    ) -> None:
        """detector: as `images.detector` in a config. settings: weights, thresholds, device, and what else that section
        has. one_model_per_machine: its processes share a model, if the engine can. import_paths: folders with your own
        detector's module; on other machines it must be installed.

        Raises CallError if weights or device are missing. Labels are compared with the vocabulary on the workers.
        """
        super().__init__()
        self._settings = replace(settings or ImageSettings(), detector=detector)
        known = load_vocabulary(vocabulary) if isinstance(vocabulary, str) else vocabulary
        spec = detector_spec(self._settings, import_paths)
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
        kept = {id(photo): found for photo, found in detect_batch(self._finder, photos, self._settings, log)}
        wrong = {(each.source, each.key): (each.reason, each.detail) for each in log.rejects}
        return [
            kept.get(id(photo)) or wrong.get((photo.ref.source, photo.ref.key), ("no_region", "")) for photo in photos
        ]


class _Decode(beam.DoFn):
    def __init__(self, settings: ImageSettings) -> None:
        self._max_pixels = settings.max_megapixels * 1e6
        self._source = ImageSource(self._max_pixels, fetch_policy(settings))

    @no_annotations
    def process(self, image: Image) -> Iterator[Any]:
        ref = ImageRef(_name_of(image))
        found = self._photo(ref, image)
        if isinstance(found, Unreadable):
            yield from reject(STEP, ref.source, found.reason, found.detail)
        else:
            count(STEP, "decoded")
            yield found

    def _photo(self, ref: ImageRef, image: Image) -> Photo | Unreadable:
        if isinstance(image, str):
            ((_, photo),) = self._source.photos([ref])
            return photo
        most = int(max_file_bytes(self._max_pixels))
        if isinstance(image, ReadableFile):
            with image.open() as file:
                data = file.read(most + 1)
        else:
            data = image[1]
        if len(data) > most:
            return Unreadable("too_large_file", f"{len(data)} bytes or more")
        return decode_photo(ref, data, self._max_pixels)


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


def _name_of(image: Image) -> str:
    if isinstance(image, str):
        return image
    return image.metadata.path if isinstance(image, ReadableFile) else image[0]


def _pixels(photo: Photo) -> int:
    return photo.width * photo.height
