"""Detectors that raise, and detectors that break the protocol."""

import weakref
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.image.boxes.index import BoxIndex, PhotoBoxes
from vlmixer.pipeline.image.detection import MAX_BOXES, BoxFinder, check_detections, detect_each
from vlmixer.pipeline.image.detectors.base import Detections, no_detections
from vlmixer.pipeline.image.encoders import regions
from vlmixer.pipeline.image.photos import Photo
from vlmixer.pipeline.image.readers.base import ImageRef

PHOTOS = [Photo(ImageRef(f"{number}.jpg"), 4, 3, np.full((3, 4, 3), number, np.uint8)) for number in range(3)]


class OutOfMemory:
    """Fails on several images at a time with something large in memory; one by one, looks whether that is gone."""

    labels = ("dog",)
    feature_dim = 3
    held: weakref.ref[np.ndarray] | None = None

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        if len(images) > 1:
            large = np.zeros(10)
            self.held = weakref.ref(large)
            raise MemoryError("too many")
        assert self.held is not None
        assert self.held() is None
        return [no_detections(3)]


class Picky:
    """Refuses the image of ones."""

    labels = ("dog",)
    feature_dim = 3

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        if any(image[0, 0, 0] == 1 for image in images):
            raise ValueError("not this one")
        return [no_detections(3) for _ in images]


def test_after_a_failed_batch_images_are_tried_one_by_one_with_the_memory_free():
    log = RejectLog("detect")
    assert [result is not None for result in detect_each(OutOfMemory(), PHOTOS, log)] == [True] * 3
    assert not log.rejects


def test_only_the_image_that_fails_alone_is_rejected():
    log = RejectLog("detect")
    assert [result is not None for result in detect_each(Picky(), PHOTOS, log)] == [True, False, True]
    assert [(reject.source, reject.reason, reject.detail) for reject in log.rejects] == [
        ("1.jpg", "failed_in_detector", "ValueError: not this one")
    ]


class Broken:
    """Raises the same for all images, or for those of ones alone."""

    labels = ("dog",)
    feature_dim = 3

    def __init__(self, error: Exception, *, ones_alone: bool = False) -> None:
        self.error, self.ones_alone = error, ones_alone

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        if not self.ones_alone or any((image == 1).all() for image in images):
            raise self.error
        return [no_detections(3) for _ in images]


@pytest.mark.parametrize(
    ("error", "ones_alone"),
    [
        (NameError("name 'x' is not defined"), True),
        (ImportError("no cv2"), True),
        (NotImplementedError(), True),
        (RuntimeError("CUDA error: device-side assert triggered"), True),
        (AttributeError("no attribute 'x'"), False),
        (TypeError("no len()"), False),
        (UnboundLocalError("no x"), False),
    ],
)
def test_what_no_image_causes_stops_the_stage(error: Exception, ones_alone: bool):
    with pytest.raises(UserError, match=rf"Broken\.detect fails for any image: {type(error).__name__}: .*line \d+"):
        detect_each(Broken(error, ones_alone=ones_alone), PHOTOS, RejectLog("detect"))


@pytest.mark.parametrize(
    "error",
    [AttributeError("'NoneType' object has no attribute 'x'"), TypeError("no len()"), UnboundLocalError("no x"),
     MemoryError(), RuntimeError("CUDA error: out of memory")],
)  # fmt: skip
def test_what_one_image_causes_costs_this_image(error: Exception):
    found = detect_each(Broken(error, ones_alone=True), PHOTOS, RejectLog("detect"))
    assert [result is not None for result in found] == [True, False, True]


def test_a_detector_s_own_message_stops_the_stage():
    with pytest.raises(UserError, match=r"^lend me the weights$"):
        detect_each(Broken(UserError("lend me the weights")), PHOTOS, RejectLog("detect"))


@pytest.mark.parametrize("more", [0, 1])
def test_a_photo_with_too_many_boxes_is_not_encoded(more: int, monkeypatch: pytest.MonkeyPatch):
    number = MAX_BOXES + more
    boxes = np.tile(np.array([0, 0, 2, 2], np.float32), (number, 1))
    known = PhotoBoxes("x.jpg", 0, 0, boxes, np.zeros(number, bool), np.zeros(number, int), np.ones(number), "")
    finder = BoxFinder(cast(BoxIndex, SimpleNamespace(find=lambda digest: known)), (), (None,), 0.3)
    monkeypatch.setattr(regions, "features_of", lambda pixels, boxes, encoders: np.zeros((len(boxes), 3)))
    log = RejectLog("detect")
    assert [found is None for found in finder.detect(PHOTOS[:1], log)] == [bool(more)]
    details = ["x.jpg has 10,001 boxes, expected at most 10,000"] * more
    assert [(one.reason, one.detail) for one in log.rejects] == [("bad_record", detail) for detail in details]


def one_region() -> Detections:
    return Detections(np.zeros((1, 4), np.float32), np.ones(1, np.float32), np.zeros(1, np.int64), np.ones((1, 3)))


def test_a_detector_that_breaks_the_protocol_stops_the_stage():
    check_detections(one_region(), Picky(), 1)
    check_detections(no_detections(3), Picky(), 1)
    with pytest.raises(UserError, match=r"gave boxes, scores, labels, features of shapes .* \(1, 2\)\), expected"):
        check_detections(replace(one_region(), features=np.ones((1, 2))), Picky(), 1)
    for label in (-1, 1):
        with pytest.raises(UserError, match=r"Picky\.detect gave a label outside 0 … 0"):
            check_detections(replace(one_region(), labels=np.array([label])), Picky(), 1)


class Odd:
    """Gives whatever it is told to."""

    labels = ("dog",)
    feature_dim = 3

    def __init__(self, results: Any) -> None:
        self.results = results

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        results: list[Detections] = self.results
        return results


@pytest.mark.parametrize("count", [0, 2, 4])
def test_another_number_of_results_stops_the_stage(count: int) -> None:
    with pytest.raises(UserError, match=rf"Odd\.detect gave {count} results, {count} of them Detections, for 3"):
        detect_each(Odd([no_detections(3)] * count), PHOTOS, RejectLog("detect"))


@pytest.mark.parametrize("other", [None, {}, (1, 2)])
def test_results_of_another_type_stop_the_stage(other: object) -> None:
    with pytest.raises(UserError, match=r"gave 3 results, 2 of them Detections, for 3 images"):
        detect_each(Odd([no_detections(3), other, no_detections(3)]), PHOTOS, RejectLog("detect"))


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (None, "gave NoneType as boxes"),
        ((1, 2), "gave NoneType as boxes"),
        (replace(one_region(), scores=cast(Any, [1.0])), "gave list as scores"),
        (replace(one_region(), labels=np.zeros(1)), "gave float64 values as labels"),
        (replace(one_region(), labels=np.array(["dog"])), "gave <U3 values as labels"),
        (replace(one_region(), features=np.array([["x"] * 3])), "gave <U1 values as features"),
        (replace(one_region(), features=np.array([None])), "gave object values as features"),
        (replace(one_region(), scores=np.ones(1)[:, None]), "of shapes"),
    ],
)
def test_results_that_are_no_arrays_stop_the_stage(found: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        check_detections(found, Odd([]), 1)
