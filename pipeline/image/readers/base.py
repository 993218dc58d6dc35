"""What every reader of image inputs shares: files to read, pieces of them, references to images, and the protocol.

A reader plans inputs as pieces, surveys a piece into references (one per image), and reads the bytes of references in
any order, in any worker. The readers themselves are in files of their own; corpus.py has the table of them.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol, TypeVar

import pyarrow as pa

from vlmixer.artifacts import files
from vlmixer.artifacts.files import FileStats, Strings
from vlmixer.artifacts.rng import stable_id

FILES = "files"
"""The format of images that are files of their own."""
LIST = "list"
"""The format of lists of images."""
FETCHED_AT_ONCE = 8
"""Images behind URLs that are fetched at the same time."""

MAX_IMAGE_BYTES = 1 << 31
"""More than photos.max_file_bytes of the most pixels that a config can allow."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read. number: its place among the inputs. size: bytes. companion: the file that describes it (a photo's
    record, the predictions for region features), "" without one. stamp: of the file when it was planned."""

    number: int
    name: str
    size: int = 0
    companion: str = ""
    stamp: str = ""


@dataclass(frozen=True)
class InputPiece:
    """What is surveyed in one go: files, or a part of one file.

    format: the name of its reader. start, stop: rows of Parquet, bytes of a tar or list. photos: for region features,
    the JSON file with the photos by id, "" without photos. reason, detail: why the file cannot be read, if planning
    found that it cannot.
    """

    format: str
    files: Sequence[InputFile]
    start: int = 0
    stop: int = 0
    photos: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class ImageCorpus:
    """The inputs as planned. set_aside: files that hold no images and are not meant to (records, statistics), sorted.
    records: those of them that are of images."""

    inputs: FileStats
    pieces: list[InputPiece]
    set_aside: Strings
    records: Strings


@dataclass(frozen=True, slots=True)
class ImageRef:
    """An image, and where its bytes are.

    source: the image file, or the file that contains it. key: which image of that file (a tar's member, a Parquet row),
    "" for a whole file. format: the name of the reader that reads it. position, size: bytes of a tar; row and -1 in
    Parquet; -1, -1 for a whole file. order: (number of the input, place in it). digest: 16 bytes, equal for equal
    contents. url, license: from its record, "" without. reason, detail: why it cannot be read, if that is known. stamp:
    of the file `source` when it was planned or, if a list names it, surveyed; "" behind a URL.

    Of region features only: predictions, the file with the image's classes; prediction, first byte and number of bytes
    of its line there; photo, the photo that belongs to it.
    """

    source: str
    key: str = ""
    format: str = FILES
    position: int = -1
    size: int = -1
    order: tuple[int, int] = (0, 0)
    digest: bytes = b""
    url: str = ""
    license: str = ""
    reason: str = ""
    detail: str = ""
    stamp: str = ""
    predictions: str = ""
    prediction: tuple[int, int] = (-1, -1)
    photo: str = ""

    @property
    def name(self) -> str:
        """Source and key in one."""
        return f"{self.source} {self.key}" if self.key else self.source

    @property
    def image_id(self) -> str:
        """The image's name in all later stages: sixteen hexadecimal digits."""
        return stable_id("image", self.source, self.key) if self.key else stable_id("image", self.source)


@dataclass(frozen=True)
class Unreadable:
    """Takes the place of an image's bytes that cannot be read. reason: one of artifacts.rejects.REASONS."""

    reason: str
    detail: str = ""


class ImageReader(Protocol):
    """One format of image inputs."""

    @property
    def format(self) -> str:
        """Its name in pieces and references."""
        ...

    @property
    def one_unit_per_piece(self) -> bool:
        """Whether the images of a piece are read in one go, so that one unit of work takes them all."""
        ...

    @property
    def holds_images(self) -> bool:
        """Whether the images are in its files; a list only names them."""
        ...

    def takes(self, name: str, *, as_list: bool) -> bool:
        """Whether it reads the file. as_list: the config names the file, or a glob of its ending, as a list."""
        ...

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        """The pieces of these files. Reads no image. Raises CallError for files that must be converted first."""
        ...

    def count(self, piece: InputPiece) -> int | None:
        """The number of images in the piece; None if only a survey can tell."""
        ...

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        """One reference per image. contents: whether `digest` is of the image's bytes (which are then read) or of its
        name."""
        ...

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        """The bytes of each reference, in order. The references have this format and no `reason`."""
        ...


def unreadable_piece(format: str, file: InputFile, reason: str, detail: str = "") -> InputPiece:
    """The piece for a file that planning found unreadable. Its survey gives one reference, which says so."""
    return InputPiece(format, (file,), reason=reason, detail=detail)


def with_name_digest(ref: ImageRef) -> ImageRef:
    """The reference with a digest of its name."""
    return replace(ref, digest=name_digest(ref.source, ref.key))


def name_digest(source: str, key: str) -> bytes:
    """The digest of an image's name."""
    return hashlib.blake2b(f"{source}\0{key}".encode(), digest_size=16, person=b"name").digest()


def content_digest(blocks: Iterator[bytes]) -> tuple[bytes, int]:
    """Sixteen bytes that are equal for equal contents, and the number of bytes read; the rest of a file that is larger
    than any image can be is not read."""
    digest, length = hashlib.blake2b(digest_size=16), 0
    for block in blocks:
        digest.update(block)
        length += len(block)
        if length > MAX_IMAGE_BYTES:
            break
    return digest.digest(), length


def read_errors(name: str) -> tuple[type[Exception], ...]:
    """What reading `name` may raise if the file is at fault. File systems behind URLs raise anything.

    Let UserError pass first: it reports a missing driver or missing credentials, which are no file's fault.
    """
    return (Exception,) if files.is_url(name) else (OSError, pa.ArrowException)


def too_large(size: int) -> Unreadable:
    """Instead of the bytes of a file above the limit."""
    return Unreadable("too_large_file", f"{size} bytes or more")


def map_ahead(items: Iterator[Item], work: Callable[[Item], Result], where: str) -> Iterator[Result]:
    """`work` of each item, in order; if `where` is a URL, of several items at the same time."""
    if not files.is_url(where):
        yield from map(work, items)
        return
    with ThreadPoolExecutor(FETCHED_AT_ONCE) as pool:
        waiting: list[Future[Result]] = [pool.submit(work, item) for item in islice(items, FETCHED_AT_ONCE)]
        while waiting:
            done = waiting.pop(0).result()
            waiting += [pool.submit(work, item) for item in islice(items, 1)]
            yield done
