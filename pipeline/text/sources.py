"""Reading sentences from files: a file is read as slices, so that a big plain file is shared among workers.

Formats go by the name: .txt (any other ending too), .jsonl, .json (COCO captions), .parquet; all but the last also
with .gz or .zst behind. A sentence's position is the byte at which its line begins in the unpacked file, or its row in
a .json or .parquet file.
"""

import codecs
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from artifacts import files
from artifacts.files import FileStat
from artifacts.manifest import Input
from artifacts.rejects import RejectLog
from artifacts.rng import stable_id

UNIT_BYTES = 8 << 20
"""Text that one unit of work reads; small files are packed together up to it, big plain files split by it."""

MAX_UNIT_SLICES = 1000
MAX_LINE_BYTES = 1 << 20

ZSTD_BYTES = 2048
"""Read at once; at worst they unpack to 64 MiB."""


@dataclass(frozen=True)
class Slice:
    """The lines of `name` that begin at bytes start … end-1 (of the unpacked file); end -1: to its end."""

    name: str
    size: int
    start: int = 0
    end: int = -1


@dataclass(frozen=True)
class Line:
    """One stored sentence: its text without white space around it, and where it stands."""

    source: str
    position: int
    text: str

    @property
    def sentence_id(self) -> str:
        """Unique over the corpus: a name for the file, then the position in it."""
        return f"{source_id(self.source)}-{self.position:012d}"


def source_id(name: str) -> str:
    """Twelve hexadecimal digits that name a source in sentence ids."""
    return stable_id("sentences", name, digits=12)


def plan_slices(inputs: Sequence[FileStat], unit_bytes: int = UNIT_BYTES) -> list[tuple[Slice, ...]]:
    """Units of work: runs of slices of about `unit_bytes`. Packed files, .json and .parquet are never split."""
    slices = [piece for file in inputs for piece in _split(file, unit_bytes)]
    units: list[list[Slice]] = []
    filled = 0
    for piece in slices:
        length = (piece.size if piece.end < 0 else piece.end) - piece.start
        if not units or filled + length > unit_bytes or len(units[-1]) >= MAX_UNIT_SLICES:
            units.append([])
            filled = 0
        units[-1].append(piece)
        filled += length
    return [tuple(unit) for unit in units]


def can_split(name: str) -> bool:
    """Whether lines can be found from the middle of the file."""
    return not name.lower().endswith((".gz", ".zst", ".parquet", ".json"))


def _split(file: FileStat, unit_bytes: int) -> list[Slice]:
    if not can_split(file.name) or file.size <= unit_bytes:
        return [Slice(file.name, file.size)]
    cuts = [*range(0, file.size, unit_bytes), file.size]
    return [Slice(file.name, file.size, start, end) for start, end in pairwise(cuts)]


class Reading:
    """Reads the slices of a unit; counts what it read, and records what it could not use in `log`.

    After the iteration `read` is the number of inputs met (sentences, blank or broken lines, unreadable files) and
    `inputs` tells the bytes that were read and their hashes.
    """

    def __init__(self, field: str, max_characters: int, log: RejectLog) -> None:
        self.field = field
        self.max_characters = max_characters
        self.log = log
        self.read = 0
        self.inputs: list[Input] = []

    def lines(self, slices: Sequence[Slice]) -> Iterator[Line]:
        """The usable sentences of the slices, in order."""
        for piece in slices:
            if piece.size == 0:
                self._reject(piece.name, "", "empty_file")
                self.inputs.append(Input(piece.name, 0, hashlib.sha256().hexdigest()))
                continue
            try:
                yield from self._slice(piece)
            except (OSError, EOFError, zlib.error, pa.ArrowException, zstandard.ZstdError, UnicodeDecodeError) as error:
                self._reject(piece.name, piece.start or "", "unreadable_file", f"{type(error).__name__}: {error}")

    def _reject(self, source: str, key: object, reason: str, detail: str = "") -> None:
        self.read += 1
        self.log.add(source, key, reason, detail)

    def _slice(self, piece: Slice) -> Iterator[Line]:
        self.inputs.append(_describe(piece))
        with files.open_read(piece.name) as file:
            lower = piece.name.lower()
            kind = lower.removesuffix(".gz").removesuffix(".zst")
            if lower.endswith(".parquet"):
                yield from self._parquet(piece.name, file)
            elif kind.endswith(".json"):
                yield from self._coco_json(piece.name, _unpack(piece.name, file))
            else:
                for position, data in _raw_lines(piece, file):
                    yield from self._line(piece.name, position, data, kind.endswith((".jsonl", ".ndjson")))

    def _line(self, source: str, position: int, data: bytes | None, as_json: bool) -> Iterator[Line]:
        if data is None:
            self._reject(source, position, "too_long", f"a line of more than {MAX_LINE_BYTES} bytes")
            return
        try:
            text = (data.removeprefix(codecs.BOM_UTF8) if position == 0 else data).decode()
        except UnicodeDecodeError as error:
            self._reject(source, position, "not_utf8", str(error))
            return
        if not as_json or not text.strip():
            yield from self._sentence(source, position, text)
            return
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._reject(source, position, "not_json", str(error))
            return
        yield from self._record(source, position, record)

    def _record(self, source: str, position: int, record: Any) -> Iterator[Line]:
        found = record.get(self.field) if isinstance(record, dict) else None
        if not isinstance(found, str):
            self._reject(source, position, "missing_field", f"{self.field!r} is {type(found).__name__}, expected text")
            return
        yield from self._sentence(source, position, found)

    def _sentence(self, source: str, position: int, text: str) -> Iterator[Line]:
        text = text.strip()
        if not text:
            self._reject(source, position, "empty_line")
        elif len(text) > self.max_characters:
            self._reject(source, position, "too_long", f"{len(text)} characters, at most {self.max_characters}")
        elif not _encodable(text):
            self._reject(source, position, "not_utf8", "half a surrogate pair")
        else:
            self.read += 1
            yield Line(source, position, text)

    def _coco_json(self, name: str, file: IO[bytes]) -> Iterator[Line]:
        try:
            content = json.loads(file.read().decode("utf-8-sig"))
            records = content["annotations"] if isinstance(content, dict) else content
            if not isinstance(records, list):
                raise TypeError("annotations is no list")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._reject(name, "", "unreadable_file", f"expected COCO captions or a list: {error!r}")
            return
        for row, record in enumerate(records):
            if isinstance(record, str):
                yield from self._sentence(name, row, record)
            else:
                yield from self._record(name, row, record)

    def _parquet(self, name: str, file: IO[bytes]) -> Iterator[Line]:
        table = pq.ParquetFile(file)
        if self.field not in table.schema_arrow.names:
            self._reject(name, "", "missing_field", f"no column {self.field!r}: {', '.join(table.schema_arrow.names)}")
            return
        row = 0
        for batch in table.iter_batches(batch_size=4096, columns=[self.field]):
            for value in batch.column(0):
                try:
                    record = {self.field: value.as_py()}
                except UnicodeDecodeError as error:
                    self._reject(name, row, "not_utf8", str(error))
                else:
                    yield from self._record(name, row, record)
                row += 1


def _describe(piece: Slice) -> Input:
    """The slice's bytes and their hash, by a pass of its own: readers jump about and stop early."""
    digest, length = hashlib.sha256(), 0
    left = (piece.size if piece.end < 0 else piece.end) - piece.start
    with files.open_read(piece.name) as file:
        file.seek(piece.start)
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            length += len(block)
            left -= len(block)
    return Input(piece.name, length, digest.hexdigest(), piece.start, piece.end)


def _raw_lines(piece: Slice, file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(position, line without its end) for the lines that begin in the slice; None for a line over the limit."""
    position = max(piece.start - 1, 0)
    if position:
        file.seek(position)
    stream = _unpack(piece.name, file)
    if piece.start > 0:
        position += _skip_line(stream)
    while piece.end < 0 or position < piece.end:
        line = stream.readline(MAX_LINE_BYTES + 1)
        if not line:
            return
        begin = position
        position += len(line)
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            position += _skip_line(stream)
            yield begin, None
        else:
            yield begin, line.rstrip(b"\r\n")


def _skip_line(stream: IO[bytes]) -> int:
    skipped = 0
    while part := stream.readline(MAX_LINE_BYTES):
        skipped += len(part)
        if part.endswith(b"\n"):
            break
    return skipped


def _unpack(name: str, file: IO[bytes]) -> IO[bytes]:
    lower = name.lower()
    if lower.endswith(".gz"):
        return gzip.GzipFile(fileobj=file)  # type: ignore[return-value]
    if lower.endswith(".zst"):
        return io.BufferedReader(_ZstdFrames(file), 1 << 16)
    return file


class _ZstdFrames(io.RawIOBase):
    """The unpacked frames of `file`, one after the other. zstandard's own reader takes a frame that breaks off for
    the end; this raises EOFError."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._packed = b""
        self._frame: Any = None
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._file.read(ZSTD_BYTES)
            if not self._packed:
                if self._frame is not None:
                    raise EOFError("the file ends within a compressed frame")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(self._packed))
            self._packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size


def _encodable(text: str) -> bool:
    """JSON may hold lone surrogates, which no UTF-8 file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
