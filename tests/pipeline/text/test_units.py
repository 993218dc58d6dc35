"""How many units each pass of tagging has."""

from dataclasses import replace

from vlmixer.artifacts.files import FileStat
from vlmixer.pipeline.text.units import Candidates, TagSizes

SIZES = TagSizes()


def test_parts_are_of_equal_size_whatever_the_files_were():
    batch = SIZES.rows_per_batch
    assert SIZES.part_units([]) == SIZES.part_units([0, 0]) == []
    assert [unit.content for unit in SIZES.part_units([1, 0, batch + 1])] == [
        Candidates(0, 0, 1), Candidates(2, 0, 1), Candidates(2, 1, 2)
    ]  # fmt: skip
    assert [unit.name for unit in SIZES.part_units([1, 1])] == ["part-00000", "part-00001"]
    big = SIZES.part_units([batch * 5000])
    assert {unit.content.end - unit.content.first for unit in big[:-1]} == {SIZES.max_batches_per_part}
    assert big[-1].content.end == 5000


def test_the_number_of_parts_is_estimated_from_the_candidates_alone():
    for sizes in (SIZES, replace(SIZES, rows_per_batch=7, parts_wanted=3, max_batches_per_part=5)):
        for candidates in (0, 1, 1_000, 40_000, 1_000_000, 3_000_000):
            assert sizes.count_parts(candidates, 1) == len(sizes.part_units([candidates]))
        spread = [30_000] * 20
        assert abs(sizes.count_parts(sum(spread), 20) - len(sizes.part_units(spread))) <= 20


def test_there_are_more_buckets_for_more_text():
    size = SIZES.bucket_bytes
    assert SIZES.buckets([FileStat("a.txt", 1)]) == 1
    assert SIZES.buckets([FileStat("a.txt", size)]) == SIZES.buckets_of(size) == 2
    assert SIZES.buckets([FileStat("a.txt.gz", size), FileStat("b.txt", size)]) == 6


def test_units_of_the_first_pass_read_so_many_bytes():
    units = replace(SIZES, find_bytes=100).find_units([FileStat("a.txt", 250)])
    assert [unit.name for unit in units] == ["find-00000", "find-00001", "find-00002"]
    assert sum(part.bytes for unit in units for part in unit.content) == 250
