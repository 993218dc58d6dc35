"""DetectRegions: what it takes, and whose fault a failure is."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.io import fileio
from apache_beam.io.filesystem import FileMetadata
from apache_beam.testing.util import assert_that, equal_to
from PIL import Image
from tests.pipeline.beam.test_transforms import run

from vlmixer.bank.concepts import Concept, Vocabulary
from vlmixer.pipeline.beam import DetectRegions, ImageFile
from vlmixer.pipeline.config import ImageSettings
from vlmixer.pipeline.image.detectors.base import Detections

WORDS = Vocabulary("words", (Concept(0, "dog", ()),))
FAILURES = {
    "ValueError": ValueError("not this one"),
    "TypeError": TypeError("no len()"),
    "NameError": NameError("name 'anchor' is not defined"),
}


def png(shade: int) -> bytes:
    """A picture of one grey."""
    file = io.BytesIO()
    Image.new("RGB", (16, 12), (shade,) * 3).save(file, "PNG")
    return file.getvalue()


class DataFirst(NamedTuple):
    """Its fields are in another order than those of ImageFile."""

    data: bytes
    name: str


class WholeImage:
    """The whole image is a dog. Raises on white images what `failure` says; with `always`, on all."""

    labels = ("dog",)
    feature_dim = 1

    def __init__(self, weights: Any, device: str, score_threshold: float, failure: str = "", always: bool = False):
        self._failure, self._always = failure, always

    def detect(self, images: Sequence[np.ndarray]) -> list[Detections]:
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Detections:
        if self._failure and (self._always or image.min() == 255):
            raise FAILURES[self._failure]
        height, width = image.shape[:2]
        box = np.array([[0, 0, width, height]], np.float32)
        return Detections(box, np.ones(1, np.float32), np.zeros(1, np.int64), np.full((1, 1), image.mean(), np.float32))


def whole_image(**options: Any) -> Any:
    """DetectRegions with that class itself."""
    return DetectRegions(WholeImage, WORDS, ImageSettings(detector_options=options)).with_rejects()


def check(elements: Sequence[Any], found: Sequence[tuple[str, int]], lost: Sequence[tuple[str, str]], **options: Any):
    """Run it over the elements. found: names with greys; lost: names with reasons."""

    def build(pipeline: beam.Pipeline) -> None:
        images, rejects = pipeline | beam.Create(elements) | whole_image(**options)
        greys = images | beam.Map(lambda row: (row.source, int(np.frombuffer(row.regions[0].feature, "<f2")[0])))
        assert_that(greys, equal_to(list(found)), label="found")
        assert_that(rejects | beam.Map(lambda row: (row.key, row.reason)), equal_to(list(lost)), label="lost")

    run(build)


@pytest.mark.parametrize(
    "element",
    [("a", png(7)), ("a", bytearray(png(7))), ImageFile("a", png(7)), DataFirst(png(7), "a"),
     {"data": png(7), "size": 1, "name": "a"}, beam.Row(data=png(7), name="a")],
)  # fmt: skip
def test_names_with_bytes_are_read_by_their_fields(element: object):
    check([element], [("a", 7)], [])


def test_paths_may_be_path_objects(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(png(7))
    check([tmp_path / "a.png"], [(str(tmp_path / "a.png"), 7)], [])


@pytest.mark.parametrize(
    "element",
    [(17, png(7)), (None, png(7)), ("a", "b.jpg"), ("a", 7), ["a", png(7)], ("a", png(7), 1), png(7), None,
     beam.Row(id="a", image=png(7)), FileMetadata("a.jpg", 10)],
)  # fmt: skip
def test_another_element_is_shown_with_what_was_expected(element: object):
    with pytest.raises(Exception, match=r"DetectRegions: an element is .*, expected \(name, bytes\), a row or dict"):
        run(lambda pipeline: pipeline | beam.Create([element]) | DetectRegions(WholeImage, WORDS))


def test_an_image_that_is_absent_or_gone_is_a_reject(tmp_path: Path):
    gone = fileio.ReadableFile(FileMetadata(str(tmp_path / "gone.jpg"), 10))
    check([("none", None), gone], [], [("none", "missing_field"), (str(tmp_path / "gone.jpg"), "unreadable_file")])


def test_images_of_one_name_have_each_their_own_result():
    images = [("a", png(255)), ("a", png(7)), ("a", b""), ("a", png(9))]
    check(images, [("a", 7), ("a", 9)], [("a", "failed_in_detector"), ("a", "empty_file")], failure="ValueError")


@pytest.mark.parametrize("failure", ["ValueError", "TypeError"])
def test_a_detector_that_fails_on_one_image_costs_this_one(failure: str):
    check([("a", png(7)), ("white", png(255))], [("a", 7)], [("white", "failed_in_detector")], failure=failure)


@pytest.mark.parametrize(
    ("failure", "always"), [("NameError", False), ("NameError", True), ("TypeError", True)]
)  # fmt: skip
def test_a_mistake_in_the_code_of_a_detector_stops_the_pipeline(failure: str, always: bool):
    with pytest.raises(Exception, match=rf"WholeImage\.detect fails for any image: {failure}: .*test_detection\.py"):
        check([("a", png(7)), ("white", png(255))], [], [], failure=failure, always=always)


def test_windows_stay(tmp_path: Path):
    def build(pipeline: beam.Pipeline) -> None:
        stamped = [beam.window.TimestampedValue((f"{second}", png(second)), second) for second in (5, 15, 17)]
        images, _ = pipeline | beam.Create(stamped) | beam.WindowInto(beam.window.FixedWindows(10)) | whole_image()
        named = images | beam.Map(lambda row, window=beam.DoFn.WindowParam: (row.source, int(window.start)))
        assert_that(named, equal_to([("5", 0), ("15", 10), ("17", 10)]), reify_windows=False)

    run(build)
