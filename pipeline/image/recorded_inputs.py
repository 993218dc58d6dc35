"""Whether a file of images still has the content that regions/record says was read of it. This is for images whose
contents the survey did not hash: those of a config with `drop_duplicates: false`, and files that it could not use."""

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property

from vlmixer.artifacts import files
from vlmixer.artifacts.dropped import Dropped
from vlmixer.artifacts.files.http import FetchPolicy
from vlmixer.pipeline.image.photos import NOTHING, Content
from vlmixer.pipeline.image.readers.base import FILES, ImageCorpus, ImageRef, Unreadable
from vlmixer.pipeline.image.readers.corpus import read_images, survey
from vlmixer.pipeline.image.readers.parquet import ParquetReader
from vlmixer.pipeline.image.readers.tars import TarReader
from vlmixer.pipeline.image.record import IMAGES, each_group

HOLDERS = (TarReader.format, ParquetReader.format)
"""Formats of files that hold many images."""
_COLUMNS = ("source", "format", "key", "place", "url", "license", "bytes", "sha256")
_SUM = 1 << 256


class RecordedContents:
    """The contents of all files in the record of a finished stage. Holds a number per file that has images."""

    def __init__(self, regions: str, corpus: ImageCorpus, without: Dropped, max_bytes: float, fetch: FetchPolicy):
        """regions: the stage's folder. without: images that are not in the record, though they are in their files.
        max_bytes, fetch: as the stage read images."""
        self._regions = regions
        self._corpus = corpus
        self._without = without
        self._max_bytes = max_bytes
        self._fetch = fetch

    def same(self, name: str) -> bool | None:
        """Whether the file has the images that were read; None if the record does not say."""
        then = self._sums.get(name)
        return None if then is None else then == self._now(name)

    @cached_property
    def _sums(self) -> dict[str, int]:
        """Of each file, the sum of its images' hashes: the record has them in the order of units."""
        found: dict[str, int] = {}
        if not files.has_file(files.join(self._regions, IMAGES)):
            return found
        for group in each_group(self._regions, _COLUMNS):
            for row in group.to_pylist():
                if files.is_url(row["source"]) or row["format"] not in (FILES, *HOLDERS):
                    continue
                ref = ImageRef(row["source"], row["key"], row["format"], order=(0, row["place"]),
                               url=row["url"], license=row["license"])  # fmt: skip
                one = _hash(ref, Content(row["bytes"], row["sha256"]))
                # A photo that lists name several times has as many rows.
                found[ref.source] = one if ref.format == FILES else (found.get(ref.source, 0) + one) % _SUM
        return found

    def _now(self, name: str) -> int:
        total = 0
        for ref, data in read_images(list(self._images(name)), self._max_bytes, self._fetch):
            total += _hash(ref, NOTHING if isinstance(data, Unreadable) else Content.of(data))
        return total % _SUM

    def _images(self, name: str) -> Iterator[ImageRef]:
        pieces = [piece for piece in self._corpus.pieces if piece.files[0].name == name and piece.format != FILES]
        if not pieces:
            yield ImageRef(name)
        for piece in pieces:
            for ref in survey(piece, contents=False):
                if not self._without.has_image(ref.image_id):
                    yield ref


def _hash(ref: ImageRef, content: Content) -> int:
    """Of an image: what it is, and in a file of many, which one. What a record beside a photo, or a list, says of it is
    compared with that file."""
    which = [] if ref.format == FILES else [ref.key, ref.order[1], ref.url, ref.license]
    text = json.dumps([*which, content.size, content.sha256.hex()])
    return int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
