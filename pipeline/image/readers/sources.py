"""Where images come from: single files, folders and globs, WebDataset tars, Parquet, img2dataset's output, lists.

Inputs are planned as pieces; a piece is surveyed into references, a row an image, and references are read back in any
order by any worker. References say where an image's bytes lie and what is known of its origin. Nothing here looks
into the images, and nothing holds more than one of them in memory.
"""

import hashlib
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice, pairwise
from typing import IO, Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rng import stable_hash, stable_id

TAR, PARQUET, LISTS = ".tar", ".parquet", (".txt", ".jsonl", ".ndjson")
PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
IMAGE_ENDINGS = frozenset("avif bmp dib gif ico jp2 jpe jpeg jpg mpo pcx png ppm sgi tga tif tiff webp".split())
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "img", "content")
URL_FIELDS = ("url", "image_url", "original_url", "coco_url", "flickr_url")
LICENSE_FIELDS = ("license", "licence", "license_url", "licence_url", "rights")
PATH_FIELDS = ("path", "image", "file_name", "filename", "file", "filepath")

FILES_A_PIECE = 4096
URLS_A_PIECE = 256
"""Fewer, as each costs a request."""
ROWS_A_PIECE = 1000
MAX_RECORD_BYTES = 1 << 20
READ_AHEAD = 8
"""Images that are fetched at a time where they lie behind a URL."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageRef:
    """An image, and where its bytes lie.

    source: the file that it is or lies in; key: which one of it (a tar's member, a Parquet row), "" for the whole file.
    position, size: bytes of a tar, or row and -1 in Parquet; -1, -1 for a whole file. order: (number of the input,
    place in it). digest: 16 bytes that are equal for equal contents. url, license: of its record, "" without.
    reason: why it cannot be read, if that is known already. other, photo: of a line of region features, first byte and
    bytes of the image's line in the file of predictions, and the photo that belongs to it.
    """

    source: str
    key: str = ""
    position: int = -1
    size: int = -1
    order: tuple[int, int] = (0, 0)
    digest: bytes = b""
    url: str = ""
    license: str = ""
    reason: str = ""
    detail: str = ""
    other: tuple[int, int] = (-1, -1)
    photo: str = ""

    @property
    def name(self) -> str:
        """Source and key in one."""
        return f"{self.source} {self.key}" if self.key else self.source

    @property
    def image_id(self) -> str:
        """Names the image in all that follows: sixteen hexadecimal digits."""
        return stable_id("image", self.source, self.key) if self.key else stable_id("image", self.source)


SURVEY = pa.schema(
    [
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("input", pa.int64(), nullable=False),
        pa.field("place", pa.int64(), nullable=False),
        pa.field("digest", pa.binary(16), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("license", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("other", pa.list_(pa.int64(), 2), nullable=False),
        pa.field("photo", pa.string(), nullable=False),
    ]
)
"""References on disk, a row each, in the order of the survey."""


def refs_table(refs: Sequence[ImageRef]) -> pa.Table:
    """The references as a table of schema SURVEY."""
    rows = [
        {**{k: v for k, v in vars(ref).items() if k != "order"}, "input": ref.order[0], "place": ref.order[1]}
        for ref in refs
    ]
    return pa.Table.from_pylist(rows, schema=SURVEY)


def refs_of(table: pa.Table) -> list[ImageRef]:
    """The references in a table of schema SURVEY."""
    return [
        ImageRef(order=(row.pop("input"), row.pop("place")), other=tuple(row.pop("other")), **row)
        for row in table.to_pylist()
    ]


@dataclass(frozen=True)
class Piece:
    """What is surveyed in one go. kind: files, tar, parquet, list, or fault (an input that cannot be planned).

    names: the files, with the number of each among the inputs and its record beside it ("" without); one name but for
    `files`. start, stop: rows of Parquet, bytes of a list or tar.
    """

    kind: str
    names: tuple[tuple[int, str, str], ...]
    start: int = 0
    stop: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Corpus:
    """The inputs as planned. set_aside: files that hold no images and are not meant to (records, statistics)."""

    inputs: list[FileStat]
    pieces: list[Piece]
    set_aside: list[str]


def plan(patterns: Sequence[str], *, key: str = "images.inputs") -> Corpus:
    """Pieces of all that the patterns name. Reads names, sizes and the ends of Parquet files, and passes over lists.

    Raises CallError for patterns that nothing matches and for packed tars.
    """
    found: dict[str, tuple[FileStat, bool]] = {}
    for pattern in patterns:
        # Text files below a folder may be anything; lists are those that are asked for as such.
        lists = pattern.lower().endswith(LISTS)
        for entry in files.expand([pattern], key=key):
            known = found.get(entry.name)
            found[entry.name] = (entry, lists or (known is not None and known[1]))
    listed = set(found)
    inputs = [entry for entry, _ in found.values()]
    records = _records(listed)
    set_aside = listed & (set(records.values()) | _bookkeeping(listed))
    pieces: list[Piece] = []
    photos: list[tuple[int, str, str]] = []
    for number, (entry, is_list) in enumerate(found.values()):
        lower = entry.name.lower()
        if entry.name in set_aside:
            continue
        if lower.endswith(PACKED_TARS):
            raise CallError(
                f"{key}: {entry.name} is a packed tar, which cannot be read from the middle. Unpack it to a plain .tar."
            )
        if is_list and lower.endswith(LISTS):
            pieces += _plan_list(number, entry)
        elif lower.endswith(TAR):
            pieces.append(Piece("tar", ((number, entry.name, ""),), 0, entry.size))
        elif lower.endswith(PARQUET):
            pieces += _plan_parquet(number, entry)
        else:
            photos.append((number, entry.name, records.get(entry.name, "")))
    photos.sort(key=lambda photo: (stable_hash("image", photo[1]), photo[1]))
    size = URLS_A_PIECE if any(files.is_url(name) for _, name, _ in photos) else FILES_A_PIECE
    chunks = [Piece("files", tuple(photos[at : at + size])) for at in range(0, len(photos), size)]
    return Corpus(inputs, [*chunks, *pieces], sorted(set_aside))


def _records(listed: set[str]) -> dict[str, str]:
    """By image file, the .json beside it with what is known of its origin; .txt captions are only set aside."""
    found: dict[str, str] = {}
    for name in listed:
        stem, ending = os.path.splitext(name)
        if ending[1:].lower() not in IMAGE_ENDINGS:
            continue
        record = f"{stem}.json"
        if record in listed or (not files.is_url(name) and os.path.isfile(record)):
            found[name] = record
    return found


def _bookkeeping(listed: set[str]) -> set[str]:
    """img2dataset's files beside its images: NAME_stats.json, captions, and the records NAME.parquet of tars and
    folders."""
    own = set()
    for name in listed:
        stem, ending = os.path.splitext(name)
        caption = ending == ".txt" and any(f"{stem}.{image}" in listed for image in IMAGE_ENDINGS)
        records = ending == PARQUET and f"{stem}_stats.json" in listed
        if name.endswith("_stats.json") or caption or (records and not _image_column(_parquet_schema(name))):
            own.add(name)
    return own


def _parquet_schema(name: str) -> pa.Schema:
    try:
        with files.open_read(name) as file:
            return pq.read_schema(file)
    except (OSError, pa.ArrowException):
        return pa.schema([])


def _plan_list(number: int, entry: FileStat) -> list[Piece]:
    """Runs of lines, by the bytes at which they begin."""
    name = ((number, entry.name, ""),)
    cuts, at, seen = [0], 0, 0
    try:
        with files.open_read(entry.name) as file:
            for line in file:
                at, seen = at + len(line), seen + 1
                if seen == (URLS_A_PIECE if b"://" in line else FILES_A_PIECE):
                    cuts.append(at)
                    seen = 0
    except OSError as error:
        return [Piece("fault", name, detail=f"unreadable_file {type(error).__name__}: {error}")]
    if not at:
        return [Piece("fault", name, detail="empty_file")]
    return [Piece("list", name, start, stop) for start, stop in pairwise([*cuts, at]) if stop > start]


def _plan_parquet(number: int, entry: FileStat) -> list[Piece]:
    """Runs of whole row groups, large groups cut."""
    name = ((number, entry.name, ""),)
    try:
        with files.open_read(entry.name) as file:
            parquet = pq.ParquetFile(file)
            rows = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
            column = _image_column(parquet.schema_arrow)
            columns = ", ".join(parquet.schema_arrow.names)
    except (OSError, pa.ArrowException) as error:
        return [Piece("fault", name, detail=f"unreadable_file {type(error).__name__}: {error}")]
    if not column:
        return [Piece("fault", name, detail=f"missing_field no column with the bytes of images: {columns}")]
    cuts, at = [0], 0
    for group in rows:
        inside = range(at + ROWS_A_PIECE, at + group, ROWS_A_PIECE)
        if at + group - cuts[-1] > ROWS_A_PIECE and cuts[-1] < at:
            cuts.append(at)
        cuts += inside
        at += group
    cuts = [*dict.fromkeys(cuts), at] if at else []
    if not cuts:
        return [Piece("fault", name, detail="empty_file no rows")]
    return [Piece("parquet", name, start, stop) for start, stop in pairwise(cuts) if stop > start]


def survey(piece: Piece, *, contents: bool) -> Iterator[ImageRef]:
    """The references of a piece. contents: whether `digest` is of the bytes, which are then read, or of the name."""
    if piece.kind == "files":
        known = (ImageRef(name, order=(number, 0)) for number, name, _ in piece.names)
        records = [record for _, _, record in piece.names]
        pairs = zip(known, records, strict=True)
        yield from _ahead(pairs, lambda pair: _with_record(_digested(pair[0], contents), pair[1]), piece.names[0][1])
    elif piece.kind == "list":
        entries = _list_entries(piece)
        first = next(entries, None)
        if first is not None:
            yield from _ahead(_chain(first, entries), lambda ref: _digested(ref, contents), first.source)
    elif piece.kind == "tar":
        yield from _survey_tar(piece, contents)
    elif piece.kind == "parquet":
        yield from _survey_parquet(piece, contents)
    else:
        number, name, _ = piece.names[0]
        reason, _, detail = piece.detail.partition(" ")
        yield named(ImageRef(name, order=(number, 0), reason=reason, detail=detail))


def _chain(first: Item, rest: Iterator[Item]) -> Iterator[Item]:
    yield first
    yield from rest


def _ahead(items: Iterator[Item], work: Callable[[Item], Result], where: str) -> Iterator[Result]:
    """`work` of each item, in order; several at a time where each waits for a network."""
    if not files.is_url(where):
        yield from map(work, items)
        return
    with ThreadPoolExecutor(READ_AHEAD) as pool:
        waiting: list[Future[Result]] = [pool.submit(work, item) for item in islice(items, READ_AHEAD)]
        while waiting:
            done = waiting.pop(0).result()
            waiting += [pool.submit(work, item) for item in islice(items, 1)]
            yield done


def named(ref: ImageRef) -> ImageRef:
    """The reference with a digest of its name."""
    name = f"{ref.source}\0{ref.key}".encode()
    return replace(ref, digest=hashlib.blake2b(name, digest_size=16, person=b"name").digest())


def content_digest(data: bytes) -> bytes:
    """Sixteen bytes that are equal for equal contents."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _digested(ref: ImageRef, contents: bool) -> ImageRef:
    """With a digest of the file's bytes; of its name where it is empty or cannot be read, which is told later."""
    if ref.reason or not contents:
        return named(ref)
    digest, length = hashlib.blake2b(digest_size=16), 0
    try:
        for block in files.read_blocks(ref.source):
            digest.update(block)
            length += len(block)
    except UserError:
        raise
    except _faults(ref.source):
        return named(ref)
    return replace(ref, digest=digest.digest()) if length else named(ref)


def _faults(name: str) -> tuple[type[Exception], ...]:
    """What reading `name` may raise for reasons that lie with the file; file systems behind URLs raise anything. (A
    UserError tells of what does not: a driver that is missing, credentials.)"""
    return (Exception,) if files.is_url(name) else (OSError, pa.ArrowException)


def _with_record(ref: ImageRef, record: str) -> ImageRef:
    if not record:
        return ref
    try:
        if files.size(record) > MAX_RECORD_BYTES:
            return ref
        url, rights = provenance(json.loads(files.read_bytes(record)))
    except (OSError, ValueError, RecursionError):
        return ref  # The image is what counts; a record that cannot be read tells nothing.
    return replace(ref, url=url, license=rights)


def provenance(record: Any) -> tuple[str, str]:
    """(URL, licence) in an image's record, "" where it has none. Fields: URL_FIELDS, LICENSE_FIELDS, in any case."""
    if not isinstance(record, Mapping):
        return "", ""
    lower = {str(name).lower(): value for name, value in record.items()}

    def first(names: Sequence[str]) -> str:
        values = (lower.get(name) for name in names)
        found = next((value for value in values if isinstance(value, str | int) and value != ""), "")
        return str(found).encode(errors="replace").decode()

    return first(URL_FIELDS), first(LICENSE_FIELDS)


def _list_entries(piece: Piece) -> Iterator[ImageRef]:
    number, name, _ = piece.names[0]
    folder = name.rpartition("/")[0]
    as_json = not name.lower().endswith(".txt")
    with files.open_read(name) as file:
        file.seek(piece.start)
        at = piece.start
        while at < piece.stop and (line := file.readline()):
            position, at = at, at + len(line)
            text = line.strip()
            if not text:
                continue
            ref = ImageRef(name, f"byte {position}", order=(number, position))
            try:
                where, url, rights = _list_entry(text.decode("utf-8-sig"), as_json)
            except UnicodeDecodeError as error:
                yield replace(ref, reason="not_utf8", detail=str(error))
            except (ValueError, RecursionError) as error:
                yield replace(ref, reason="not_json", detail=str(error))
            except LookupError as error:
                yield replace(ref, reason="missing_field", detail=str(error.args[0]))
            else:
                yield replace(ref, source=_located(where, folder), key="", url=url, license=rights)


def _list_entry(text: str, as_json: bool) -> tuple[str, str, str]:
    """(path or URL, URL, licence) of a line."""
    record: Any = json.loads(text) if as_json else text
    if isinstance(record, str):
        return record, record if files.is_url(record) else "", ""
    if not isinstance(record, dict):
        raise LookupError(f"expected a path or an object, found {type(record).__name__}")
    lower = {str(name).lower(): value for name, value in record.items()}
    paths = [lower[name] for name in (*PATH_FIELDS, *URL_FIELDS) if isinstance(lower.get(name), str) and lower[name]]
    if not paths:
        raise LookupError(f"none of {', '.join((*PATH_FIELDS, 'url'))} is among {', '.join(map(str, record))}")
    url, rights = provenance(record)
    return paths[0], url or (paths[0] if files.is_url(paths[0]) else ""), rights


def _located(where: str, folder: str) -> str:
    """Relative paths start at the list's folder, or else where the command was started."""
    if files.is_url(where) or os.path.isabs(where) or not folder:
        return where
    beside = files.join(folder, where)
    here = not files.is_url(folder) and not os.path.exists(beside) and os.path.exists(where)
    return where if here else beside


def _survey_tar(piece: Piece, contents: bool) -> Iterator[ImageRef]:
    (number, name, _), end = piece.names[0], piece.stop
    seen: set[int] = set()
    broken: list[str] = []
    try:
        with files.open_read(name) as file:
            for _, members in groupby(_members(file, broken), key=lambda member: _sample_key(member.name)):
                yield from _sample(list(members), ImageRef(name, order=(number, 0)), file, end, contents, seen)
    except UserError:
        raise
    except _faults(name) as error:
        broken.append(f"{type(error).__name__}: {error}")
    if broken:
        yield named(ImageRef(name, order=(number, end), reason="unreadable_file", detail=broken[0]))


def _members(file: IO[bytes], broken: list[str]) -> Iterator[tarfile.TarInfo]:
    """The members that are files or links; puts into `broken` where the archive is damaged or breaks off."""
    at = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]
                at = tar.offset
                if not member.isdir():
                    yield member
            # tarfile takes a broken header for the end; the true end is blocks of zeros.
            file.seek(at)
            rest = file.read(tarfile.BLOCKSIZE)
            if len(rest) < tarfile.BLOCKSIZE or rest.strip(b"\0"):
                broken.append(f"the archive is damaged or breaks off at byte {at}")
    except (tarfile.TarError, EOFError, ValueError) as error:
        broken.append(f"{error} (behind byte {at})")


def _sample_key(name: str) -> str:
    """WebDataset's: the path up to the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _sample(
    members: list[tarfile.TarInfo], blank: ImageRef, file: IO[bytes], end: int, contents: bool, seen: set[int]
) -> Iterator[ImageRef]:
    """The images among the members of one key, or one reference that says that there is none."""
    plain = [member for member in members if _ending(member, first=True) in IMAGE_ENDINGS]
    images = plain or [member for member in members if _ending(member, first=False) in IMAGE_ENDINGS]
    if not images:
        names = ", ".join(_printable(member.name) for member in members)
        place = members[0].offset
        ref = replace(blank, key=_printable(members[0].name), order=(blank.order[0], place))
        yield named(replace(ref, reason="no_image", detail=names))
        return
    url = rights = ""
    for member in members:
        if _ending(member, first=True) == "json" and member.isfile() and member.size <= MAX_RECORD_BYTES:
            file.seek(member.offset_data)
            try:
                url, rights = provenance(json.loads(file.read(member.size)))
            except (ValueError, RecursionError):
                continue
    for member in images:
        key = _printable(member.name)
        hashed = stable_hash(key)
        if hashed in seen:
            key = f"{key}@{member.offset}"
        seen.add(hashed)
        ref = replace(
            blank, key=key, position=member.offset_data, size=member.size, url=url, license=rights,
            order=(blank.order[0], member.offset),
        )  # fmt: skip
        if not member.isfile():
            ref = replace(ref, reason="unreadable_file", detail="a link")
        elif member.offset_data + member.size > end:
            ref = replace(ref, reason="unreadable_file", detail="the archive ends within it")
        if ref.reason or not contents or not member.size:
            yield named(ref)
            continue
        yield replace(ref, digest=_digest_of_part(file, member.offset_data, member.size))


def _digest_of_part(file: IO[bytes], start: int, size: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    file.seek(start)
    while size > 0 and (block := file.read(min(size, 1 << 20))):
        digest.update(block)
        size -= len(block)
    return digest.digest()


def _ending(member: tarfile.TarInfo, *, first: bool) -> str:
    """The ending of a member's name behind its first or last dot, in lower case."""
    base = member.name.rpartition("/")[2]
    return (base.partition(".")[2] if first else base.rpartition(".")[2]).lower()


def _printable(name: str) -> str:
    """Bytes that are no UTF-8 come as lone surrogates, which no output file can hold."""
    return name.encode(errors="backslashreplace").decode()


def _image_column(schema: pa.Schema) -> str:
    """The column with the images' bytes, `name` or `name.bytes`; "" if there is none."""
    usable = {}
    for column in schema:
        if pa.types.is_struct(column.type) and any(field.name == "bytes" for field in column.type):
            usable[column.name.lower()] = f"{column.name}.bytes"
        elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
            usable[column.name.lower()] = column.name
    for name in IMAGE_COLUMNS:
        if name in usable:
            return usable[name]
    return next(iter(usable.values())) if len(usable) == 1 else ""


def _survey_parquet(piece: Piece, contents: bool) -> Iterator[ImageRef]:
    number, name, _ = piece.names[0]
    row = piece.start
    blank = ImageRef(name)

    def at(row: int) -> ImageRef:
        return replace(blank, key=str(row), position=row, order=(number, row))

    try:
        for row, data, record in _parquet_rows(name, piece.start, piece.stop, contents, records=True):
            url, rights = provenance(record)
            ref = replace(at(row), url=url, license=rights)
            if data is None and contents:
                yield named(replace(ref, reason="missing_field", detail="no bytes in this row"))
            else:
                yield replace(ref, digest=content_digest(data)) if data else named(ref)
            row += 1
    except UserError:
        raise
    except _faults(name) as error:
        detail = f"{type(error).__name__}: {error}"
        for lost in range(row, piece.stop):
            yield named(replace(at(lost), reason="unreadable_file", detail=detail))


def _parquet_rows(
    name: str, start: int, stop: int, images: bool, records: bool
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """(row, bytes or None, its other fields of use) for rows start … stop-1, read as a stream."""
    with files.open_read(name) as file:
        parquet = pq.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
        image = _image_column(parquet.schema_arrow)
        top = image.partition(".")[0]
        fields = [column for column in parquet.schema_arrow.names if column.lower() in (*URL_FIELDS, *LICENSE_FIELDS)]
        columns = [*([image] if images or not records else []), *(fields if records else [])]
        groups, at, first = [], 0, None
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if at < stop and at + rows > start:
                groups.append(group)
                first = at if first is None else first
            at += rows
        row = first or 0
        if not columns:
            yield from ((row, None, {}) for row in range(start, stop))
            return
        for batch in parquet.iter_batches(16, row_groups=groups, columns=columns, use_threads=False):
            held = batch.column(batch.schema.get_field_index(top)) if image in columns else None
            for index in range(batch.num_rows):
                if row >= stop:
                    return
                if row >= start:
                    value = None if held is None else held[index].as_py()
                    data = value["bytes"] if isinstance(value, dict) else value
                    yield row, data, {field: batch.column(field)[index].as_py() for field in fields if records}
                row += 1


@dataclass(frozen=True)
class Unreadable:
    """In place of an image's bytes: why they are not to be had."""

    reason: str
    detail: str = ""


def read_images(refs: Sequence[ImageRef], max_bytes: float) -> Iterator[tuple[ImageRef, bytes | Unreadable]]:
    """The bytes of each reference, in order; files of many images are opened once for a run of them."""
    for source, run in groupby(refs, key=lambda ref: ref.source if ref.position >= 0 else None):
        if source is None:
            whole = list(run)
            yield from _ahead(iter(whole), lambda ref: (ref, _read_file(ref, max_bytes)), whole[0].source)
        elif source.lower().endswith(PARQUET):
            yield from _read_parquet(source, list(run), max_bytes)
        else:
            yield from _read_tar(source, list(run), max_bytes)


def _read_file(ref: ImageRef, max_bytes: float) -> bytes | Unreadable:
    if ref.reason:
        return Unreadable(ref.reason, ref.detail)
    try:
        data = files.read_start(ref.source, int(max_bytes) + 1)
    except UserError:
        raise
    except _faults(ref.source) as error:
        what = (error.strerror if isinstance(error, OSError) else None) or error
        return Unreadable("unreadable_file", f"{type(error).__name__}: {what}")
    return data if len(data) <= max_bytes else _too_large(len(data))


def _too_large(size: int) -> Unreadable:
    return Unreadable("too_large_file", f"{size} bytes or more")


def _read_tar(source: str, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[tuple[ImageRef, bytes | Unreadable]]:
    done = 0
    try:
        with files.open_read(source) as file:
            for ref in refs:
                result: bytes | Unreadable
                if ref.reason:
                    result = Unreadable(ref.reason, ref.detail)
                elif ref.size > max_bytes:
                    result = _too_large(ref.size)
                else:
                    file.seek(ref.position)
                    result = file.read(ref.size)
                    if len(result) < ref.size:
                        result = Unreadable("unreadable_file", "the archive ends within it")
                done += 1
                yield ref, result
    except UserError:
        raise
    except _faults(source) as error:
        for ref in refs[done:]:
            yield ref, Unreadable("unreadable_file", f"{type(error).__name__}: {error}")


def _read_parquet(
    source: str, refs: Sequence[ImageRef], max_bytes: float
) -> Iterator[tuple[ImageRef, bytes | Unreadable]]:
    wanted = iter(refs)
    ref = next(wanted, None)
    fault = Unreadable("unreadable_file", "the file has fewer rows than when the run began")
    try:
        for row, data, _ in _parquet_rows(source, refs[0].position, refs[-1].position + 1, True, records=False):
            if ref is None or row != ref.position:
                continue
            if ref.reason:
                yield ref, Unreadable(ref.reason, ref.detail)
            elif data is None:
                yield ref, Unreadable("missing_field", "no bytes in this row")
            else:
                yield ref, data if len(data) <= max_bytes else _too_large(len(data))
            ref = next(wanted, None)
    except UserError:
        raise
    except _faults(source) as error:
        fault = Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
    while ref is not None:
        yield ref, Unreadable(ref.reason, ref.detail) if ref.reason else fault
        ref = next(wanted, None)
