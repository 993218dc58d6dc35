"""A corpus is divided into units by size; what cannot be split stays whole."""

import itertools

import pytest

from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.formats import can_split, format_of
from vlmixer.pipeline.text.readers.json_lines import JsonLines
from vlmixer.pipeline.text.readers.json_list import JsonList
from vlmixer.pipeline.text.readers.parquet import ParquetColumn
from vlmixer.pipeline.text.readers.plain import PlainText
from vlmixer.pipeline.text.readers.slices import plan_slices
from vlmixer.pipeline.text.readers.tar import TarSamples


@pytest.mark.parametrize(
    ("name", "form", "splits"),
    [
        ("a.txt", PlainText, True), ("a.TXT", PlainText, True), ("notes", PlainText, True),
        ("b.d/README.md", PlainText, True),
        ("a.jsonl", JsonLines, True), ("a.ndjson", JsonLines, True), ("a.parquet", ParquetColumn, True),
        ("a.json", JsonList, False), ("a.tar", TarSamples, False), ("a.tgz", TarSamples, False),
        ("a.tar.gz", TarSamples, False),
        ("a.tar.zst", TarSamples, False), ("a.txt.gz", PlainText, False), ("a.jsonl.zst", JsonLines, False),
        ("a.JSON.GZ", JsonList, False), ("a.gz", PlainText, False), ("x.tar/a.txt", PlainText, True),
        ("s3://bucket/x.json/a.jsonl", JsonLines, True),
    ],
)  # fmt: skip
def test_a_name_tells_the_format_and_whether_it_can_be_split(name, form, splits):
    assert isinstance(format_of(name), form)
    assert can_split(name) == splits


def test_small_files_are_packed_together():
    inputs = [FileStat("a.txt", 40), FileStat("b.txt", 60), FileStat("c.txt", 1), FileStat("d.txt", 0)]
    assert plan_slices(inputs, 100) == [
        (TextSlice("a.txt", 40), TextSlice("b.txt", 60)), (TextSlice("c.txt", 1), TextSlice("d.txt", 0))
    ]  # fmt: skip


def test_empty_files_are_planned_too():
    assert plan_slices([FileStat("a.txt", 0), FileStat("b.txt", 5)], 100) == [
        (TextSlice("a.txt", 0), TextSlice("b.txt", 5))
    ]
    assert plan_slices([FileStat("a.txt", 0)]) == [(TextSlice("a.txt", 0),)]
    assert plan_slices([]) == []


def test_a_unit_never_holds_very_many_files():
    units = plan_slices([FileStat(f"{number}.txt", 1) for number in range(2001)])
    assert [len(unit) for unit in units] == [1000, 1000, 1]


def test_big_files_are_sliced_where_they_can_be():
    for name in ("a.jsonl", "a.parquet", "a.txt"):
        assert plan_slices([FileStat(name, 250)], 100) == [
            (TextSlice(name, 250, 0, 100),), (TextSlice(name, 250, 100, 200),), (TextSlice(name, 250, 200, 250),)
        ]  # fmt: skip
    for name in ("a.txt.gz", "a.jsonl.zst", "a.tar", "A.JSON"):
        assert plan_slices([FileStat(name, 250)], 100) == [(TextSlice(name, 250),)]


def test_slices_cover_every_byte_once():
    for size in (1, 99, 100, 101, 1000):
        for unit_bytes in (1, 7, 100):
            pieces = [piece for unit in plan_slices([FileStat("a.txt", size)], unit_bytes) for piece in unit]
            assert sum(piece.bytes for piece in pieces) == size
            assert pieces[0].start == 0
            assert all(one.end == other.start for one, other in itertools.pairwise(pieces))
            assert all(piece.bytes <= unit_bytes for piece in pieces)
