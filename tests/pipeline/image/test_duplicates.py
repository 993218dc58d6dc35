"""Duplicates among surveyed images, against a plain dictionary."""

import hashlib
import random
from typing import Any

import pyarrow.parquet as pq
import pytest

from vlmixer.pipeline.image.duplicates import DuplicateFiles, lay_out
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.references import refs_table
from vlmixer.pipeline.image.survey import SIZES, DetectSizes, SurveyPart, SurveyRows


def survey(folder, contents):
    """Parts with these rows: (content, number of the input, place in it). Their images are named PART/ROW."""
    parts = []
    for number, rows in enumerate(contents):
        name = f"survey-{number:05d}.parquet"
        refs = [
            ImageRef(
                f"{number}", str(row), order=order, digest=hashlib.blake2b(content.encode(), digest_size=16).digest()
            )
            for row, (content, *order) in enumerate(rows)
        ]
        pq.write_table(refs_table(refs), folder / name, row_group_size=3)
        parts.append(SurveyPart(name, len(rows)))
    return parts


def found(folder, contents, sizes=SIZES):
    """By (part, row), the names of the first images."""
    parts = survey(folder, contents)
    search = DuplicateFiles(str(folder))
    layout = search.begin(parts, sizes)
    for group in range(len(layout.groups)):
        search.spread(group)
    for share in range(layout.shares):
        search.compare(share)
    return {
        (number, row): name
        for number, part in enumerate(parts)
        if part.rows
        for row, name in search.of(SurveyRows(part.name, 0, part.rows)).items()
    }


def test_first_is_what_comes_first_among_the_inputs(tmp_path):
    contents = [[("a", 7, 0), ("b", 2, 0), ("a", 3, 5)], [("a", 3, 4), ("c", 1, 0)]]
    assert found(tmp_path, contents) == {(0, 0): "1 0", (0, 2): "1 0"}


def test_only_the_rows_that_are_asked_for(tmp_path):
    found(tmp_path, [[("a", 0, row) for row in range(5)], [("a", 1, 0), ("b", 1, 1)]])
    search = DuplicateFiles(str(tmp_path))
    assert search.of(SurveyRows("survey-00000.parquet", 0, 1)) == {}
    assert search.of(SurveyRows("survey-00000.parquet", 2, 4)) == {2: "0 0", 3: "0 0"}
    assert search.of(SurveyRows("survey-00001.parquet", 0, 2)) == {0: "0 0"}


def test_nothing(tmp_path):
    assert found(tmp_path, []) == {}
    assert found(tmp_path, [[], [("a", 0, 0)], []]) == {}


def test_groups_are_of_consecutive_parts_and_about_as_large():
    parts = [SurveyPart(f"{number}", rows) for number, rows in enumerate([5, 0, 3, 9, 1, 1, 1])]
    assert lay_out(parts, DetectSizes(images_per_group=6)).groups == (("0",), ("2", "3"), ("4",), ("5", "6"))
    assert lay_out(parts, DetectSizes(images_per_group=6, max_groups=1)).groups == (("0", "2", "3", "4", "5", "6"),)
    assert lay_out(parts, DetectSizes(images_per_share=6)).shares == 4
    assert lay_out(parts, DetectSizes(images_per_share=6, max_shares=3)).shares == 3


@pytest.mark.parametrize("share", [1, 100, 10_000])
@pytest.mark.parametrize("group", [1, 150, 10_000])
def test_any_shares_and_groups_find_the_same(tmp_path, share, group):
    chance = random.Random(0)
    contents = [[(str(chance.randrange(200)), chance.randrange(50), row) for row in range(100)] for _ in range(4)]
    seen: dict[Any, str] = {}
    expected = {}
    rows = [(number, place, part, row, content) for part, held in enumerate(contents)
            for row, (content, number, place) in enumerate(held)]  # fmt: skip
    for _, _, part, row, content in sorted(rows):
        if content in seen:
            expected[part, row] = seen[content]
        else:
            seen[content] = f"{part} {row}"
    sizes = DetectSizes(images_per_share=share, max_shares=7, images_per_group=group)
    assert found(tmp_path, contents, sizes) == expected
