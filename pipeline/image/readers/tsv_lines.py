"""Lines of TSV files by the ids in their first columns. A file may have a hundred million lines that are of no use, so
what is known of them is on the disk, in a table of SQLite."""

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.texts import blank_lines

PART_BYTES = 1 << 20
MAX_ID_BYTES = 1000
MAX_WITHOUT_TAB = 1000
"""Where so many more lines lack a tab than have one, the rest of the file is taken for something else."""
SETUP = """
    pragma journal_mode = off;
    pragma temp_store = file;
    pragma cache_size = -16384;  -- kB
    create table line (start integer primary key, size integer not null, id text not null);
"""

Place = tuple[int, int]
"""First byte and number of bytes of a line."""


class NotATable(Exception):
    """From the byte `start` on, a file is no table."""

    def __init__(self, start: int) -> None:
        super().__init__(start)
        self.start = start


def line_id(line: bytes) -> str:
    """The id in the first column of a line."""
    return line[:MAX_ID_BYTES].partition(b"\t")[0].strip().decode(errors="backslashreplace")


def lines_by_id(name: str) -> Iterator[tuple[str, Place]]:
    """The id and place of each line that is not blank. Holds a part of it. Raises NotATable after many lines without a
    tab."""
    at = without_tab = 0
    with files.open_read(name) as file:
        while line := file.readline(PART_BYTES):
            size, part = len(line), line
            while not part.endswith(b"\n") and (part := file.readline(PART_BYTES)):
                size += len(part)
            if size > len(line) or not line.isspace():
                without_tab = max(without_tab + (-1 if b"\t" in line else 1), 0)
                if without_tab > MAX_WITHOUT_TAB:
                    raise NotATable(at)
                yield line_id(line), (at, size)
            else:
                size += len(blank_lines(file, PART_BYTES))
            at += size


class LinesById:
    """The lines of a file that are not blank, in order: (id, place, size of the longest line of this id).

    Holds 16 MB, however many lines there are. ends: the byte from which on the file is no table, and is not read; -1 if
    there is none. Use it in a `with` block. Raises UserError if there is no space for its temporary file.
    """

    def __init__(self, name: str) -> None:
        self.ends = -1
        self._table = sqlite3.connect("", check_same_thread=False)  # whoever drops an iterator closes it
        self._table.executescript(SETUP)
        try:
            self._table.executemany("insert into line values (?, ?, ?)", self._rows(name))
            self._table.execute("create index by_id on line (id, size desc, start)")
        except sqlite3.OperationalError as error:
            self._table.close()
            raise UserError(
                f"{name}: no place for a table of its lines ({error}). Set TMPDIR to a folder with more space."
            ) from None

    def _rows(self, name: str) -> Iterator[tuple[int, int, str]]:
        try:
            for identity, (start, size) in lines_by_id(name):
                yield start, size, identity
        except NotATable as error:
            self.ends = error.start

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._table.close()

    def __len__(self) -> int:
        (count,) = self._table.execute("select count(*) from line").fetchone()
        return int(count)

    def __iter__(self) -> Iterator[tuple[str, Place, int]]:
        longest = "select size from line as other where other.id = line.id order by size desc limit 1"
        for identity, start, size, most in self._table.execute(
            f"select id, start, size, ({longest}) from line order by start"
        ):
            yield identity, (start, size), most

    def longest(self, identity: str) -> Place | None:
        """Where the longest line of an id is, the first of several; None if there is none."""
        query = "select start, size from line where id = ? order by size desc, start limit 1"
        found: Place | None = self._table.execute(query, [identity]).fetchone()
        return found
