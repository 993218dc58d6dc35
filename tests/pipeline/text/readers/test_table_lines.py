"""Lines of tables, against Python's own text files."""

import csv
import io
import random

import pytest

from vlmixer.pipeline.text.readers import table_lines
from vlmixer.pipeline.text.readers.table import is_blank
from vlmixer.pipeline.text.readers.table_lines import TableLines

ENDS = ["\n", "\r\n", "\r", "\n\n\n\n\n\n", "\r\n\r\n\r\n", "\r\r"]
CELLS = ["a", "é", "\ufeff", " ", "\u2028", "\x1c", "\t", ",", '"x"', '"\n\n"', '""']


@pytest.fixture(params=[1, 7, 8192], autouse=True)
def blocks(request, monkeypatch):
    monkeypatch.setattr(table_lines, "BLOCK_BYTES", request.param)


def rows_of(lines, delimiter):
    """(number, row) of those that are not blank."""
    number = -1
    for row in csv.reader(lines, delimiter=delimiter):
        number += 1
        if not is_blank(row):
            yield number, row
        elif isinstance(lines, TableLines):
            number += lines.pass_blank(delimiter)


@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_rows_and_their_numbers_are_those_of_csv(delimiter):
    chance = random.Random(0)
    for _ in range(300):
        text = "".join(chance.choice(chance.choice([CELLS, ENDS])) for _ in range(chance.randrange(40)))
        data = text.encode() + chance.choice([b"", b"\xff", b"\xe9\n", b"\xe2\x80"])
        expected = io.TextIOWrapper(io.BytesIO(data), "utf-8-sig", "surrogateescape", newline="")
        lines = TableLines(io.BytesIO(data), "surrogateescape")
        try:
            wanted = list(rows_of(expected, delimiter))
        except csv.Error:
            continue  # a CR within a line: the same error
        assert list(rows_of(lines, delimiter)) == wanted, data
        assert lines.number == len(list(io.StringIO(data.decode("utf-8-sig", "surrogateescape"), newline="")))


def test_blank_lines_are_passed_over_together():
    lines = TableLines(io.BytesIO(b"a\n" + b"\n \t\r\n" * 5_000 + b"\t,\nb"))
    assert next(lines) == "a\n"
    read = passed = 0
    while next(lines).strip(" \t\r\n") != ",":
        read, passed = read + 1, passed + lines.pass_blank(",")
    assert read + passed == 10_000
    assert table_lines.BLOCK_BYTES < 8192 or read < 100
    assert lines.number == 10_002
    assert lines.pass_blank() == 0
    assert list(lines) == ["b"]


def test_a_line_over_the_limit_is_an_error_after_those_before_it():
    for data in (b"abc\n\nabcdef\n", b"abc\n\nabcdef", b"abc\n\n      \n\n"):
        lines = TableLines(io.BytesIO(data), longest=5)
        assert next(lines) == "abc\n"
        assert next(lines) == "\n"
        assert lines.pass_blank() == 0
        with pytest.raises(csv.Error, match="a line of more than 5 characters"):
            next(lines)
        assert lines.number == 3
