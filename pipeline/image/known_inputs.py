"""What a survey found out about the input files, and whether a file still has that content.

A digest of 16 bytes is that of a file's own bytes: of an image, or of a list of images. One that begins with INSIDE is
of all images in a tar or a Parquet file; one that begins with RECORD, of what an image's record says.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.parquet import open_parquet
from vlmixer.pipeline.image.readers.base import (
    FILES,
    LIST,
    MAX_IMAGE_BYTES,
    ImageCorpus,
    InputPiece,
    content_digest,
    read_errors,
)
from vlmixer.pipeline.image.readers.corpus import survey
from vlmixer.pipeline.image.readers.parquet import URL_TABLE, ParquetReader
from vlmixer.pipeline.image.readers.records import read_provenance
from vlmixer.pipeline.image.readers.tars import TarReader
from vlmixer.pipeline.units.inputs import KnownInput

INSIDE, RECORD = b"inside:", b"record:"
HOLDERS = (TarReader.format, ParquetReader.format)
"""Formats of files whose images are hashed one by one."""
OF_AN_IMAGE = ("key", "position", "size", "digest", "url", "license", "reason", "detail")
"""What tells an image in such a file from another."""
ROWS_AT_ONCE = 512


def known_files(surveyed: Iterable[tuple[InputPiece, str]]) -> Iterator[KnownInput]:
    """The local files that hold images, as they were when they were surveyed, and the images' records, as they are now.

    surveyed: the pieces, in their order, each with the file of its survey.
    """
    rows = ((piece, row) for piece, part in surveyed for row in _rows(part))
    for (source, format), found in groupby(rows, lambda each: (each[1]["source"], each[1]["format"])):
        piece, first = next(found)
        if format == FILES and first["stamp"]:
            yield KnownInput(source, first["stamp"], first["digest"])
            companion = next((file.companion for file in piece.files if file.name == source), "")
            if companion and not files.is_url(companion):
                yield KnownInput(companion, files.stamp(companion), _of_record(first["url"], first["license"]))
        elif format in HOLDERS and first["stamp"]:
            images = chain([first], (row for _, row in found))
            yield KnownInput(source, first["stamp"], _of_images([row[name] for name in OF_AN_IMAGE] for row in images))


def known_lists(pieces: Iterable[InputPiece]) -> Iterator[KnownInput]:
    """The local lists of images, as they are now. Longer ones than `content_digest` reads are left out."""
    for name in sorted({file.name for piece in pieces if piece.format in (LIST, URL_TABLE) for file in piece.files}):
        if not files.is_url(name) and files.size(name) < MAX_IMAGE_BYTES:
            stamp = files.stamp(name)
            digest, _ = content_digest(files.read_blocks(name))
            if files.stamp(name) == stamp:  # else it is changing, and `InputFiles.finish` says so
                yield KnownInput(name, stamp, digest)


def same_content(corpus: ImageCorpus, known: KnownInput) -> bool | None:
    """Whether a file has the content that was surveyed; None if that is not known. Of a file that is set aside and is
    no image's record, nothing but its name and size matters."""
    if not known.digest:
        return True if known.name in corpus.set_aside and known.name not in _records(corpus) else None
    try:
        if known.digest.startswith(RECORD):
            return _of_record(*(read_provenance(known.name) or ("", ""))) == known.digest
        if known.digest.startswith(INSIDE):
            pieces = [piece for piece in corpus.pieces if piece.files[0].name == known.name]
            refs = (ref for piece in pieces for ref in survey(piece, contents=True))
            return _of_images([getattr(ref, name) for name in OF_AN_IMAGE] for ref in refs) == known.digest
        return content_digest(files.read_blocks(known.name))[0] == known.digest
    except read_errors(known.name):
        return False


def _records(corpus: ImageCorpus) -> set[str]:
    return {file.companion for piece in corpus.pieces if piece.format == FILES for file in piece.files}


def _of_images(images: Iterable[list[Any]]) -> bytes:
    digest = hashlib.sha256()
    for image in images:
        values = [value.hex() if isinstance(value, bytes) else value for value in image]
        digest.update(json.dumps(values).encode())
    return INSIDE + digest.digest()


def _of_record(url: str, rights: str) -> bytes:
    return RECORD + hashlib.sha256(json.dumps([url, rights]).encode()).digest()


def _rows(part: str) -> Iterator[dict[str, Any]]:
    """The references in a part of the survey. A part may have those of a tar of any size, so they are not held."""
    with files.open_read(part) as file:
        table = open_parquet(file)
        columns = ["source", "format", "stamp", *OF_AN_IMAGE]
        for batch in table.iter_batches(ROWS_AT_ONCE, columns=columns, use_threads=False):
            yield from batch.to_pylist()
