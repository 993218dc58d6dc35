"""A corpus is divided into units by size; what cannot be split stays whole."""

import itertools

import pytest

from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.readers.slices import Slice, can_split, kind, plan_slices


@pytest.mark.parametrize(
    ("name", "form", "splits"),
    [
        ("a.txt", "txt", True), ("a.TXT", "txt", True), ("notes", "txt", True), ("b.d/README.md", "txt", True),
        ("a.jsonl", "jsonl", True), ("a.ndjson", "jsonl", True), ("a.parquet", "parquet", True),
        ("a.json", "json", False), ("a.tar", "tar", False), ("a.tgz", "tar", False), ("a.tar.gz", "tar", False),
        ("a.tar.zst", "tar", False), ("a.txt.gz", "txt", False), ("a.jsonl.zst", "jsonl", False),
        ("a.JSON.GZ", "json", False), ("a.gz", "txt", False), ("x.tar/a.txt", "txt", True),
        ("s3://bucket/x.json/a.jsonl", "jsonl", True),
    ],
)  # fmt: skip
def test_a_name_tells_the_format_and_whether_it_can_be_split(name, form, splits):
    assert kind(name) == form
    assert can_split(name) == splits


def test_small_files_are_packed_together():
    inputs = [FileStat("a.txt", 40), FileStat("b.txt", 60), FileStat("c.txt", 1), FileStat("d.txt", 0)]
    assert plan_slices(inputs, 100) == [
        (Slice("a.txt", 40), Slice("b.txt", 60)), (Slice("c.txt", 1), Slice("d.txt", 0))
    ]  # fmt: skip


def test_empty_files_are_planned_too():
    assert plan_slices([FileStat("a.txt", 0), FileStat("b.txt", 5)], 100) == [(Slice("a.txt", 0), Slice("b.txt", 5))]
    assert plan_slices([FileStat("a.txt", 0)]) == [(Slice("a.txt", 0),)]
    assert plan_slices([]) == []


def test_a_unit_never_holds_very_many_files():
    units = plan_slices([FileStat(f"{number}.txt", 1) for number in range(2001)])
    assert [len(unit) for unit in units] == [1000, 1000, 1]


def test_big_files_are_sliced_where_they_can_be():
    for name in ("a.jsonl", "a.parquet", "a.txt"):
        assert plan_slices([FileStat(name, 250)], 100) == [
            (Slice(name, 250, 0, 100),), (Slice(name, 250, 100, 200),), (Slice(name, 250, 200, 250),)
        ]  # fmt: skip
    for name in ("a.txt.gz", "a.jsonl.zst", "a.tar", "A.JSON"):
        assert plan_slices([FileStat(name, 250)], 100) == [(Slice(name, 250),)]


def test_slices_cover_every_byte_once():
    for size in (1, 99, 100, 101, 1000):
        for unit_bytes in (1, 7, 100):
            pieces = [piece for unit in plan_slices([FileStat("a.txt", size)], unit_bytes) for piece in unit]
            assert sum(piece.bytes for piece in pieces) == size
            assert pieces[0].start == 0
            assert all(one.end == other.start for one, other in itertools.pairwise(pieces))
            assert all(piece.bytes <= unit_bytes for piece in pieces)
