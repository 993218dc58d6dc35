"""Paragraphs of slices, against a plain reckoning over the whole file."""

import io
import itertools
import random

import pytest

from vlmixer.pipeline.text.readers.base import BlankLines, TextSlice
from vlmixer.pipeline.text.readers.lines import FEW_BLANK, lines, paragraphs


def reckoned(data, limit):
    """(position, bytes) of the paragraphs; None for a line over the limit, which ends a paragraph."""
    found: list[tuple[int, bytes | None]] = []
    held: list[bytes] = []
    begin = size = at = 0
    *ended, rest = data.split(b"\n")
    for raw in [*(line + b"\n" for line in ended), *([rest] if rest else [])]:
        line = raw.rstrip(b"\r\n")
        over = len(raw.removesuffix(b"\n")) > limit
        blank = not over and not line.strip()
        if held and (over or blank or size + len(line) > limit):
            found.append((begin, b"\n".join(held)))
            held = []
        if over:
            found.append((at, None))
        elif not blank:
            if not held:
                begin, size = at, 0
            held.append(line)
            size += len(line) + 1
        at += len(raw)
    return [*found, (begin, b"\n".join(held))] if held else found


def test_slices_at_any_bytes_give_the_paragraphs_of_the_whole():
    chance = random.Random(0)
    pieces = [b"a", b"bb", b"\n", b"\n", b"\n\n", b" \n", b"\r\n", b"cccccc", b" ", b"\t", "é".encode(), b"\xff"]
    for _ in range(3000):
        data = b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 30)))
        limit = chance.choice([3, 5, 9, 1000])
        cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(chance.randrange(4)))})
        found = [
            entry
            for start, end in itertools.pairwise(cuts)
            for entry in paragraphs(TextSlice("a.txt", len(data), start, end), opened(data), limit)
        ]
        assert found == reckoned(data, limit), (data, limit, cuts)


def opened(data):
    return io.BufferedReader(io.BytesIO(data), 64)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \n", b"\t \n\n\r\n"])
def test_many_blank_lines_are_read_together(end):
    data = b"a" + end * (FEW_BLANK + 1000) + b"b" + end + b" " + end
    found = list(lines(TextSlice("a.txt", len(data)), opened(data)))
    assert len(found) < data.count(b"\n") / 8
    assert each(found) == splitlines(data)


def test_slices_at_any_bytes_give_the_lines_of_the_whole():
    chance = random.Random(0)
    pieces = [b"a", b"\n", b"\r\n", b"\n" * (FEW_BLANK + 9), b"\r\n" * (FEW_BLANK + 9), b"\r", b" "]
    pieces += [b" \n\n" * FEW_BLANK, b" " * 99 + b"\n"]
    for _ in range(1000):
        data = b"".join(chance.choice(pieces) for _ in range(chance.randrange(1, 20)))
        cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(chance.randrange(4)))})
        slices = [TextSlice("a.txt", len(data), start, end) for start, end in itertools.pairwise(cuts)]
        assert each(line for one in slices for line in lines(one, opened(data))) == splitlines(data), (data, cuts)
        kept = [entry for one in slices for entry in paragraphs(one, opened(data))]
        assert kept == reckoned(data, 1000), (data, cuts)


def test_blank_lines_over_the_limit_are_none():
    data = b"\n" * FEW_BLANK + b" \n" + b"     \n" + b"   \n    \n"
    found = each(lines(TextSlice("a.txt", len(data)), opened(data), 3))
    assert [line for _, line in found[FEW_BLANK:]] == [b"", None, b"", None]


def each(found):
    """(position, line) of lines, blank ones too."""
    found = list(found)
    for position, line in found:
        assert not isinstance(line, BlankLines) or line.positions[0] == position
    return [
        (place, b"" if isinstance(line, BlankLines) or (line is not None and line.isspace()) else line)
        for position, line in found
        for place in (line.positions if isinstance(line, BlankLines) else [position])
    ]


def splitlines(data):
    whole = data.split(b"\n")
    starts = itertools.accumulate((len(line) + 1 for line in whole), initial=0)
    found = [(start, b"" if line.isspace() else line.rstrip(b"\r")) for start, line in zip(starts, whole, strict=False)]
    return found if whole[-1] else found[:-1]
