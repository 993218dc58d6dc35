"""How a surveyed corpus is divided into units of detection."""

import hashlib

import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.references import refs_table
from vlmixer.pipeline.image.survey import DetectSizes, SurveyPart, SurveyRows, divide, read_part


def write_part(folder, name, contents, number=0, one_unit=False):
    refs = [
        ImageRef(
            f"{name}/{row}", order=(number, row), digest=hashlib.blake2b(content.encode(), digest_size=16).digest()
        )
        for row, content in enumerate(contents)
    ]
    pq.write_table(refs_table(refs), folder / name)
    return SurveyPart(name, len(refs), one_unit)


@pytest.fixture
def parts(tmp_path):
    return [
        write_part(tmp_path, "a", [f"a{row}" for row in range(10)]),
        write_part(tmp_path, "b", [f"b{row}" for row in range(7)], 1, one_unit=True),
        write_part(tmp_path, "none", [], 2, one_unit=True),
        write_part(tmp_path, "c", [f"c{row}" for row in range(3)], 3),
        write_part(tmp_path, "d", ["a3", "d", "b0", "d"], 4),
    ]


def spans(units):
    return sorted([(rows.part, rows.start, rows.stop) for rows in unit] for unit in units)


def test_units_take_neighbours_across_parts_and_some_parts_whole(tmp_path, parts):
    units = divide(parts, DetectSizes(images_per_unit=4))
    assert spans(units) == [
        [("a", 0, 4)], [("a", 4, 8)], [("a", 8, 10)], [("b", 0, 7)], [("c", 0, 3), ("d", 0, 1)], [("d", 1, 4)]
    ]  # fmt: skip
    read = [ref.source for unit in units for rows in unit for ref in rows.read(str(tmp_path))]
    assert sorted(read) == sorted(f"{part.name}/{row}" for part in parts for row in range(part.rows))


def test_units_are_larger_if_there_would_be_too_many(parts):
    assert spans(divide(parts, DetectSizes(images_per_unit=1, max_units=4))) == [
        [("a", 0, 6)], [("a", 6, 10)], [("b", 0, 7)], [("c", 0, 3), ("d", 0, 3)], [("d", 3, 4)]
    ]  # fmt: skip


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 4), (3, 5), (4, 8), (4, 11), (9, 11), (0, 11)])
def test_rows_come_from_the_row_groups_that_hold_them(tmp_path, start, stop):
    refs = [ImageRef(f"{row}", digest=bytes(16)) for row in range(11)]
    pq.write_table(refs_table(refs), tmp_path / "part", row_group_size=4)
    assert [ref.source for ref in SurveyRows("part", start, stop).read(str(tmp_path))] == [
        f"{row}" for row in range(start, stop)
    ]
    assert [ref.source for ref in read_part(str(tmp_path / "part"))] == [ref.source for ref in refs]


def test_a_survey_that_ends_too_early_is_one_message(tmp_path):
    pq.write_table(refs_table([ImageRef("a", digest=bytes(16))]), tmp_path / "part")
    with pytest.raises(UserError, match=r"part: cannot be read \(no row group 1\)"):
        SurveyRows("part", 0, 2).read(str(tmp_path))
