"""Reading sentences from slices of files: every record ends as sentences or as a reject with a reason.

The formats (`formats`) find the texts in a file. A sentence is known by its place: the file, the position
in it, and the number among the sentences at that position.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any, NamedTuple

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Input, Manifest
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.unchanged import check_unchanged
from vlmixer.pipeline.text.readers import packing
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES, BlankLines, ReadOptions, Record, TextSlice, Unusable
from vlmixer.pipeline.text.readers.fields import wrong_type
from vlmixer.pipeline.text.readers.formats import can_split, format_of
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.readers.sniffing import HEAD_BYTES, unreadable
from vlmixer.pipeline.text.sentences import SentenceSplitter
from vlmixer.pipeline.units.inputs import KnownInput

MAX_RECORDS_SAMPLED = 1_000_000
"""A sample ends here, even without a usable sentence."""
PICTURE = "<image>"
"""Where a picture stands in a conversation about it (LLaVA's files). It is no word of the sentence."""
MIN_BYTES_SAMPLED = 4 << 20
"""A sample of a file that cannot be split reads at least this much: packed files are read in large blocks."""


class SourceSentence(NamedTuple):
    """A sentence and where it was read. `number` counts the sentences of one position that holds several (a
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
        """Unique in the corpus: the file's id, the position, and the number if there is one."""
        place = f"{source_id(self.source)}-{self.position:012d}"
        return place if self.number < 0 else f"{place}-{self.number:05d}"


class SentenceReader:
    """Reads the slices of a unit, counts its inputs, and writes what it cannot use to `log`.

    splitter: splits running text into sentences. None: a line, field or member is one sentence. After the iteration,
    `read` is the number of inputs met (sentences, blank or broken lines, unreadable files), and `inputs` lists the
    bytes that were read with their hashes.

    Raises UserError if a file was changed since its slices were planned.
    """

    def __init__(
        self,
        log: RejectLog,
        *,
        field: str = "caption",
        min_characters: int = 1,
        max_characters: int = 1000,
        splitter: SentenceSplitter | None = None,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.log = log
        self.min_characters = min_characters
        self.max_characters = max_characters
        self.splitter = splitter
        self.read = 0
        self.inputs: list[Input] = []
        self._lost: dict[TextSlice, int] = {}
        self._options = ReadOptions(field, splitter is not None, max_line_bytes)

    @property
    def unreadable_bytes(self) -> int:
        """Size of the slices that could not be read, or not to their end."""
        return sum(self._lost.values())

    def sentences(self, slices: Sequence[TextSlice]) -> Iterator[SourceSentence]:
        """The usable sentences of the slices, in order."""
        for text_slice in slices:
            name = text_slice.name
            check_unchanged(name, text_slice.stamp)
            if text_slice.size == 0:
                self._reject(name, "", "empty_file")
                self.inputs.append(Input(name, 0, hashlib.sha256().hexdigest()))
                continue
            before = self.read
            try:
                self.inputs.append(_describe(text_slice))
                with files.open_read(name) as file:
                    for record in self._records(text_slice, file):
                        if isinstance(record.content, Unusable) and record.content.reason == "unreadable_file":
                            self._lost[text_slice] = text_slice.bytes
                        yield from self._sentences_of(name, record)
                if self.read == before and text_slice.bytes == text_slice.size:
                    self._reject(name, "", "empty_file")
            except _errors(name) as error:
                self._lost[text_slice] = text_slice.bytes
                self._reject(name, text_slice.start or "", "unreadable_file", f"{type(error).__name__}: {error}")
            check_unchanged(name, text_slice.stamp)

    def sample(self, text_slice: TextSlice, limit: int, *, most: int = MAX_RECORDS_SAMPLED) -> tuple[list[str], int]:
        """Up to `limit` usable sentences from the first `most` records of the slice, and about how many bytes of the
        file they took."""
        texts: list[str] = []
        records = 0
        with files.open_read(text_slice.name) as file:
            try:
                for record in self._records(text_slice, file):
                    records += len(record.content.positions) if isinstance(record.content, BlankLines) else 1
                    # All are counted, also those that are not wanted any more; but a record may have millions.
                    found = [sentence.text for sentence in islice(self._sentences_of(text_slice.name, record), limit)]
                    texts += found[: limit - len(texts)]
                    if len(texts) == limit and (used := _bytes_read(text_slice, file, records, record.position)):
                        return texts, used
                    if records >= most:
                        return texts, _bytes_read(text_slice, file, records, record.position) or max(file.tell(), 1)
            except _errors(text_slice.name):
                pass
        return texts, text_slice.bytes

    def _records(self, text_slice: TextSlice, file: IO[bytes]) -> Iterator[Record]:
        """The records of the slice; if no format can read such a file, why, once for all its slices."""
        problem = None
        if format_of(text_slice.name).is_text:
            problem = unreadable(packing.head_of(text_slice.name, file, HEAD_BYTES))
        if problem is None:
            yield from format_of(text_slice.name).read(text_slice, file, self._options)
            return
        self._lost[text_slice] = text_slice.bytes
        if text_slice.start == 0:
            yield Record(-1, Unusable("unreadable_file", problem))

    def _sentences_of(self, source: str, record: Record) -> Iterator[SourceSentence]:
        """The usable sentences of a record, which may be millions; the others go to the log."""
        position, content = record
        if isinstance(content, Unusable):
            self._reject(source, position if position >= 0 else "", content.reason, content.detail)
        elif isinstance(content, BlankLines):
            self.read += len(content.positions)
            self.log.add_each(source, content.positions, "empty_line")
        elif isinstance(content, list):
            yield from self._listed(source, position, content)
        elif wrong := self._too_long(content):
            self._reject(source, position, *wrong)
        elif self.splitter is None:
            if sentence := self._checked(source, position, -1, content):
                yield sentence
        else:
            split = self.splitter.split(content)
            if not split:
                self._reject(source, position, "empty_line")
            for number, text in enumerate(split):
                if sentence := self._checked(source, position, number, text):
                    yield sentence

    def _listed(self, source: str, position: int, texts: list[Any]) -> Iterator[SourceSentence]:
        """The usable sentences of a list of texts, numbered through."""
        number = -1
        for text in texts:
            if not isinstance(text, str):
                number += 1
                wrong = wrong_type(self._options.field, text)
                self._reject(source, f"{position}-{number}", wrong.reason, wrong.detail)
            elif too_long := self._too_long(text):
                number += 1
                self._reject(source, f"{position}-{number}", *too_long)
            else:
                # A text of nothing but white space stays one, to be counted.
                for part in [text] if self.splitter is None else self.splitter.split(text) or [""]:
                    number += 1
                    if sentence := self._checked(source, position, number, part):
                        yield sentence

    def _too_long(self, text: str) -> tuple[str, str] | None:
        """The reason and the detail if a text is longer than any is read."""
        limit = self._options.max_line_bytes
        return ("too_long", f"{len(text)} characters, at most {limit}") if len(text) > limit else None

    def _checked(self, source: str, position: int, number: int, text: str) -> SourceSentence | None:
        """The sentence if it can be used. Every sentence is checked here."""
        text = text.replace(PICTURE, " ").strip()
        sentence = SourceSentence(source, position, number, text)
        wrong = why_unusable(text, self.min_characters, self.max_characters)
        if wrong is not None:
            self._reject(source, sentence.key, *wrong)
            return None
        self.read += 1
        return sentence

    def _reject(self, source: str, key: object, reason: str, detail: str = "") -> None:
        self.read += 1
        self.log.add(source, key, reason, detail)


def why_unusable(text: str, min_characters: int, max_characters: int) -> tuple[str, str] | None:
    """The reason and the detail for which a text, without white space around it, cannot be used; None if it can."""
    if not text:
        return "empty_line", ""
    if len(text) > max_characters:
        return "too_long", f"{len(text)} characters, at most {max_characters}"
    if len(text) < min_characters:
        return "too_short", f"{len(text)} characters, at least {min_characters}"
    if "\0" in text:
        return "nul_byte", ""
    return None if _encodable(text) else ("not_utf8", "a lone surrogate")


def same_content(finished: Manifest, known: KnownInput) -> bool:
    """Whether a file has the bytes that a finished stage read, slice by slice."""
    slices = [entry for entry in finished.inputs if entry.name == known.name]
    return bool(slices) and all(_same_slice(entry) for entry in slices)


def _same_slice(entry: Input) -> bool:
    try:
        size = files.size(entry.name)
        return _describe(TextSlice(entry.name, size, entry.start, entry.end)) == entry
    except _errors(entry.name):
        return False


def _errors(name: str) -> tuple[type[Exception], ...]:
    return (*packing.ERRORS, *format_of(name).errors)


def _bytes_read(text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
    """About how many bytes of the slice were read; 0 if too few to judge by."""
    if can_split(text_slice.name):
        return max(format_of(text_slice.name).bytes_read(text_slice, file, records, position), 1)
    return file.tell() if file.tell() >= MIN_BYTES_SAMPLED else 0


def _describe(text_slice: TextSlice) -> Input:
    """The slice's bytes and their hash. A pass of its own, because formats seek and stop early."""
    digest, length = hashlib.sha256(), 0
    left = text_slice.bytes
    with files.open_read(text_slice.name) as file:
        file.seek(text_slice.start)
        while left > 0 and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            length += len(block)
            left -= len(block)
    return Input(text_slice.name, length, digest.hexdigest(), text_slice.start, text_slice.end)


def _encodable(text: str) -> bool:
    """Whether UTF-8 can hold the text; JSON escapes can make lone surrogates, which it cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
