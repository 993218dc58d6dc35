"""What a survey found out about the input files, and whether a file still has that content.

A digest of 16 bytes is that of an image's own bytes. One that begins with WHOLE is of any other file, such as a list;
with INSIDE, of all images in a tar or a Parquet file; with RECORD, of what an image's record says. Images that the
survey did not hash have none; recorded_inputs.py compares them.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import chain, groupby
from typing import Any

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.parquet import open_parquet
from vlmixer.pipeline.image.readers.base import (
    FILES,
    ImageCorpus,
    ImageRef,
    InputPiece,
    content_digest,
    read_errors,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.corpus import survey
from vlmixer.pipeline.image.readers.records import read_provenance
from vlmixer.pipeline.image.recorded_inputs import HOLDERS, RecordedContents
from vlmixer.pipeline.units.inputs import KnownInput

INSIDE, RECORD, WHOLE = b"inside:", b"record:", b"whole:"
OF_AN_IMAGE = ("key", "position", "size", "digest", "url", "license", "reason", "detail")
"""What tells an image in such a file from another."""
ROWS_AT_ONCE = 512


def known_files(surveyed: Iterable[tuple[InputPiece, str]], *, contents: bool) -> Iterator[KnownInput]:
    """The local files that hold images, as they were when they were surveyed, and the images' records, as they are now.

    surveyed: the pieces, in their order, each with the file of its survey. contents: whether it hashed the images.
    """
    rows = ((piece, row) for piece, part in surveyed for row in _rows(part))
    last: InputPiece | None = None
    companions: dict[str, str] = {}
    for (source, format), found in groupby(rows, lambda each: (each[1]["source"], each[1]["format"])):
        piece, first = next(found)
        if format == FILES and first["stamp"]:
            unread = first["digest"] == with_name_digest(ImageRef(source)).digest
            yield KnownInput(source, first["stamp"], b"" if unread else first["digest"])
            if piece is not last:
                last, companions = piece, {file.name: file.companion for file in piece.files if file.companion}
            companion = companions.get(source, "")
            if companion and not files.is_url(companion):
                yield KnownInput(companion, files.stamp(companion), _of_record(first["url"], first["license"]))
        elif format in HOLDERS and first["stamp"]:
            images = chain([first], (row for _, row in found))
            digest = _of_images([row[name] for name in OF_AN_IMAGE] for row in images) if contents else b""
            yield KnownInput(source, first["stamp"], digest)


def known_wholes(corpus: ImageCorpus) -> Iterator[KnownInput]:
    """The other local files, as they are now: lists of images, region features and boxes, and what belongs to them."""
    read = np.zeros(len(corpus.inputs), bool)
    for piece in corpus.pieces:
        if piece.format in (FILES, *HOLDERS):
            rows = corpus.inputs.names.find([file.name for file in piece.files])
            read[rows[rows >= 0]] = True
    for at in range(0, len(corpus.set_aside), ROWS_AT_ONCE):
        read[corpus.inputs.names.find(corpus.set_aside[at : at + ROWS_AT_ONCE])] = True
    for name in sorted(set(corpus.inputs.names.at(np.flatnonzero(~read)))):
        if not files.is_url(name):
            stamp = files.stamp(name)
            digest = _of_whole(name)
            if files.stamp(name) == stamp:  # else it is changing, and `InputFiles.finish` says so
                yield KnownInput(name, stamp, digest)


def same_content(corpus: ImageCorpus, known: KnownInput, recorded: RecordedContents) -> bool | None:
    """Whether a file has the content that was surveyed, or that is recorded; None if that is not known. Of a file that
    is set aside and is no image's record, nothing but its name and size matters."""
    try:
        if not known.digest:
            aside = known.name in corpus.set_aside and known.name not in corpus.records
            return True if aside else recorded.same(known.name)
        if known.digest.startswith(RECORD):
            return _of_record(*(read_provenance(known.name) or ("", ""))) == known.digest
        if known.digest.startswith(WHOLE):
            return _of_whole(known.name) == known.digest
        if known.digest.startswith(INSIDE):
            pieces = [piece for piece in corpus.pieces if piece.files[0].name == known.name]
            refs = (ref for piece in pieces for ref in survey(piece, contents=True))
            return _of_images([getattr(ref, name) for name in OF_AN_IMAGE] for ref in refs) == known.digest
        return content_digest(files.read_blocks(known.name))[0] == known.digest
    except read_errors(known.name):
        return False


def _of_whole(name: str) -> bytes:
    digest = hashlib.sha256()
    for block in files.read_blocks(name):
        digest.update(block)
    return WHOLE + digest.digest()


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
