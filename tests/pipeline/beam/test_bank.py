"""BuildPatchBank: what it takes, banks without patches, and images of one name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to
from tests.pipeline.beam.test_detection import WORDS, png
from tests.pipeline.beam.test_transforms import run

from vlmixer.bank.store import PatchBank
from vlmixer.pipeline.beam import (
    BuildPatchBank,
    DetectedImage,
    DetectedRegion,
    GroundedWord,
    MakeImageSamples,
    MixSentences,
    TaggedSentence,
)
from vlmixer.pipeline.config import BankSettings
from vlmixer.pipeline.verification.verify import verify


def image(name: str, number: int = 0) -> DetectedImage:
    """An image of one dog, its region with this number."""
    box = [0.0, 0.0, 16.0, 12.0]
    region = DetectedRegion(f"{name}-{number:03d}", box, "dog", 0.5, bytes([number, 60, 0, 61]), png(7))
    return DetectedImage(name, f"{name}.jpg", 16, 12, [region])


def build(images: Sequence[Any], out: Path, **options: Any) -> None:
    """Build a bank of these elements."""
    run(lambda pipeline: pipeline | beam.Create(images) | BuildPatchBank(str(out), WORDS, **options))


def as_dict(row: DetectedImage) -> dict[str, Any]:
    """Its fields, and those of its regions, in another order."""
    regions = [dict(reversed(region._asdict().items())) for region in row.regions]
    return dict(reversed({**row._asdict(), "regions": regions}.items()))


@pytest.mark.parametrize("convert", [as_dict, lambda row: beam.Row(**as_dict(row))], ids=["dicts", "rows"])
def test_rows_and_dicts_are_read_by_name(tmp_path: Path, convert: Callable[[DetectedImage], Any]):
    images = [image("a"), image("b", 1)]
    build(images, tmp_path / "rows")
    build([convert(row) for row in images], tmp_path / "others")
    for path in (tmp_path / "rows").iterdir():
        assert path.read_bytes() == (tmp_path / "others" / path.name).read_bytes()

    def make_samples(pipeline: beam.Pipeline) -> None:
        samples = pipeline | beam.Create([convert(row) for row in images]) | MakeImageSamples()
        assert_that(
            samples | beam.Map(lambda sample: (sample.key, sample.tags)), equal_to([("a", ("dog",)), ("b", ("dog",))])
        )

    run(make_samples)


@pytest.mark.parametrize("others", [[image("a")], [image("a", 1)]], ids=["of one patch", "of other patches"])
def test_images_of_one_name_are_refused(tmp_path: Path, others: list[DetectedImage]):
    with pytest.raises(Exception, match=r"two images have the name a\.jpg"):
        build([image("b"), image("a"), *others], tmp_path / "bank")
    assert not (tmp_path / "bank" / "manifest.json").exists()


@pytest.mark.parametrize("element", ["a.jpg", ("a", png(7)), {"image_id": "a"}, None])
def test_another_element_is_shown_with_what_was_expected(tmp_path: Path, element: object):
    with pytest.raises(
        Exception, match=r"BuildPatchBank: an element is .*, expected a DetectedImage, or a row or dict"
    ):
        build([element], tmp_path)


def test_without_a_region_there_is_no_bank_unless_it_is_allowed(tmp_path: Path):
    with pytest.raises(Exception, match=r"no region for .* allow_empty=True writes a bank without patches"):
        build([], tmp_path / "bank")
    assert not (tmp_path / "bank" / "manifest.json").exists()
    build([], tmp_path / "bank", allow_empty=True)
    assert verify(str(tmp_path / "bank")).problems == []
    assert len(PatchBank.open(str(tmp_path / "bank"))) == 0

    def mix(pipeline: beam.Pipeline) -> None:
        tagged = pipeline | beam.Create([TaggedSentence("s", "a dog", [GroundedWord(2, 5, "dog", "dog", "dog")])])
        mixed, rejects = tagged | MixSentences(str(tmp_path / "bank")).with_rejects()
        assert_that(mixed, equal_to([]), label="mixed")
        assert_that(rejects | beam.Map(tuple), equal_to([("s-00", "no_patch", "dog")]), label="rejects")

    run(mix)


def test_a_bank_that_is_there_is_replaced(tmp_path: Path):
    build([image("a"), image("b", 1)], tmp_path / "bank")
    build([image("c")], tmp_path / "bank")
    build([image("c")], tmp_path / "new")
    for path in (tmp_path / "new").iterdir():
        assert path.read_bytes() == (tmp_path / "bank" / path.name).read_bytes()
    assert verify(str(tmp_path / "bank")).problems == []


def test_less_than_one_patch_is_refused():
    with pytest.raises(ValueError, match="max_patches_per_concept is 0"):
        BuildPatchBank("bank", WORDS, BankSettings(max_patches_per_concept=0))
