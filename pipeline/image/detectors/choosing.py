"""`images.precision: auto`: measures once whether a detector finds the same in bfloat16, and faster on this processor.

The stage records what was chosen in the detector's identity. A resumed run, and everything that reads its results,
takes it from there.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.boxes import box_iou
from vlmixer.artifacts.details import to_json
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.rejects import FirstRejects
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.config import Config
from vlmixer.pipeline.image.detection import detect_each
from vlmixer.pipeline.image.detectors.base import Detections, Detector
from vlmixer.pipeline.image.detectors.identity import describe_detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, in_precision, is_open
from vlmixer.pipeline.image.photos import Photo

Chosen = Literal["float32", "bfloat16"]
BOTH: tuple[Chosen, Chosen] = ("float32", "bfloat16")

PHOTOS = 8
"""Photos that are tried."""
LEAST_GAIN = 1.15
"""bfloat16 must be this many times as fast."""
LEAST_REGIONS = 10
"""Fewer regions on all photos show nothing."""
LEAST_SAME = 0.95
"""The share of the regions of both formats that must have their like in the other format."""
LEAST_IOU = 0.85
MOST_SCORE = 0.05
"""What regions are alike: of one label, with at least this overlap, and scores that differ by no more."""


@dataclass(frozen=True)
class Choice:
    """What was measured. gain: how many times as fast bfloat16 is. regions: of both formats, on all photos. same: those
    that have their like."""

    photos: int
    gain: float
    regions: int
    same: int

    @property
    def precision(self) -> Chosen:
        """The format to compute in."""
        alike = self.regions >= 2 * LEAST_REGIONS and self.same >= LEAST_SAME * self.regions
        return "bfloat16" if alike and self.gain >= LEAST_GAIN else "float32"

    def __str__(self) -> str:
        share = f"{100 * self.same / self.regions:.0f} % of" if self.regions else "none of"
        return (
            f"{self.precision}. On {self.photos} photos, bfloat16 is {self.gain:.1f} times as fast as float32, and "
            f"{share} {self.regions} regions are alike"
        )


def choose(
    load: Callable[[Chosen], Detector],
    photos: Sequence[Photo],
    threshold: float,
    clock: Callable[[], float] = time.thread_time,
) -> Choice:
    """Try both formats on these photos. load: gives the detector. threshold: of scores; regions below are ignored.

    clock: seconds of this thread, in which detectors work alone on a CPU.
    """
    detectors = [load(precision) for precision in BOTH]
    taken, regions, same, tried = [0.0, 0.0], 0, 0, 0
    log = FirstRejects(DETECT.name)
    for photo in photos:
        results: list[Detections] = []
        seconds: list[float] = []
        for detector in detectors:
            times = []
            # The first time, kernels are made for the photo's size.
            for _ in range(2):
                began = clock()
                (found,) = detect_each(detector, [photo], log)
                times.append(clock() - began)
            if found is not None:
                results.append(_above(found, threshold))
            seconds.append(min(times))
        if len(results) < len(detectors):
            continue  # a photo that the stage will reject
        tried += 1
        taken = [before + more for before, more in zip(taken, seconds, strict=True)]
        regions += sum(len(found.scores) for found in results)
        same += 2 * count_alike(*results)
    return Choice(tried, taken[0] / max(taken[1], 1e-9) if tried else 0.0, regions, same)


def count_alike(one: Detections, other: Detections) -> int:
    """The number of pairs of regions of an image that are alike, each region in one pair at most."""
    if not len(one.scores) or not len(other.scores):
        return 0
    overlaps = box_iou(one.boxes, other.boxes)
    alike = (
        (one.labels[:, None] == other.labels)
        & (abs(one.scores[:, None] - other.scores) <= MOST_SCORE)
        & (overlaps >= LEAST_IOU)
    )
    overlaps = np.where(alike, overlaps, 0)
    pairs = 0
    while overlaps.max() > 0:
        row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
        overlaps[row, :] = overlaps[:, column] = 0
        pairs += 1
    return pairs


def as_recorded(spec: DetectorSpec, recorded: Mapping[str, Any] | None) -> DetectorSpec | None:
    """The detector in the format in which it is the recorded one, on whatever device; None if it is another one.
    recorded: the JSON of its identity, None if there is none."""
    if recorded is None:
        return None
    wanted = manifest.canonical({**recorded, "device": spec.device})
    for precision in BOTH:
        settled = in_precision(spec, precision)
        if manifest.canonical(to_json(describe_detector(settled))) == wanted:
            return settled
    return None


def as_found(spec: DetectorSpec, config: Config) -> DetectorSpec:
    """The detector in the format in which the run of this config found its regions. Raises CallError if it is not
    known."""
    if not is_open(spec):
        return spec
    folder = files.join(config.out, DETECT.folder)
    known = files.exists(files.join(folder, manifest.NAME))
    settled = as_recorded(spec, to_json(manifest.read(folder, DETECT).details.detector) if known else None)
    if settled is None:
        raise CallError(
            f"images.precision: auto is chosen when detect runs, and {folder} is not the result of this detector. Set "
            "it to float32 or bfloat16, or give --out with the folder of the run."
        )
    return settled


def _above(found: Detections, threshold: float) -> Detections:
    kept = found.scores >= threshold
    return replace(found, boxes=found.boxes[kept], scores=found.scores[kept], labels=found.labels[kept])
