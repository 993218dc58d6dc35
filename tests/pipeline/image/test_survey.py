"""How a surveyed corpus is divided into units of detection."""

import hashlib

import pyarrow.parquet as pq
import pytest

from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.references import refs_table
from vlmixer.pipeline.image.survey import DetectSizes, SurveyPart, divide


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
