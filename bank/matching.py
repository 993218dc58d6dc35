"""The names of the images that a bank, or samples, are made of."""

from collections.abc import Iterable

from vlmixer.artifacts.image_names import ImageName
from vlmixer.artifacts.samples import ImageSample, Sample
from vlmixer.bank.store import PatchBank


def bank_images(bank: PatchBank) -> Iterable[ImageName]:
    """The images that have patches in a bank, once or more."""
    for concept in bank.concepts:
        columns = bank.patches(concept.name).columns
        values = (columns[name].to_pylist() for name in ("image_id", "source", "key", "url"))
        yield from (ImageName(*row) for row in zip(*values, strict=True))


def sample_images(samples: Iterable[Sample]) -> Iterable[ImageName]:
    """The images that image samples are made of."""
    return (ImageName(sample.image_id, sample.source) for sample in samples if isinstance(sample, ImageSample))
