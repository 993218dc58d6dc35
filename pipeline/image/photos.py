"""From references to decoded photos in batches. Decoding runs ahead of a detector that works on an accelerator."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from vlmixer.artifacts.ahead import ahead
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy
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
    known of its regions. earlier: what an earlier run found in it.
    """

    ref: ImageRef
    width: int
    height: int
    pixels: np.ndarray | None
    known: KnownRegions | None = None
    earlier: "EarlierRegions | None" = None


@dataclass(frozen=True)
class EarlierRegions:
    """The rows of regions/ that an earlier run wrote for an image; None, and the reason, if it has none."""

    rows: pa.Table | None
    reason: str = ""
    detail: str = ""


class Content(NamedTuple):
    """The number of bytes that were read of an image, and their SHA-256."""

    size: int
    sha256: bytes

    @classmethod
    def of(cls, data: bytes) -> "Content":
        """That of these bytes."""
        return cls(len(data), hashlib.sha256(data).digest())


NOTHING = Content.of(b"")


@dataclass
class MetImage:
    """An image that was read, and what became of it.

    rows: of the survey, with it; row: its row there. width, height: pixels, 0 if it was not decoded. reason: why it is
    not used, one of artifacts.rejects.REASONS; "" if it has regions.
    """

    ref: ImageRef
    rows: SurveyRows
    row: int
    content: Content
    width: int = 0
    height: int = 0
    reason: str = ""
    detail: str = ""


class PhotoSource(Protocol):
    """Turns references to images into photos."""

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[Content, Photo | Unreadable]]:
        """For each reference, in order: what was read, and the photo or why there is none."""
        ...


@dataclass(frozen=True)
class ImageSource:
    """Photos from files of images. max_pixels: larger images are not decoded. fetch: for those behind URLs."""

    max_pixels: float
    fetch: FetchPolicy = PATIENT

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[Content, Photo | Unreadable]]:
        for ref, data in read_images(refs, max_file_bytes(self.max_pixels), self.fetch):
            if isinstance(data, Unreadable):
                yield NOTHING, data
            else:
                yield Content.of(data), decode_photo(ref, data, self.max_pixels)


@dataclass(frozen=True)
class FeatureSource:
    """Photos whose regions are known, from lines of region features; with pixels if there are photos."""

    lines: FeatureLines
    max_pixels: float
    fetch: FetchPolicy = PATIENT

    def photos(self, refs: Sequence[ImageRef]) -> Iterator[tuple[Content, Photo | Unreadable]]:
        for ref, line in read_images(refs, MAX_LINE_BYTES):
            if isinstance(line, Unreadable):
                yield NOTHING, line
                continue
            known = self.lines.parse(ref, line)
            if isinstance(known, Unreadable):
                yield Content.of(line), known
            elif not ref.photo:
                yield Content.of(line), Photo(ref, known.width, known.height, None, known)
            else:
                ((_, data),) = read_images([ImageRef(ref.photo)], max_file_bytes(self.max_pixels), self.fetch)
                if isinstance(data, Unreadable):
                    yield Content.of(line), data
                else:
                    yield Content.of(line + data), self._with_pixels(ref, known, data)

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
    """Reads the photos of a unit.

    folder: where the parts of the survey are. duplicates: gives those among some rows of it, each with the name of the
    first image of its content. After the iteration, `met` has all images of the unit in order, those
    that cannot be used with a reason; `bytes` is their size, `class_names` are the classes of known regions, and
    `sha256` is the hash over one line NAME\\0SHA256 per image.
    """

    def __init__(self, folder: str, source: PhotoSource, duplicates: Callable[[SurveyRows], Mapping[int, str]]) -> None:
        self.folder = folder
        self.source = source
        self._duplicates = duplicates
        self.met: list[MetImage] = []
        self.bytes = 0
        self.class_names: set[str] = set()
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """In hexadecimal."""
        return self._digest.hexdigest()

    def photos(self, rows: Sequence[SurveyRows], *, decode_ahead: bool) -> Iterator[Photo]:
        """The usable images, in order. decode_ahead: in a thread, while the accelerator works."""
        items = self._items(rows)
        for met, result in ahead(items, PHOTOS_AHEAD) if decode_ahead else items:
            self.met.append(met)
            self.bytes += met.content.size
            self._digest.update(f"{met.ref.name}\0{met.content.sha256.hex()}\n".encode())
            if isinstance(result, Unreadable):
                met.reason, met.detail = result.reason, result.detail
                continue
            met.width, met.height = result.width, result.height
            if result.known is not None:
                self.class_names.update(result.known.names)
            yield result

    def _items(self, rows: Sequence[SurveyRows]) -> Iterator[tuple[MetImage, Photo | Unreadable]]:
        for run in rows:
            first = self._duplicates(run)
            refs = run.read(self.folder)
            for row, (ref, (content, result)) in enumerate(
                zip(refs, self.source.photos(refs), strict=True), start=run.start
            ):
                met = MetImage(ref, run, row, content)
                # Last, because a copy of a broken image counts as broken.
                if row in first and isinstance(result, Photo):
                    yield met, Unreadable("duplicate", f"the same bytes as {first[row]}")
                else:
                    yield met, result


def decode_photo(ref: ImageRef, data: bytes, max_pixels: float) -> Photo | Unreadable:
    """The decoded image, or why there is none. Raises UserError if memory is too small: what becomes of an image must
    not depend on the machine."""
    try:
        pixels = decode(data, max_pixels=max_pixels)
        return Photo(ref, pixels.shape[1], pixels.shape[0], pixels)
    except ImageRejected as rejected:
        return Unreadable(rejected.reason, rejected.detail)
    except MemoryError as error:
        raise UserError(
            f"{ref.name}: out of memory ({error}). Give the process more, use fewer --workers, or lower "
            "images.max_megapixels; then rerun the command to resume."
        ) from None


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
