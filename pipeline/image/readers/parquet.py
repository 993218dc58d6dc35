"""Parquet files with a column of image bytes: plain, as Hugging Face datasets write it, or from img2dataset."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.parquet import open_parquet, refuse_bomb
from vlmixer.pipeline.image.readers.base import (
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    content_digest,
    read_errors,
    too_large,
    unreadable_piece,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.records import (
    LICENSE_FIELDS,
    STATUS_FIELDS,
    URL_FIELDS,
    failed_download,
    provenance,
)

IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "image_bytes", "bytes", "img", "content")
ROWS_PER_PIECE = 1000
ROWS_AT_ONCE = 16
READ_BUFFER = 1 << 20
URL_TABLE = "url table"
"""The format of pieces of a Parquet file that has URLs and no images; lists.py reads them."""
URLS_PER_PIECE = 256


@dataclass(frozen=True)
class ParquetReader:
    """Reads Parquet files. Pieces are runs of whole row groups, and large groups are cut."""

    rows_per_piece: int = ROWS_PER_PIECE
    format = "parquet"
    one_unit_per_piece = True
    holds_images = True

    def takes(self, name: str, *, as_list: bool) -> bool:
        return name.lower().endswith(".parquet")

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        return [piece for file in inputs for piece in self._cut(file)]

    def _cut(self, file: InputFile) -> list[InputPiece]:
        try:
            with files.open_read(file.name) as opened:
                parquet = open_parquet(opened)
                rows = [parquet.metadata.row_group(group).num_rows for group in range(parquet.num_row_groups)]
                column = image_column(parquet.schema_arrow)
                columns = ", ".join(parquet.schema_arrow.names)
                urls = any(name.lower() in URL_FIELDS for name in parquet.schema_arrow.names)
        except (OSError, pa.ArrowException) as error:
            return [unreadable_piece(self.format, file, "unreadable_file", f"{type(error).__name__}: {error}")]
        if not column and not urls:
            return [unreadable_piece(self.format, file, "missing_field", f"no column of image bytes among: {columns}")]
        if not column:
            starts = range(0, sum(rows), URLS_PER_PIECE)
            if not starts:
                return [unreadable_piece(self.format, file, "empty_file", "no rows")]
            return [InputPiece(URL_TABLE, (file,), at, min(at + URLS_PER_PIECE, sum(rows))) for at in starts]
        cuts, at = [0], 0
        for group in rows:
            inside = range(at + self.rows_per_piece, at + group, self.rows_per_piece)
            if at + group - cuts[-1] > self.rows_per_piece and cuts[-1] < at:
                cuts.append(at)
            cuts += inside
            at += group
        cuts = [*dict.fromkeys(cuts), at] if at else []
        if not cuts:
            return [unreadable_piece(self.format, file, "empty_file", "no rows")]
        return [InputPiece(self.format, (file,), start, stop) for start, stop in pairwise(cuts) if stop > start]

    def count(self, piece: InputPiece) -> int:
        return piece.stop - piece.start

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        (file,) = piece.files
        row = piece.start

        def at(row: int) -> ImageRef:
            return ImageRef(file.name, str(row), self.format, position=row, order=(file.number, row))

        try:
            for row, data, record in rows_of(file.name, piece.start, piece.stop, images=contents, records=True):
                url, rights = provenance(record)
                ref = replace(at(row), url=url, license=rights)
                if data is None and contents:
                    lacking = _without_bytes(record)
                    yield with_name_digest(replace(ref, reason=lacking.reason, detail=lacking.detail))
                else:
                    yield replace(ref, digest=content_digest(iter([data]))[0]) if data else with_name_digest(ref)
                row += 1
        except UserError:
            raise
        except read_errors(file.name) as error:
            detail = f"{type(error).__name__}: {error}"
            for lost in range(row, piece.stop):
                yield with_name_digest(replace(at(lost), reason="unreadable_file", detail=detail))

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        for source, run in groupby(refs, key=lambda ref: ref.source):
            yield from _read(source, [ref.position for ref in run], max_bytes)


def _without_bytes(record: Mapping[str, Any]) -> Unreadable:
    """Of a row without bytes. A row that says where the image was, or how its download ended, was not downloaded."""
    if (said := failed_download(record)) or provenance(record)[0]:
        return Unreadable("not_downloaded", said or "no bytes in this row")
    return Unreadable("missing_field", "no bytes in this row")


def image_column(schema: pa.Schema) -> str:
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


def has_images(path: str) -> bool:
    """Whether the file can be read and has a column of image bytes."""
    try:
        with files.open_read(path) as file:
            return bool(image_column(pq.read_schema(file)))
    except (OSError, pa.ArrowException):
        return False


def rows_of(
    name: str, start: int, stop: int, *, images: bool, records: bool
) -> Iterator[tuple[int, bytes | None, dict[str, Any]]]:
    """(row, bytes or None, fields of provenance) for rows start … stop-1, read as a stream.

    images, records: whether to read the bytes, and those fields.
    """
    with files.open_read(name) as file:
        parquet = open_parquet(file, buffer_size=READ_BUFFER)
        image = image_column(parquet.schema_arrow)
        top = image.partition(".")[0]
        wanted = (*URL_FIELDS, *LICENSE_FIELDS, *STATUS_FIELDS)
        fields = [column for column in parquet.schema_arrow.names if column.lower() in wanted]
        columns = [*([image] if images or not records else []), *(fields if records else [])]
        groups, at, first = [], 0, None
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if at < stop and at + rows > start:
                groups.append(group)
                first = at if first is None else first
            at += rows
        for group in groups:
            refuse_bomb(parquet, group, [top, *columns])
        row = first or 0
        if not columns:
            yield from ((row, None, {}) for row in range(start, stop))
            return
        for batch in parquet.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=columns, use_threads=False):
            held = batch.column(batch.schema.get_field_index(top)) if image in columns else None
            for index in range(batch.num_rows):
                if row >= stop:
                    return
                if row >= start:
                    value = None if held is None else held[index].as_py()
                    data = value["bytes"] if isinstance(value, dict) else value
                    yield row, data, {field: batch.column(field)[index].as_py() for field in fields if records}
                row += 1


def _read(source: str, wanted: Sequence[int], max_bytes: float) -> Iterator[bytes | Unreadable]:
    """The bytes in each row of `wanted`, which ascends."""
    done = 0
    fault = Unreadable("unreadable_file", "the file has fewer rows than when the run began")
    try:
        for row, data, record in rows_of(source, wanted[0], wanted[-1] + 1, images=True, records=True):
            if done == len(wanted) or row != wanted[done]:
                continue
            done += 1
            if data is None:
                yield _without_bytes(record)
            else:
                yield data if len(data) <= max_bytes else too_large(len(data))
    except UserError:
        raise
    except read_errors(source) as error:
        fault = Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
    yield from (fault for _ in wanted[done:])
