"""Reading sentences from files, each a numbered place in the corpus; what is no sentence goes to the rejects.

Formats go by the name: .txt (any other ending too), .jsonl, .json (COCO captions, or a list), .parquet, .tar
(WebDataset, .txt and .json members); all but Parquet also with .gz or .zst behind. A position is the byte at which the
line, paragraph or member begins in the unpacked file, or the row in a .json or .parquet file.
"""

import codecs
import hashlib
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Input
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.tars import open_tar
from vlmixer.pipeline.text.readers.json_lists import BrokenJson, json_records
from vlmixer.pipeline.text.readers.lines import MAX_LINE_BYTES, paragraphs, raw_lines, unpack
from vlmixer.pipeline.text.readers.slices import Slice, can_split, kind, source_id
from vlmixer.pipeline.text.sentences import SentenceSplitter

ROWS_AT_ONCE = 4096
PACKED_BYTES_COUNTED = 4 << 20

_UNREADABLE = (
    OSError, EOFError, zlib.error, pa.ArrowException, zstandard.ZstdError, tarfile.TarError, BrokenJson,
)  # fmt: skip


class Line(NamedTuple):
    """One stored sentence and where it stands. `number` counts the sentences of one place that holds several (a
    paragraph, a document, a list of captions); -1 where it holds one."""

    source: str
    position: int
    number: int
    text: str

    @property
    def key(self) -> str:
        """The place in the source."""
        return f"{self.position}" if self.number < 0 else f"{self.position}-{self.number}"

    @property
    def sentence_id(self) -> str:
        """Unique over the corpus: a name for the file, the position in it, and the number there."""
        place = f"{source_id(self.source)}-{self.position:012d}"
        return place if self.number < 0 else f"{place}-{self.number:05d}"


class Reading:
    """Reads the slices of a unit; counts what it read, and records what it could not use in `log`.

    splitter: takes running text apart; None where a line, field or member is one sentence. After the iteration `read`
    is the number of inputs met (sentences, blank or broken lines, unreadable files) and `inputs` tells the bytes that
    were read and their hashes.
    """

    def __init__(
        self,
        log: RejectLog,
        *,
        field: str = "caption",
        min_characters: int = 1,
        max_characters: int = 1000,
        splitter: SentenceSplitter | None = None,
    ) -> None:
        self.log = log
        self.field = field
        self.min_characters = min_characters
        self.max_characters = max_characters
        self.splitter = splitter
        self.read = 0
        self.inputs: list[Input] = []

    def lines(self, slices: Sequence[Slice]) -> Iterator[Line]:
        """The usable sentences of the slices, in order."""
        for piece in slices:
            if piece.size == 0:
                self._reject(piece.name, "", "empty_file")
                self.inputs.append(Input(piece.name, 0, hashlib.sha256().hexdigest()))
                continue
            before = self.read
            try:
                self.inputs.append(_describe(piece))
                with files.open_read(piece.name) as file:
                    yield from self._slice(piece, file)
                if self.read == before and piece.bytes == piece.size:
                    self._reject(piece.name, "", "empty_file")
            except _UNREADABLE as error:
                self._reject(piece.name, piece.start or "", "unreadable_file", f"{type(error).__name__}: {error}")

    def sample(self, piece: Slice, most: int) -> tuple[list[str], int]:
        """Up to `most` usable sentences from the beginning of the slice, and about how many bytes of the file they
        took. Of a packed file more is counted, as its bytes are read in large pieces."""
        texts: list[str] = []
        with files.open_read(piece.name) as file:
            try:
                for line in self._slice(piece, file):
                    if len(texts) < most:
                        texts.append(line.text)
                    if len(texts) < most:
                        continue
                    if kind(piece.name) == "parquet":
                        rows = pq.ParquetFile(file).metadata.num_rows
                        return texts, max(piece.size * self.read // rows, 1)
                    if can_split(piece.name):
                        return texts, max(line.position - piece.start, 1)
                    if file.tell() >= PACKED_BYTES_COUNTED:
                        return texts, file.tell()
            except _UNREADABLE:
                pass
        return texts, piece.bytes

    def _reject(self, source: str, key: object, reason: str, detail: str = "") -> None:
        self.read += 1
        self.log.add(source, key, reason, detail)

    def _slice(self, piece: Slice, file: IO[bytes]) -> Iterator[Line]:
        form = kind(piece.name)
        if form == "parquet":
            yield from self._parquet(piece, file)
        elif form == "json":
            yield from self._json(piece.name, unpack(piece.name, file))
        elif form == "tar":
            yield from self._tar(piece.name, unpack(piece.name, file))
        elif form == "txt" and self.splitter is not None:
            for position, data in paragraphs(piece, file):
                yield from self._text(piece.name, position, self._decoded(piece.name, position, data))
        else:
            for position, data in raw_lines(piece, file):
                text = self._decoded(piece.name, position, data)
                if form == "txt" and text is not None:
                    # The usual case, without a generator a line.
                    if line := self._checked(piece.name, position, -1, text):
                        yield line
                elif text is not None and not text.strip():
                    self._reject(piece.name, position, "empty_line")
                elif text is not None:
                    yield from self._json_line(piece.name, position, text)

    def _decoded(self, source: str, position: int, data: bytes | None) -> str | None:
        """The line's text; None, and a reject, where it has none."""
        if data is None:
            self._reject(source, position, "too_long", f"more than {MAX_LINE_BYTES} bytes in one piece")
            return None
        try:
            return (data.removeprefix(codecs.BOM_UTF8) if position == 0 else data).decode()
        except UnicodeDecodeError as error:
            self._reject(source, position, "not_utf8", str(error))
            return None

    def _checked(self, source: str, position: int, number: int, text: str) -> Line | None:
        """The sentence, if it can be used; every one comes through here."""
        text = text.strip()
        line = Line(source, position, number, text)
        reason = detail = ""
        if not text:
            reason = "empty_line"
        elif len(text) > self.max_characters:
            reason, detail = "too_long", f"{len(text)} characters, at most {self.max_characters}"
        elif len(text) < self.min_characters:
            reason, detail = "too_short", f"{len(text)} characters, at least {self.min_characters}"
        elif "\0" in text:
            reason = "nul_byte"
        elif not _encodable(text):
            reason, detail = "not_utf8", "a lone surrogate"
        if reason:
            self._reject(source, line.key, reason, detail)
            return None
        self.read += 1
        return line

    def _text(self, source: str, position: int, text: str | None) -> Iterator[Line]:
        """The sentences of a text: itself, or those of running text."""
        if text is None:
            return
        if len(text) > MAX_LINE_BYTES:
            self._reject(source, position, "too_long", f"{len(text)} characters, at most {MAX_LINE_BYTES}")
            return
        numbered = [(-1, text)] if self.splitter is None else list(enumerate(self.splitter.split(text)))
        if not numbered:
            self._reject(source, position, "empty_line")
        for number, sentence in numbered:
            if line := self._checked(source, position, number, sentence):
                yield line

    def _json_line(self, source: str, position: int, text: str) -> Iterator[Line]:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._reject(source, position, "not_json", str(error))
            return
        yield from self._record(source, position, record)

    def _record(self, source: str, position: int, record: Any) -> Iterator[Line]:
        found = record.get(self.field) if isinstance(record, dict) else None
        if isinstance(found, str):
            yield from self._text(source, position, found)
        elif isinstance(found, list) and found and self.splitter is None:
            for number, text in enumerate(found):
                if not isinstance(text, str):
                    self._wrong_type(source, f"{position}-{number}", text)
                elif line := self._checked(source, position, number, text):
                    yield line
        else:
            self._wrong_type(source, position, found)

    def _wrong_type(self, source: str, key: object, found: object) -> None:
        self._reject(source, key, "missing_field", f"{self.field!r} is {type(found).__name__}, expected text")

    def _json(self, name: str, file: IO[bytes]) -> Iterator[Line]:
        """COCO's captions, {"annotations": [{"caption": …}, …]}, or a list of records or texts; read as a stream."""
        row = -1
        for row, record in enumerate(json_records(file, "annotations")):
            if isinstance(record, str):
                yield from self._text(name, row, record)
            else:
                yield from self._record(name, row, record)
        if row < 0:
            self._reject(
                name, "", "unreadable_file", 'expected a list that is not empty, at the top or as "annotations"'
            )

    def _parquet(self, piece: Slice, file: IO[bytes]) -> Iterator[Line]:
        table = pq.ParquetFile(file)
        columns = table.schema_arrow.names
        if self.field not in columns:
            if piece.start == 0:
                rows = table.metadata.num_rows
                self._reject(
                    piece.name, "", "missing_field", f"no column {self.field!r} in: {', '.join(columns)}; {rows} rows"
                )
            return
        row = 0
        for group in range(table.num_row_groups):
            begin = _begin(table.metadata.row_group(group))
            rows = table.metadata.row_group(group).num_rows
            if begin >= piece.start and (piece.end < 0 or begin < piece.end):
                yield from self._row_group(piece.name, table, group, row)
            row += rows

    def _row_group(self, name: str, table: pq.ParquetFile, group: int, row: int) -> Iterator[Line]:
        for batch in table.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[self.field], use_threads=False):
            for value in batch.column(0):
                try:
                    record = {self.field: value.as_py()}
                except UnicodeDecodeError as error:
                    self._reject(name, row, "not_utf8", str(error))
                else:
                    yield from self._record(name, row, record)
                row += 1

    def _tar(self, name: str, file: IO[bytes]) -> Iterator[Line]:
        """WebDataset samples: the .txt member of each, else the field of its .json member; others are passed over."""
        held: tuple[str, int, bytes | None] | None = None
        done = ""
        found = False
        with open_tar(file, "r|") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would remember all of them
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = folder + slash + stem
                if held is not None and held[0] != key:
                    yield from self._member(name, *held[1:])
                    held = None
                if not member.isfile() or ending not in ("txt", "json") or key == done:
                    continue
                found = True
                inner = tar.extractfile(member) if member.size <= MAX_LINE_BYTES else None
                data = inner.read().removeprefix(codecs.BOM_UTF8) if inner is not None else None
                if ending == "txt":
                    held, done = None, key
                    yield from self._text(name, member.offset_data, self._decoded(name, member.offset_data, data))
                else:
                    held = (key, member.offset_data, data)
            if held is not None:
                yield from self._member(name, *held[1:])
        if not found:
            self._reject(name, "", "missing_field", "no .txt or .json member")

    def _member(self, name: str, position: int, data: bytes | None) -> Iterator[Line]:
        text = self._decoded(name, position, data)
        if text is not None:
            yield from self._json_line(name, position, text)


def _describe(piece: Slice) -> Input:
    """The slice's bytes and their hash, by a pass of its own: readers jump about and stop early."""
    digest, length = hashlib.sha256(), 0
    left = piece.bytes
    with files.open_read(piece.name) as file:
        file.seek(piece.start)
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            length += len(block)
            left -= len(block)
    return Input(piece.name, length, digest.hexdigest(), piece.start, piece.end)


def _begin(group: Any) -> int:
    """The byte of the file at which a row group of Parquet begins."""
    columns = [group.column(index) for index in range(group.num_columns)]
    offsets = [column.data_page_offset for column in columns]
    return int(min(offsets + [column.dictionary_page_offset for column in columns if column.dictionary_page_offset]))


def _encodable(text: str) -> bool:
    """JSON may hold lone surrogates, which no UTF-8 file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
