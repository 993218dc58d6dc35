"""Transforms on unbounded collections: each element has its own result, in its window."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from tests.pipeline.beam.test_detection import WORDS, WholeImage, png

from vlmixer.pipeline.beam import DetectRegions, TagSentences

SECONDS = 10


def stream(elements: Iterable[tuple[int, Any]]) -> TestStream:
    """An unbounded collection of elements, each with its second; the watermark follows them."""
    made = TestStream()
    for second, element in elements:
        made = made.add_elements([TimestampedValue(element, second)]).advance_watermark_to(second)
    return made.advance_watermark_to_infinity()


def check(
    transform: Any,
    name: Callable[[Any], str],
    elements: Sequence[tuple[int, Any]],
    found: Sequence[tuple[str, int]],
    lost: Sequence[tuple[str, int]],
) -> None:
    """Run it over the stream. name: of a result. found, lost: names with the starts of their windows.

    The timestamp of a result is the end of its window, as that of its batch.
    """

    def look(element: Any, window: Any = beam.DoFn.WindowParam, time: Any = beam.DoFn.TimestampParam) -> Any:
        return element, int(window.start), time < window.max_timestamp()

    options = PipelineOptions(["--streaming"])
    with beam.Pipeline(runner=BundleBasedDirectRunner(), options=options) as pipeline:  # FnApiRunner has no TestStream
        windows = pipeline | stream(elements) | beam.WindowInto(FixedWindows(SECONDS))
        results, rejects = windows | transform.with_rejects()
        seen = (
            results | beam.Map(name) | "LookAtResults" >> beam.Map(look) | "Found" >> beam.WindowInto(GlobalWindows())
        )
        assert_that(seen, equal_to([(*each, False) for each in found]), "found")
        keys = rejects | beam.Map(lambda row: row.key) | "LookAtRejects" >> beam.Map(look)
        where = keys | beam.MapTuple(lambda *each: each[:2]) | "Lost" >> beam.WindowInto(GlobalWindows())
        assert_that(where, equal_to(list(lost)), "lost")


def test_sentences_of_a_stream_are_tagged_in_their_windows():
    texts = [(1, ("a", "a dog")), (4, ("b", "no such")), (12, ("c", "dogs")), (13, ("d", "")), (31, ("e", "dog"))]
    found, lost = [("a", 0), ("c", 10), ("e", 30)], [("b", 0), ("d", 10)]
    check(TagSentences(WORDS, "rules"), lambda row: row.sentence_id, texts, found, lost)


def test_images_of_a_stream_are_detected_in_their_windows():
    images = [(1, ("a", png(7))), (4, ("b", b"")), (12, ("c", png(9))), (31, ("d", png(5)))]
    found, lost = [("a", 0), ("c", 10), ("d", 30)], [("b", 0)]
    check(DetectRegions(WholeImage, WORDS), lambda row: row.source, images, found, lost)
