"""The names of the images that a bank, or samples, are made of."""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from vlmixer.artifacts.image_names import MOST_COMPARED, SIMILAR_TO, ImageName, SimilarNames, WantedNames
from vlmixer.artifacts.samples import ImageSample, Sample
from vlmixer.bank.store import PatchBank

_NAMES = ("image_id", "source", "key", "url")


def bank_images(bank: PatchBank, names: Sequence[str]) -> Iterator[ImageName]:
    """The images with patches in a bank that the names may mean, once or more. Holds one concept at a time."""
    wanted = WantedNames(names)
    for rows in _each_concept(bank):
        paths = [rows["source"], rows["key"]]
        may_mean = wanted.may_mean([rows["image_id"], rows["url"], *paths], paths)
        yield from _images(rows.filter(pa.array(may_mean)))


def similar_names(bank: PatchBank, missing: Sequence[str], most_compared: int = MOST_COMPARED) -> SimilarNames:
    """What is similar in a bank to the first names that are missing. most_compared: as in `SimilarNames.look`."""
    few = missing[:SIMILAR_TO]
    similar = SimilarNames(few)
    left = most_compared
    for rows in _each_concept(bank) if few else ():
        similar.look(_images(rows.slice(0, left // len(few))))
        left -= len(few) * len(rows)
        if left <= 0:
            break
    return similar


def _each_concept(bank: PatchBank) -> Iterator[pa.Table]:
    """The names of the images of each concept's patches."""
    schema = pa.schema([pa.field(name, pa.string()) for name in _NAMES])
    for concept in bank.concepts:
        yield bank.patches(concept.name, keep=False).table.select(_NAMES).cast(schema)


def _images(rows: pa.Table) -> Iterator[ImageName]:
    yield from (ImageName(*row) for row in zip(*(column.to_pylist() for column in rows.columns), strict=True))


def sample_images(samples: Iterable[Sample]) -> Iterable[ImageName]:
    """The images that image samples are made of."""
    return (ImageName(sample.image_id, sample.source) for sample in samples if isinstance(sample, ImageSample))
