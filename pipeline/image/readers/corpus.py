"""Where images come from: plans inputs as pieces, surveys pieces into references, reads references.

READERS is the table of formats. To add a format, write its reader in a file of its own and add a line here. Nothing
here looks into the images, and nothing holds more than one of them in memory.
"""

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import groupby, islice

import numpy as np

from vlmixer.artifacts import files, memory
from vlmixer.artifacts.dropped import Dropped
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files import FileStats
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy
from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.unchanged import check_unchanged
from vlmixer.pipeline.image.readers.base import (
    FILES,
    ImageCorpus,
    ImageReader,
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.bookkeeping import bookkeeping_files, is_side_file, may_be_side_file
from vlmixer.pipeline.image.readers.features import FeatureReader
from vlmixer.pipeline.image.readers.image_files import FileReader
from vlmixer.pipeline.image.readers.lists import ListReader, UrlTableReader, is_list
from vlmixer.pipeline.image.readers.loose import ImageFiles
from vlmixer.pipeline.image.readers.parquet import ParquetReader
from vlmixer.pipeline.image.readers.records import NO_RECORD, find_records
from vlmixer.pipeline.image.readers.tars import TarReader

NOTHING_DROPPED = Dropped()
READERS: tuple[ImageReader, ...] = (
    ListReader(),
    TarReader(),
    ParquetReader(),
    FeatureReader(),
    UrlTableReader(),
    FileReader(),
)
"""A file goes to the first reader that takes it."""

_BY_FORMAT = {reader.format: reader for reader in READERS}


def plan(
    patterns: Sequence[str],
    readers: Sequence[ImageReader] = READERS,
    without: Dropped = NOTHING_DROPPED,
    out: str = "",
) -> ImageCorpus:
    """The pieces of all files that the patterns name, but for results in the output folder `out`. Reads names, sizes,
    the ends of Parquet files, and lists.

    without: image files that are passed over as if they were not there.

    Files in a folder, and matches of a glob that ends in *, count as images if their endings or their first bytes are
    those of images; others are set aside. Raises CallError for patterns that match no image, and for packed tars.
    """
    inputs, lists, named = _listed(patterns, without, out)
    records = find_records(inputs.names)
    aside = bookkeeping_files(inputs.names)
    aside[records[records >= 0]] = True
    photos_reader: ImageReader | None = None
    photos = array("q")
    others: list[tuple[ImageReader, InputFile]] = []
    for number, entry in enumerate(inputs):
        if aside[number]:
            continue
        reader = next(reader for reader in readers if reader.takes(entry.name, as_list=entry.name in lists))
        if reader.format == FILES and entry.name not in named and is_side_file(entry.name):
            aside[number] = True
        elif reader.format == FILES:
            photos_reader = reader
            photos.append(number)
        else:
            others.append((reader, InputFile(number, entry.name, entry.size, stamp=entry.stamp)))
    numbers = np.frombuffer(photos, np.int64)
    loose = ImageFiles(inputs, numbers, records[numbers] != NO_RECORD)
    # Photos come first and are planned all together.
    pieces = photos_reader.plan(loose.in_order_of_hash()) if photos_reader else []
    for reader, group in groupby(others, key=lambda pair: pair[0]):
        pieces += reader.plan([file for _, file in group])
    if not pieces:
        raise CallError(
            f"images.inputs: no image among the {len(inputs)} files that match "
            f"({', '.join(nsmallest(3, inputs.names))}, …). "
            "Files with other endings count only if their first bytes are those of an image."
        )
    of_photos = records[numbers]
    memory.give_back()
    return ImageCorpus(
        inputs,
        pieces,
        set_aside=files.in_order(inputs.names.at(np.flatnonzero(aside))),
        records=files.Strings(inputs.names.at(of_photos[of_photos >= 0])),
    )


def _listed(patterns: Sequence[str], without: Dropped, out: str) -> tuple[FileStats, set[str], set[str]]:
    """The files that the patterns name; which of them are lists, and which count as images whatever they are."""
    inputs, lists, named = list[FileStats](), set[str](), set[str]()
    for pattern in patterns:
        entries = files.expand([pattern], key="images.inputs", out=out)
        if without.images:
            entries = entries.where(lambda name: not without.has_image(ImageRef(name).image_id))
        inputs.append(entries)
        if is_list(pattern):  # other text files in a folder may be anything
            lists.update(entries.names)
        if not files.is_folder(pattern) and not pattern.endswith("*"):
            named.update(filter(may_be_side_file, entries.names))
    return FileStats.merged(inputs), lists, named


def survey(piece: InputPiece, *, contents: bool, fetch: FetchPolicy = PATIENT) -> Iterator[ImageRef]:
    """The references of a piece. contents: whether `digest` is of the bytes, which are then read, or of the name.

    Raises UserError if a file was changed since it was planned.
    """
    if not piece.reason:
        empty = True
        stamps = {file.name: file.stamp for file in piece.files}
        for ref in _reader(piece.format, fetch).survey(piece, contents=contents):
            planned = stamps.get(ref.source)
            stamp = files.stamp(ref.source) if planned is None else planned
            yield ref if ref.stamp == stamp else replace(ref, stamp=stamp)
            empty = False
        for file in piece.files:
            check_unchanged(file.name, file.stamp)
        if not empty or piece.start or piece.stop < piece.files[0].size:
            return
        piece = replace(piece, reason="empty_file", detail="no image in it")
    (file,) = piece.files
    ref = ImageRef(file.name, format=piece.format, order=(file.number, 0), reason=piece.reason, detail=piece.detail)
    yield with_name_digest(ref)


def _reader(name: str, fetch: FetchPolicy) -> ImageReader:
    reader = _BY_FORMAT[name]
    return replace(reader, fetch=fetch) if isinstance(reader, FileReader | ListReader | UrlTableReader) else reader


def one_unit(piece: InputPiece) -> bool:
    """Whether one unit of work takes all images of the piece, since they are read in one go."""
    return not piece.reason and _BY_FORMAT[piece.format].one_unit_per_piece


def read_images(
    refs: Sequence[ImageRef], max_bytes: float, fetch: FetchPolicy = PATIENT
) -> Iterator[tuple[ImageRef, bytes | Unreadable]]:
    """The bytes of each reference, in order. A file that holds many images is opened once for a run of them.

    Raises UserError if a file was changed since it was planned.
    """
    for name, group in groupby(refs, key=lambda ref: ref.format):
        run = list(group)
        readable = _reader(name, fetch).read([ref for ref in run if not ref.reason], max_bytes)
        for ref in run:
            found = Unreadable(ref.reason, ref.detail) if ref.reason else next(readable)
            check_unchanged(ref.source, ref.stamp)
            yield ref, found


@dataclass(frozen=True)
class CorpusSample:
    """References from all over a corpus, and the size of the whole.

    images: how many there are, exact if `counted`, or else estimated from bytes. bytes: those of the files they are in,
    images behind lists left out.
    """

    refs: list[ImageRef]
    images: int
    bytes: int
    counted: bool


def sample(corpus: ImageCorpus, most: int, max_pieces: int = 64) -> CorpusSample:
    """Up to about `most` references from at most `max_pieces` pieces, the same for the same corpus. Reads no image."""
    pieces = sorted(corpus.pieces, key=lambda piece: stable_hash("probe", piece.files[0].name, piece.start))
    chosen = pieces[:max_pieces]
    share = -(-most // max(len(chosen), 1))
    refs: list[ImageRef] = []
    seen = seen_bytes = 0
    for piece in chosen:
        found = list(islice(survey(_start(piece, share), contents=False), share))
        refs += found
        if found and _count(piece) is None:
            length = piece.stop - piece.start if len(found) < share else found[-1].order[1] - piece.start
            seen, seen_bytes = seen + len(found), seen_bytes + max(length, 1)
    counts = [_count(piece) for piece in pieces]
    estimates = [
        round((piece.stop - piece.start) * seen / max(seen_bytes, 1)) if count is None else count
        for piece, count in zip(pieces, counts, strict=True)
    ]
    holders = [piece for piece in pieces if not piece.reason and _BY_FORMAT[piece.format].holds_images]
    return CorpusSample(refs, sum(estimates), files_in(holders)[1], None not in counts)


def files_in(pieces: Sequence[InputPiece]) -> tuple[int, int]:
    """The number of different files, and their bytes."""
    cut = {piece.files[0].name: piece.files[0].size for piece in pieces if piece.format != FILES}
    loose = [piece for piece in pieces if piece.format == FILES]
    total = sum(file.size for piece in loose for file in piece.files)
    return len(cut) + sum(len(piece.files) for piece in loose), sum(cut.values()) + total


def _count(piece: InputPiece) -> int | None:
    return 0 if piece.reason else _BY_FORMAT[piece.format].count(piece)


def _start(piece: InputPiece, count: int) -> InputPiece:
    """The piece with at most `count` of its files. Their order is that of a hash already."""
    return replace(piece, files=piece.files[:count])
