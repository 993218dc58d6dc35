"""The elements of the public transforms: rows with a schema, which SQL, other languages and Beam's sinks can read."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import apache_beam as beam

from vlmixer.artifacts.rng import stable_id

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Text(NamedTuple):
    """A sentence. `key` is unique; a plain str in its place has a hash of itself for a key."""

    key: str
    text: str


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


for _row in (Text, GroundedWord, TaggedSentence, DetectedRegion, DetectedImage, Rejected, WrittenFile):
    beam.coders.registry.register_coder(_row, beam.coders.RowCoder)


def plain_key(key: str) -> str:
    """The key itself if it is plain (letters, digits, _ and -, at most 64), or else sixteen digits that stand for it.

    Keys become names in tars, where a dot would end them.
    """
    return key if _PLAIN.fullmatch(key) else stable_id("key", key)
