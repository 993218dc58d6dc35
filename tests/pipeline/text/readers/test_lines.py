"""Paragraphs of slices, against a plain reckoning over the whole file."""

import io
import itertools
import random

from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.lines import paragraphs


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
            for entry in paragraphs(TextSlice("a.txt", len(data), start, end), io.BytesIO(data), limit)
        ]
        assert found == reckoned(data, limit), (data, limit, cuts)
