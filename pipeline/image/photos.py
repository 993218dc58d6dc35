"""From references to decoded photos in batches. Decoding runs ahead of a detector that works on an accelerator."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.image.decoding import ImageRejected, decode
from vlmixer.pipeline.image.known_regions import FeatureLines, KnownRegions
from vlmixer.pipeline.image.plausibility import wrong_numbers
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import read_images
from vlmixer.pipeline.image.readers.features import MAX_LINE_BYTES
from vlmixer.pipeline.image.survey import SurveyRows

MAX_PIXELS_PER_BATCH = 32e6
PHOTOS_AHEAD = 32
"""Photos that are decoded ahead of an accelerator: one batch."""


@dataclass(frozen=True)
class Photo:
    """An image to find regions in, or one whose regions are known.

    pixels: (height, width, 3) uint8, upright RGB; None if the regions are known and there is no photo. known: what is
    known of its regions.
    """

    ref: ImageRef
    width: int
    height: int
    pixels: np.ndarray | None
    known: KnownRegions | None = None


class PhotoSource(Protocol):
    """Turns references to images into photos."""

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[bytes, Photo | Unreadable]]:
        """For each reference, in order: the bytes that were read, and the photo or why there is none."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """Photos from files of images. max_pixels: larger images are not decoded. fetch: for those behind URLs."""

    max_pixels: float
    fetch: FetchPolicy = PATIENT

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[bytes, Photo | Unreadable]]:
        for ref, data in read_images(refs, max_file_bytes(self.max_pixels), self.fetch):
            if isinstance(data, Unreadable):
                yield b"", data
            else:
                yield data, decode_photo(ref, data, self.max_pixels)


@dataclass(frozen=True)
class FeatureSource:
    """Photos whose regions are known, from lines of region features; with pixels if there are photos."""

    lines: FeatureLines
    max_pixels: float
    fetch: FetchPolicy = PATIENT

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[bytes, Photo | Unreadable]]:
        for ref, line in read_images(refs, MAX_LINE_BYTES):
            if isinstance(line, Unreadable):
                yield b"", line
                continue
            known = self.lines.parse(ref, line)
            if isinstance(known, Unreadable):
                yield line, known
            elif not ref.photo:
                yield line, Photo(ref, known.width, known.height, None, known)
            else:
                ((_, data),) = read_images([ImageRef(ref.photo)], max_file_bytes(self.max_pixels), self.fetch)
                if isinstance(data, Unreadable):
                    yield line, data
                else:
                    yield line + data, self._with_pixels(ref, known, data)

    def _with_pixels(self, ref: ImageRef, known: KnownRegions, data: bytes) -> Photo | Unreadable:
        photo = decode_photo(ref, data, self.max_pixels)
        if isinstance(photo, Unreadable):
            return photo
        if not known.width:
            known = replace(known, width=photo.width, height=photo.height)
            found = known.detections
            if wrong := wrong_numbers(found.boxes, found.scores, photo.width, photo.height):
                return Unreadable("bad_record", f"the photo {ref.photo}: {wrong}")
        if (photo.width, photo.height) != (known.width, known.height):
            sizes = f"{photo.width}×{photo.height}, the features are for {known.width}×{known.height}"
            return Unreadable("bad_record", f"the photo {ref.photo} is {sizes}")
        return replace(photo, known=known)


class PhotoReader:
    """Reads the photos of a unit and counts them; records in `log` the images that cannot be used.

    folder: where the parts of the survey are. After the iteration `read` is the number of images met, `bytes` their
    size, `class_names` the classes of known regions, and `sha256` the hash over one line NAME\\0SHA256 per image.
    """

    def __init__(self, folder: str, source: PhotoSource, log: RejectLog) -> None:
        self.folder = folder
        self.source = source
        self.log = log
        self.read = self.bytes = 0
        self.class_names: set[str] = set()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._digest.hexdigest()

    def photos(self, rows: Sequence[SurveyRows], *, decode_ahead: bool) -> Iterator[Photo]:
        """The usable images, in order. decode_ahead: in a thread, while the accelerator works."""
        items = self._items(rows)
        for ref, data, result in ahead(items, PHOTOS_AHEAD) if decode_ahead else items:
            self.read += 1
            self.bytes += len(data)
            self._digest.update(f"{ref.name}\0{hashlib.sha256(data).hexdigest()}\n".encode())
            if isinstance(result, Unreadable):
                self.log.add(ref.source, ref.key, result.reason, result.detail)
                continue
            if result.known is not None:
                self.class_names.update(result.known.names)
            yield result

    def _items(self, rows: Sequence[SurveyRows]) -> Iterator[tuple[ImageRef, bytes, Photo | Unreadable]]:
        for run in rows:
            first = dict(run.duplicates)
            refs = run.read(self.folder)
            for row, (ref, (data, result)) in enumerate(
                zip(refs, self.source.photos(refs), strict=True), start=run.start
            ):
                # Last, because a copy of a broken image counts as broken.
                if row in first and isinstance(result, Photo):
                    yield ref, data, Unreadable("duplicate", f"the same bytes as {first[row]}")
                else:
                    yield ref, data, result


def decode_photo(ref: ImageRef, data: bytes, max_pixels: float) -> Photo | Unreadable:
    """The decoded image, or why there is none."""
    try:
        pixels = decode(data, max_pixels=max_pixels)
        return Photo(ref, pixels.shape[1], pixels.shape[0], pixels)
    except ImageRejected as rejected:
        return Unreadable(rejected.reason, rejected.detail)


def max_file_bytes(max_pixels: float) -> float:
    """Larger files are not read into memory: sixteen bits for each of four channels, and one mebibyte for the rest."""
    return max_pixels * 8 + (1 << 20)


def in_batches(photos: Iterator[Photo], size: int, max_pixels: float = MAX_PIXELS_PER_BATCH) -> Iterator[list[Photo]]:
    """Lists of at most `size` photos. A list that reaches `max_pixels` is full."""
    batch: list[Photo] = []
    pixels = 0
    for photo in photos:
        batch.append(photo)
        pixels += photo.width * photo.height
        if len(batch) == size or pixels >= max_pixels:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
