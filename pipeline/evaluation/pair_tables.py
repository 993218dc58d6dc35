"""Tables of images and captions: Flickr's token files, and CSV or TSV files whose first line names the columns.

A row has one caption, or a JSON list of them. Names of images in token files end in the number of the caption.
"""

import csv
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.text.readers.packing import head_of, unpack
from vlmixer.pipeline.text.readers.sniffing import HEAD_BYTES
from vlmixer.pipeline.text.readers.table import is_blank
from vlmixer.pipeline.text.readers.table_lines import TableLines

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
        lines = TableLines(unpack(path, file))
        try:
            yield from _tokens(path, lines) if columns is None else _rows(path, lines, *columns)
        except csv.Error as error:
            raise CallError(f"{path}, line {lines.number}: not a row of a table: {error}") from None


def _rows(path: str, lines: TableLines, delimiter: str, names: Sequence[str]) -> Iterator[tuple[str, list[str], str]]:
    places = [_place(names, known) for known in (IMAGE_COLUMNS, CAPTION_COLUMNS, (SPLIT_COLUMN,))]
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    next(rows)
    number = 0
    for row in rows:
        number += 1
        if is_blank(row):
            number += lines.pass_blank(delimiter)
        else:
            yield _row(row, places, f"{path}, row {number}")


def _tokens(path: str, lines: TableLines) -> Iterator[tuple[str, list[str], str]]:
    for line in lines:
        if not line.strip():
            lines.pass_blank()
        elif found := _TOKEN.fullmatch(line.rstrip("\r\n")):
            yield found[1], [found[2]], ""
        else:
            raise CallError(
                f"{path}, line {lines.number}: expected NAME#NUMBER, a tab and a caption, as in the first line."
            )


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
