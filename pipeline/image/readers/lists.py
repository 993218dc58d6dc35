"""Lists of images: a text file with one path or URL per line, or JSON lines with a path or URL and provenance."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import IO, Any

from vlmixer.artifacts import files
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy
from vlmixer.pipeline.image.readers.base import (
    LIST,
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    map_ahead,
    unreadable_piece,
)
from vlmixer.pipeline.image.readers.image_files import FILES_PER_PIECE, URLS_PER_PIECE, FileReader, with_digest
from vlmixer.pipeline.image.readers.parquet import URL_TABLE, rows_of
from vlmixer.pipeline.image.readers.records import URL_FIELDS, provenance
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES, BlankLines, TextSlice
from vlmixer.pipeline.text.readers.lines import lines

ENDINGS = (".txt", ".jsonl", ".ndjson")
PATH_FIELDS = ("path", "image", "file_name", "filename", "file", "filepath")


@dataclass(frozen=True)
class ListReader:
    """Reads lists. The images are files of their own, so their references have that format."""

    paths_per_piece: int = FILES_PER_PIECE
    urls_per_piece: int = URLS_PER_PIECE
    fetch: FetchPolicy = PATIENT
    format = LIST
    one_unit_per_piece = False
    holds_images = False

    def takes(self, name: str, *, as_list: bool) -> bool:
        return as_list and is_list(name)

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        return [piece for file in inputs for piece in self._cut(file)]

    def _cut(self, file: InputFile) -> list[InputPiece]:
        """Runs of lines, by the bytes at which they begin."""
        cuts, seen = [0], 0
        try:
            with files.open_read(file.name) as opened:
                for at, line in _lines(opened, file):
                    if seen >= (self.urls_per_piece if line and b"://" in line else self.paths_per_piece):
                        cuts.append(at)
                        seen = 0
                    seen += 1
                end = opened.tell()
        except OSError as error:
            return [unreadable_piece(self.format, file, "unreadable_file", f"{type(error).__name__}: {error}")]
        if not end:
            return [unreadable_piece(self.format, file, "empty_file")]
        return [InputPiece(self.format, (file,), start, stop) for start, stop in pairwise([*cuts, end])]

    def count(self, piece: InputPiece) -> None:
        return None

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        entries = _entries(piece)
        first = next(entries, None)
        if first is not None:
            yield with_digest(first, self.fetch, contents=contents)
            yield from map_ahead(entries, lambda ref: with_digest(ref, self.fetch, contents=contents), first.source)

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        yield from FileReader(fetch=self.fetch).read(refs, max_bytes)


@dataclass(frozen=True)
class UrlTableReader:
    """Reads Parquet files with a column of URLs and none of image bytes, such as LAION's, as lists. ParquetReader
    plans them."""

    fetch: FetchPolicy = PATIENT
    format = URL_TABLE
    one_unit_per_piece = False
    holds_images = False

    def takes(self, name: str, *, as_list: bool) -> bool:
        return False

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        return []

    def count(self, piece: InputPiece) -> int:
        return piece.stop - piece.start

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        (file,) = piece.files

        def ref_of(row: tuple[int, bytes | None, dict[str, Any]]) -> ImageRef:
            url, rights = provenance(row[2])
            if not files.is_url(url):
                blank = ImageRef(file.name, str(row[0]), order=(file.number, row[0]))
                return replace(blank, reason="missing_field", detail="no URL in this row")
            return ImageRef(url, order=(file.number, row[0]), url=url, license=rights)

        rows = rows_of(file.name, piece.start, piece.stop, images=False, records=True)
        yield from map_ahead(map(ref_of, rows), lambda ref: with_digest(ref, self.fetch, contents=contents), "http://")

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        yield from FileReader(fetch=self.fetch).read(refs, max_bytes)


def is_list(name: str) -> bool:
    """Whether the file, or the glob, has the ending of a list."""
    return name.lower().endswith(ENDINGS)


def _lines(opened: IO[bytes], file: InputFile, start: int = 0, stop: int = -1) -> Iterator[tuple[int, bytes | None]]:
    """(position, line) for the lines that begin at bytes start … stop-1 and are not blank. None: a line that is longer
    than any name."""
    for position, line in lines(TextSlice(file.name, file.size, start, stop), opened):
        if not isinstance(line, BlankLines) and (line is None or line.strip()):
            yield position, line


def _entries(piece: InputPiece) -> Iterator[ImageRef]:
    (file,) = piece.files
    name = file.name
    folder = name.rpartition("/")[0]
    as_json = not name.lower().endswith(".txt")
    with files.open_read(name) as opened:
        for position, line in _lines(opened, file, piece.start, piece.stop):
            ref = ImageRef(name, f"byte {position}", order=(file.number, position))
            if line is None:
                yield replace(ref, reason="too_long", detail=f"a line of more than {MAX_LINE_BYTES:,} bytes")
                continue
            try:
                where, url, rights = _entry(line.strip().decode("utf-8-sig"), as_json)
                where.encode()  # JSON can name characters that no file name has
            except UnicodeDecodeError as error:
                yield replace(ref, reason="not_utf8", detail=str(error))
            except (ValueError, RecursionError) as error:
                yield replace(ref, reason="not_json", detail=str(error))
            except LookupError as error:
                yield replace(ref, reason="missing_field", detail=str(error.args[0]))
            else:
                yield replace(ref, source=_locate(where, folder), key="", url=url, license=rights)


def _entry(text: str, as_json: bool) -> tuple[str, str, str]:
    """(path or URL, URL, licence) of a line."""
    record: Any = json.loads(text) if as_json else text
    if isinstance(record, str):
        return record, record if files.is_url(record) else "", ""
    if not isinstance(record, dict):
        raise LookupError(f"expected a path or an object, found {type(record).__name__}")
    lower = {str(name).lower(): value for name, value in record.items()}
    paths = [lower[name] for name in (*PATH_FIELDS, *URL_FIELDS) if isinstance(lower.get(name), str) and lower[name]]
    if not paths:
        raise LookupError(f"expected one of {', '.join((*PATH_FIELDS, 'url'))}; found {', '.join(map(str, record))}")
    url, rights = provenance(record)
    return paths[0], url or (paths[0] if files.is_url(paths[0]) else ""), rights


def _locate(where: str, folder: str) -> str:
    """The path to open. A relative path starts at the list's folder, or else where the command was started."""
    if files.is_url(where) or os.path.isabs(where) or not folder:
        return where
    in_folder = files.join(folder, where)
    here = not files.is_url(folder) and not os.path.exists(in_folder) and os.path.exists(where)
    return where if here else in_folder
