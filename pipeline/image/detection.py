"""From photos to the regions that are kept: the detector with its labels mapped to concepts, or known regions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vlmixer.artifacts.boxes import MAX_SCORE
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.config import ImageSettings, fetch_policy
from vlmixer.pipeline.image.boxes.index import BoxIndex
from vlmixer.pipeline.image.detectors.base import Detections, Detector
from vlmixer.pipeline.image.detectors.broken import raise_if_broken
from vlmixer.pipeline.image.detectors.loading import (
    BOXES,
    TSV,
    DetectorSpec,
    load_detector,
    load_encoders,
    resolve_device,
)
from vlmixer.pipeline.image.known_regions import FeatureLines
from vlmixer.pipeline.image.photos import FeatureSource, ImageSource, Photo, PhotoSource
from vlmixer.pipeline.image.plausibility import wrong_numbers
from vlmixer.pipeline.image.regions import BadFeature, Region, RegionChoice, choose_regions

if TYPE_CHECKING:
    from vlmixer.pipeline.image.encoders.regions import RegionEncoder


MAX_BOXES = 10_000
"""Of a photo, in files of boxes. Each is encoded, so millions would take days."""


class RegionFinder(Protocol):
    """Finds regions in photos, and maps their labels to concepts."""

    @property
    def feature_dim(self) -> int:
        """Width of a region's feature."""
        ...

    def source(self, settings: ImageSettings) -> PhotoSource:
        """The source of the photos that it accepts."""
        ...

    def detect(self, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
        """The regions of each photo; None, and an entry in `log`, for a photo that it cannot use."""
        ...

    def concepts_for(self, photo: Photo) -> Sequence[str | None]:
        """The concept of each label in the photo's detections, None for a label outside the vocabulary."""
        ...

    def unmapped(self, class_names: Iterable[str]) -> list[str]:
        """Labels outside the vocabulary. class_names: those met in known regions."""
        ...


@dataclass(frozen=True)
class DetectorFinder:
    """A detector and, for each of its labels, the concept (None: not in the vocabulary)."""

    detector: Detector
    concepts: tuple[str | None, ...]

    @property
    def feature_dim(self) -> int:
        return self.detector.feature_dim

    def source(self, settings: ImageSettings) -> PhotoSource:
        return ImageSource(settings.max_megapixels * 1e6, fetch_policy(settings))

    def detect(self, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
        results = detect_each(self.detector, photos, log)
        for found in results:
            if found is not None:
                check_detections(found, self.detector, len(self.concepts))
        return results

    def concepts_for(self, photo: Photo) -> Sequence[str | None]:
        return self.concepts

    def unmapped(self, class_names: Iterable[str]) -> list[str]:
        return [label for label, concept in zip(self.detector.labels, self.concepts, strict=True) if concept is None]


@dataclass(frozen=True)
class FeatureFinder:
    """Region features in place of a detector. Their class names are mapped as they are met."""

    lines: FeatureLines
    vocabulary: Vocabulary
    _met: dict[str, str | None] = field(default_factory=dict)

    @property
    def feature_dim(self) -> int:
        return self.lines.feature_dim

    def source(self, settings: ImageSettings) -> PhotoSource:
        return FeatureSource(self.lines, settings.max_megapixels * 1e6, fetch_policy(settings))

    def detect(self, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
        return [None if photo.known is None else photo.known.detections for photo in photos]

    def concepts_for(self, photo: Photo) -> Sequence[str | None]:
        return [] if photo.known is None else [self._concept(name) for name in photo.known.names]

    def unmapped(self, class_names: Iterable[str]) -> list[str]:
        return sorted(name for name in class_names if self._concept(name) is None)

    def _concept(self, name: str) -> str | None:
        if name not in self._met:
            (number,) = self.vocabulary.map_labels([name])
            self._met[name] = None if number is None else self.vocabulary.names[number]
        return self._met[name]


@dataclass(frozen=True)
class BoxFinder:
    """Boxes from files in place of a detector; encoders give them features. concepts: of each class of the index.
    threshold: boxes with lower scores are not encoded."""

    index: BoxIndex
    encoders: "Sequence[RegionEncoder]"
    concepts: tuple[str | None, ...]
    threshold: float

    @property
    def feature_dim(self) -> int:
        return sum(encoder.width for encoder in self.encoders)

    def source(self, settings: ImageSettings) -> PhotoSource:
        return ImageSource(settings.max_megapixels * 1e6, fetch_policy(settings))

    def detect(self, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
        return [self._detect(photo, log) for photo in photos]

    def concepts_for(self, photo: Photo) -> Sequence[str | None]:
        return self.concepts

    def unmapped(self, class_names: Iterable[str]) -> list[str]:
        return [name for name, concept in zip(self.index.classes, self.concepts, strict=True) if concept is None]

    def _detect(self, photo: Photo, log: RejectLog) -> Detections | None:
        from vlmixer.pipeline.image.encoders.regions import features_of

        assert photo.pixels is not None
        known = self.index.find(photo.ref.digest)
        if known is None:
            log.add(photo.ref.source, photo.ref.key, "unlisted_photo")
            return None
        if known.doubt:
            log.add(photo.ref.source, photo.ref.key, "ambiguous_photo", known.doubt)
            return None
        boxes = known.in_pixels(photo.width, photo.height)
        wrong = wrong_numbers(boxes, known.scores, photo.width, photo.height)
        if len(boxes) > MAX_BOXES:
            wrong = f"{known.name} has {len(boxes):,} boxes, expected at most {MAX_BOXES:,}"
        if known.width and (known.width, known.height) != (photo.width, photo.height):
            wrong = f"the boxes of {known.name} are for {known.width}×{known.height} pixels, the upright photo has "
            wrong += f"{photo.width}×{photo.height}"
        if wrong:
            log.add(photo.ref.source, photo.ref.key, "bad_record", wrong)
            return None
        rows = [
            row
            for row, (label, score) in enumerate(zip(known.labels, known.scores, strict=True))
            if score >= self.threshold and self.concepts[label] is not None
        ]
        features = features_of(photo.pixels, boxes[rows], self.encoders)
        return Detections(boxes[rows], known.scores[rows], known.labels[rows], features)


def load_finder(spec: DetectorSpec, vocabulary: Vocabulary, boxes: str = "") -> RegionFinder:
    """The region finder that the config asks for. boxes: the index of the photos' boxes, if it names a file of boxes.

    Raises UserError, CallError.
    """
    if spec.name.startswith(TSV):
        return FeatureFinder(load_features(spec), vocabulary)
    if spec.name.startswith(BOXES):
        index = BoxIndex(boxes)
        return BoxFinder(index, load_encoders(spec), map_labels(spec, index.classes, vocabulary), spec.score_threshold)
    return load_with_concepts(spec, vocabulary)


def load_with_concepts(spec: DetectorSpec, vocabulary: Vocabulary) -> DetectorFinder:
    """The detector, its labels mapped. Raises UserError if the vocabulary has none of them."""
    resolve_device(spec.device)  # the machine that planned the job may not know this one's accelerator
    detector = load_detector(spec, vocabulary.concepts)
    return DetectorFinder(detector, map_labels(spec, detector.labels, vocabulary))


def map_labels(spec: DetectorSpec, labels: Sequence[str], vocabulary: Vocabulary) -> tuple[str | None, ...]:
    """The concept of each label, None for those outside the vocabulary. Raises UserError if all are."""
    ids = vocabulary.map_labels(list(labels))
    if all(concept is None for concept in ids):
        first = ", ".join(list(labels)[:5])
        raise UserError(
            f"images.detector: none of the {len(ids)} labels of {spec.name} ({first}, …) is a concept of "
            f"vocabulary {vocabulary.name}. Choose a vocabulary that has the detector's classes."
        )
    return tuple(None if number is None else vocabulary.names[number] for number in ids)


def load_features(spec: DetectorSpec) -> FeatureLines:
    """The region features that the config names in place of a detector. Raises CallError."""
    options = ("predictions", "classes", "sizes", "dtype")
    unknown = sorted(set(spec.options) - set(options))
    if unknown:
        raise CallError(
            f"images.detector_options: tsv knows {', '.join(options)}, not {', '.join(map(repr, unknown))}."
        )
    return FeatureLines(spec.name.removeprefix(TSV), **spec.options)


def detect_batch(
    finder: RegionFinder, photos: Sequence[Photo], settings: ImageSettings, log: RejectLog
) -> Iterator[tuple[Photo, list[Region]]]:
    """Each photo with the regions that are kept, in order. Photos that cannot be used are rejected one by one."""
    choice = region_choice(settings)
    for photo, detections in zip(photos, finder.detect(photos, log), strict=True):
        if detections is None:
            continue
        concepts = finder.concepts_for(photo)
        try:
            found = choose_regions(detections, concepts, width=photo.width, height=photo.height, choice=choice)
        except BadFeature as error:
            log.add(photo.ref.source, photo.ref.key, "bad_feature", str(error))
            continue
        yield photo, found


def region_choice(settings: ImageSettings) -> RegionChoice:
    """The settings that say which regions are kept."""
    return RegionChoice(
        settings.score_threshold,
        settings.nms_threshold,
        settings.min_region_side,
        settings.min_regions,
        settings.max_regions,
    )


def detect_each(detector: Detector, photos: Sequence[Photo], log: RejectLog) -> list[Detections | None]:
    """The detector's result for each photo. If it raises for all of them together, they are tried one by one.

    Raises UserError if it gives another number of results, or if it fails whatever the photo.
    """
    try:
        pixels = [photo.pixels for photo in photos if photo.pixels is not None]
        found: list[Detections | None] = list(detector.detect(pixels))
    except Exception as error:  # A detector may be anyone's code: an exception for one image must not lose the others.
        if len(photos) == 1:
            raise_if_broken(detector, error)
            log.add(photos[0].ref.source, photos[0].ref.key, "failed_in_detector", f"{type(error).__name__}: {error}")
            return [None]
    else:
        given = [result for result in found if isinstance(result, Detections)]
        if not len(given) == len(found) == len(photos):
            raise UserError(
                f"{_who(detector)} gave {len(found)} results, {len(given)} of them Detections, for {len(photos)} "
                f"images. {_SEE}"
            )
        return found
    # Not in the except block: the error keeps alive what the detector had in memory for all of them.
    return [result for photo in photos for result in detect_each(detector, [photo], log)]


def check_detections(found: Detections, detector: Detector, labels: int) -> None:
    """Raises UserError if a detector breaks the protocol: no arrays of numbers, shapes that do not fit together,
    scores that are not from 0 to 1, unknown labels."""
    kinds = {"boxes": "fiu", "scores": "fiu", "labels": "iu", "features": "fiu"}
    for name, kind in kinds.items():
        part = getattr(found, name, None)
        if not isinstance(part, np.ndarray) or part.dtype.kind not in kind:
            what = f"{part.dtype} values" if isinstance(part, np.ndarray) else type(part).__name__
            raise UserError(f"{_who(detector)} gave {what} as {name}, expected a NumPy array of numbers. {_SEE}")
    count = found.scores.size
    shapes = (found.boxes.shape, found.scores.shape, found.labels.shape, found.features.shape)
    expected = ((count, 4), (count,), (count,), (count, detector.feature_dim))
    if shapes != expected:
        raise UserError(
            f"{_who(detector)} gave boxes, scores, labels, features of shapes {shapes}, expected {expected}. {_SEE}"
        )
    scores = found.scores[np.isfinite(found.scores)]
    if scores.size and not (scores.min() >= 0 and scores.max() <= MAX_SCORE):
        raise UserError(
            f"{_who(detector)} gave scores from {scores.min():g} to {scores.max():g}, expected 0 to 1. {_SEE}"
        )
    if count and not 0 <= int(found.labels.min()) <= int(found.labels.max()) < labels:
        raise UserError(
            f"{_who(detector)} gave a label outside 0 … {labels - 1}; labels are indices into the detector's `labels`."
        )


_SEE = "See the Detector protocol in pipeline/image/detectors/base.py."


def _who(detector: Detector) -> str:
    return f"images.detector: {type(detector).__name__}.detect"
