"""The elements of the public transforms: rows with a schema, which SQL, other languages and Beam's sinks can read."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

import apache_beam as beam
from apache_beam.typehints.decorators import no_annotations

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rng import stable_id

Row = TypeVar("Row", bound=tuple[Any, ...])
_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Text(NamedTuple):
    """A sentence. `key` is unique; a plain str in its place has a hash of itself for a key."""

    key: str
    text: str


class ImageFile(NamedTuple):
    """The bytes of an image file. `name` is unique: the image's id is a hash of it."""

    name: str
    data: bytes


class GroundedWord(NamedTuple):
    """A mention: `text[start:end]` is `surface`, and means `concept`."""

    start: int
    end: int
    concept: str
    surface: str
    lemma: str


class TaggedSentence(NamedTuple):
    """A sentence with its mentions, at least one. `sentence_id`: its key, see `plain_key`."""

    sentence_id: str
    text: str
    mentions: Sequence[GroundedWord]


class DetectedRegion(NamedTuple):
    """A region. `box`: xyxy in pixels of the upright image. `feature`: D little-endian float16. `crop`: JPEG."""

    patch_id: str
    box: Sequence[float]
    concept: str
    score: float
    feature: bytes
    crop: bytes


class DetectedImage(NamedTuple):
    """An image with its regions, at least one, best first. `source`: its name. `width`, `height`: pixels, upright."""

    image_id: str
    source: str
    width: int
    height: int
    regions: Sequence[DetectedRegion]


class Rejected(NamedTuple):
    """An element that was not used. `key`: its key, name or id. `reason`: one of artifacts.rejects.REASONS."""

    key: str
    reason: str
    detail: str


class WrittenFile(NamedTuple):
    """A file of the output: its name there, its samples or patches, its size, and its SHA-256 in hexadecimal."""

    name: str
    rows: int
    bytes: int
    sha256: str


for _row in (Text, ImageFile, GroundedWord, TaggedSentence, DetectedRegion, DetectedImage, Rejected, WrittenFile):
    beam.coders.registry.register_coder(_row, beam.coders.RowCoder)


def plain_key(key: str) -> str:
    """The key itself if it is plain (letters, digits, _ and -, at most 64), or else sixteen digits that stand for it.

    Keys become names in tars, where a dot would end them.
    """
    return key if _PLAIN.fullmatch(key) else stable_id("key", key)


def fields_of(element: object, *names: str) -> tuple[Any, ...] | None:
    """The values of these fields of a row (beam.Row, NamedTuple, dataclass) or a dict; None if it lacks one."""
    if isinstance(element, Mapping):
        return tuple(element[name] for name in names) if all(name in element for name in names) else None
    return tuple(getattr(element, name) for name in names) if all(hasattr(element, name) for name in names) else None


def pair_of(element: object, first: str, second: str) -> tuple[Any, Any] | None:
    """The two parts of a plain tuple, or of what has two such fields, in any order; None for other elements."""
    if type(element) is tuple:
        return element if len(element) == 2 else None
    found = fields_of(element, first, second)
    return None if found is None else (found[0], found[1])


def as_row(kind: type[Row], element: object, transform: str) -> Row:
    """The element as a row of this kind: itself, or a row or dict with its fields. Raises UserError for others."""
    if isinstance(element, kind):
        return element
    names = cast(Any, kind)._fields
    found = fields_of(element, *names)
    if found is None:
        raise UserError(
            f"{transform}: an element is {repr(element)[:100]}, expected a {kind.__name__}, or a row or dict with its "
            f"fields {', '.join(names)}."
        )
    return cast(Any, kind)(*found)


def as_sentence(element: object, transform: str) -> TaggedSentence:
    """The element as a TaggedSentence with a plain id. Raises UserError, also for mentions that are not in the text."""
    row = as_row(TaggedSentence, element, transform)
    words = [as_row(GroundedWord, word, transform) for word in row.mentions]
    if not isinstance(row.sentence_id, str) or not isinstance(row.text, str):
        raise UserError(f"{transform}: sentence_id and text of {repr(row)[:100]} are not both str.")
    for word in words:
        if row.text[word.start : word.end] != word.surface or not word.surface:
            raise UserError(
                f"{transform}: sentence {row.sentence_id}: text[{word.start}:{word.end}] is "
                f"{row.text[word.start : word.end]!r}, its mention says {word.surface!r}."
            )
    return TaggedSentence(plain_key(row.sentence_id), row.text, words)


@no_annotations
def as_image(element: object, transform: str) -> DetectedImage:
    """The element as a DetectedImage. Raises UserError."""
    row = as_row(DetectedImage, element, transform)
    if all(isinstance(region, DetectedRegion) for region in row.regions):
        return row
    return row._replace(regions=[as_row(DetectedRegion, region, transform) for region in row.regions])
