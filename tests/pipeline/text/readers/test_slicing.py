"""Slices of any size give together what the whole file gives."""

import hashlib
import io
from typing import IO, cast

import pyarrow.parquet as pq
import pytest
from tests.pipeline.text.readers.helpers import Result, in_units, parquet, together, write

from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.manifest import Input
from vlmixer.pipeline.text.readers.base import ReadOptions, TextSlice, Unusable
from vlmixer.pipeline.text.readers.formats import format_of
from vlmixer.pipeline.text.readers.lines import paragraphs
from vlmixer.pipeline.text.readers.parquet import begin_of
from vlmixer.pipeline.text.readers.plain import PlainText
from vlmixer.pipeline.text.readers.slices import plan_slices
from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


AWKWARD = (
    b"one\n\ntwo\r\n\r\n" + "drei ß 🐕\n".encode() + b"caf\xe9\n \n" + b"a longer line than the units are big\n\n\nend"
)


CONTENTS = [
    AWKWARD,
    AWKWARD + b"\n",
    b"\n\n\n",
    b"no end of line",
    b"\n" + AWKWARD,
    b"\r\n",
    b"\n\n\na\n\n",
    b"a\n\n\nb",
]


def assert_units_of_any_size_give_what_the_whole_file_gives(name, content, **options):
    """Every size, and so every byte as the end of a slice."""
    for unit_bytes in range(1, len(content) + 2):
        units = plan_slices([FileStat(name, len(content))], unit_bytes)
        found = [
            record
            for unit in units
            for text_slice in unit
            for record in format_of(name).read(text_slice, io.BytesIO(content), ReadOptions(**options))
        ]
        if unit_bytes == 1:
            first = found
        assert found == first
    assert found == [*format_of(name).read(TextSlice(name, len(content)), io.BytesIO(content), ReadOptions(**options))]
    assert len({record.position for record in found}) == len(found)


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_slices_of_any_size_give_together_what_the_whole_file_gives(content, name):
    assert_units_of_any_size_give_what_the_whole_file_gives(name, content)


@pytest.mark.parametrize(
    "content", [*CONTENTS, AWKWARD.replace(b"\n", b".\n") * 2, b"One\ntwo. Three\n \t\n\nFour.\r\n\r\nFive"]
)
def test_and_so_do_paragraphs(content):
    assert_units_of_any_size_give_what_the_whole_file_gives("a.txt", content, running_text=True)


@pytest.mark.parametrize("running_text", [False, True])
def test_a_line_over_the_limit_is_one_reject_however_the_file_is_sliced(running_text):
    content = b"one\n\n" + b"x" * 35 + b"\n\ntwo\nthree\nfour\nfive\n\nsix\n" + b"y" * 11
    options = ReadOptions(running_text=running_text, max_line_bytes=10)
    text_slice = TextSlice("a.txt", len(content))
    found = [record.content for record in PlainText().read(text_slice, io.BytesIO(content), options)]
    assert sum(isinstance(entry, Unusable) and entry.reason == "too_long" for entry in found) == 2
    assert_units_of_any_size_give_what_the_whole_file_gives(
        "a.txt", content, running_text=running_text, max_line_bytes=10
    )


def assert_the_same_in_units(text_slice, sizes, **options):
    """As above, by way of files and of the reader."""
    whole = Result([text_slice], **options)
    for unit_bytes in sizes:
        parts = in_units(text_slice, unit_bytes, **options)
        for name in ("sentences", "ids", "rejects"):
            assert together(parts, name) == getattr(whole, name)
        assert sum(part.read for part in parts) == whole.read


@pytest.mark.parametrize("splitter", [None, SPLITTER])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_units_are_read_from_files_alike(tmp_path, name, splitter):
    text_slice = write(tmp_path / name, AWKWARD)
    assert_the_same_in_units(text_slice, (1, 8, 50, len(AWKWARD)), splitter=splitter)


@pytest.mark.parametrize("splitter", [None, SPLITTER])
def test_parquet_is_sliced_by_its_row_groups(tmp_path, splitter):
    captions = [f"Caption {number}. And {number}." if number % 5 else None for number in range(23)]
    content = parquet({"n": list(range(23)), "caption": captions}, 3)
    text_slice = write(tmp_path / "a.parquet", content)
    begins = [begin_of(pq.ParquetFile(io.BytesIO(content)).metadata.row_group(group)) for group in range(8)]
    # A unit that ends just before, at, or just behind the start of a row group, and units that hold several.
    near = [begins[group] + shift for group in (1, 3) for shift in (-1, 0, 1)]
    assert_the_same_in_units(text_slice, [*near, 61, 97, 400, len(content) - 1, len(content)], splitter=splitter)


def test_parquet_without_the_column_is_one_reject_however_it_is_sliced(tmp_path):
    piece = write(tmp_path / "a.parquet", parquet({"text": ["one"] * 9}))
    assert_the_same_in_units(piece, (31, 100, piece.size - 1))


class Counting:
    """A file that counts what is read from it."""

    def __init__(self, data):
        self.data, self.at, self.taken = data, 0, 0

    def seek(self, place):
        self.at = place

    def readline(self, size):
        end = self.data.find(b"\n", self.at, self.at + size)
        part = self.data[self.at : end + 1 if end >= 0 else self.at + size]
        self.at += len(part)
        self.taken += len(part)
        return part


def test_a_slice_without_a_blank_line_is_not_read_to_the_files_end():
    file = Counting(b"a sentence\n" * 10_000)
    piece = TextSlice("a.txt", 110_000, 1000, 2000)
    assert list(paragraphs(piece, cast(IO[bytes], file))) == []
    assert file.taken < 1100


def test_inputs_tell_the_bytes_of_each_slice(tmp_path):
    piece = write(tmp_path / "a.txt", b"one\ntwo\n")
    hashes = [hashlib.sha256(part).hexdigest() for part in (b"one\nt", b"wo\n", b"one\ntwo\n")]
    assert together(in_units(piece, 5), "inputs") == [
        Input(piece.name, 5, hashes[0], 0, 5), Input(piece.name, 3, hashes[1], 5, 8)
    ]  # fmt: skip
    assert Result([piece]).inputs == [Input(piece.name, 8, hashes[2])]
