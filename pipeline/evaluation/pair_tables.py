"""Tables of images and captions: Flickr's token files, and CSV or TSV files whose first line names the columns.

A row has one caption, or a JSON list of them. Names of images in token files end in the number of the caption.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from typing import IO, Any

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES
from vlmixer.pipeline.text.readers.packing import head_of, unpack
from vlmixer.pipeline.text.readers.sniffing import HEAD_BYTES
from vlmixer.pipeline.text.readers.table import is_blank, table_lines

IMAGE_COLUMNS = ("image", "image_name", "filename", "file_name", "image_path", "filepath", "img")
CAPTION_COLUMNS = ("caption", "captions", "comment", "raw", "text", "sentence")
"""Names of columns, the likeliest first."""
SPLIT_COLUMN = "split"
_TOKEN = re.compile(r"([^\t]+)#\w+\t(.*)", re.DOTALL)
DELIMITERS = "\t,;|"


def is_table(path: str) -> bool:
    """Whether the file's first line is one of a table of images and captions."""
    first = _first_line(path)
    return _TOKEN.fullmatch(first) is not None or _columns(first) is not None


def read_table(path: str) -> Iterator[tuple[str, list[str], str]]:
    """The name of the image, captions and split ("" without that column) of each row.

    Raises CallError that names the row if it lacks one of them.
    """
    columns = _columns(_first_line(path))
    with files.open_read(path) as file:
        text = io.TextIOWrapper(unpack(path, file), "utf-8-sig", newline="")
        try:
            if columns is None:
                yield from _tokens(path, text)
            else:
                yield from _rows(path, text, *columns)
        finally:
            text.detach()  # else it closes the file


def _rows(path: str, text: IO[str], delimiter: str, names: Sequence[str]) -> Iterator[tuple[str, list[str], str]]:
    places = [_place(names, known) for known in (IMAGE_COLUMNS, CAPTION_COLUMNS, (SPLIT_COLUMN,))]
    rows = csv.reader(table_lines(text), delimiter=delimiter, skipinitialspace=True)
    try:
        next(rows)
        for number, row in enumerate(rows, 1):
            if not is_blank(row):
                yield _row(row, places, f"{path}, row {number}")
    except csv.Error as error:
        raise CallError(f"{path}, line {rows.line_num}: not a row of a table: {error}") from None


def _tokens(path: str, text: IO[str]) -> Iterator[tuple[str, list[str], str]]:
    for number, line in enumerate(iter(lambda: text.readline(MAX_LINE_BYTES + 1), ""), 1):
        if not line.strip():
            continue
        found = _TOKEN.fullmatch(line.rstrip("\r\n")) if len(line) <= MAX_LINE_BYTES else None
        if found is None:
            raise CallError(f"{path}, line {number}: expected NAME#NUMBER, a tab and a caption, as in the first line.")
        yield found[1], [found[2]], ""


def _row(row: Sequence[str], places: Sequence[int | None], where: str) -> tuple[str, list[str], str]:
    cells = ["" if place is None else row[place].strip() for place in places if place is None or place < len(row)]
    if len(cells) < len(places) or not cells[0]:
        raise CallError(f"{where}: {len(row)} cells, expected the name of an image and a caption.")
    return cells[0], _captions(cells[1]), cells[2]


def _captions(cell: str) -> list[str]:
    if cell.startswith('["') and cell.endswith('"]'):
        try:
            found: Any = json.loads(cell)
        except (ValueError, RecursionError):
            return [cell]
        if isinstance(found, list) and all(isinstance(one, str) for one in found):
            return found
    return [cell]


def _first_line(path: str) -> str:
    with files.open_read(path) as file:
        head = head_of(path, file, HEAD_BYTES).removeprefix(b"\xef\xbb\xbf")
    return head.split(b"\n", 1)[0].decode("utf-8", "replace").rstrip("\r")


def _columns(line: str) -> tuple[str, list[str]] | None:
    """The delimiter and the names of the columns, if they name an image and a caption."""
    for delimiter in DELIMITERS:
        names = [cell.strip().lower() for cell in next(csv.reader([line], delimiter=delimiter), [])]
        if all(_place(names, known) is not None for known in (IMAGE_COLUMNS, CAPTION_COLUMNS)):
            return delimiter, names
    return None


def _place(names: Sequence[str], known: Sequence[str]) -> int | None:
    return next((names.index(name) for name in known if name in names), None)
