"""The record of photos: units by row group, older files, and files of other columns."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts import schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.photos import Content, MetImage
from vlmixer.pipeline.image.readers.base import ImageRef, with_name_digest
from vlmixer.pipeline.image.record import (
    IMAGES,
    each_group,
    join_units,
    read_group,
    read_inputs,
    row_groups,
    write_inputs,
    write_unit,
)
from vlmixer.pipeline.image.survey import SurveyRows

UNITS = [["a.jpg", "b.jpg"], ["c.jpg"], ["d.jpg", "e.jpg", "f.jpg"]]


def write_units(folder: Path) -> list[str]:
    """The records of UNITS."""
    paths = []
    for number, names in enumerate(UNITS):
        rows = SurveyRows(f"survey-{number:05d}.parquet", 0, len(names))
        path = str(folder / f"part-{number:05d}.images")
        met = [
            MetImage(with_name_digest(ImageRef(name)), rows, row, Content.of(name.encode()), 4, 3)
            for row, name in enumerate(names)
        ]
        write_unit(path, met)
        paths.append(path)
    return paths


def names_by_unit(folder: Path) -> list[tuple[str, int]]:
    return [
        (row["source"], row["unit"])
        for number in range(len(row_groups(str(folder))))
        for row in read_group(str(folder), number).to_pylist()
    ]


@pytest.mark.parametrize(
    ("units", "rows", "expected"), [(64, 100, [6]), (2, 100, [3, 3]), (64, 2, [2, 4]), (1, 9, [2, 1, 3])]
)
def test_a_row_group_has_whole_units_and_says_which(tmp_path, units, rows, expected):
    output = join_units(str(tmp_path / "regions"), write_units(tmp_path), units, rows)
    assert (output.name, output.rows) == (IMAGES, 6)
    assert row_groups(str(tmp_path / "regions")) == expected
    assert names_by_unit(tmp_path / "regions") == [(name, unit) for unit, names in enumerate(UNITS) for name in names]


def test_a_record_of_an_older_version_has_a_row_group_for_each_unit(tmp_path):
    paths = write_units(tmp_path)
    tables = [pq.read_table(path) for path in paths]
    with schemas.writing_parquet(str(tmp_path / "regions" / IMAGES), tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    assert names_by_unit(tmp_path / "regions") == [(name, unit) for unit, names in enumerate(UNITS) for name in names]
    (ids,) = {tuple(group.column_names) for group in each_group(str(tmp_path / "regions"), ["image_id"])}
    assert ids == ("image_id",)


def test_a_record_of_a_unit_that_is_none_is_one_message(tmp_path):
    paths = write_units(tmp_path)
    Path(paths[1]).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"part-00001.images: cannot be read"):
        join_units(str(tmp_path / "regions"), paths)


def test_the_record_of_many_units_has_few_row_groups(tmp_path):
    """Parquet holds 45 kB for each in memory."""
    paths = write_units(tmp_path) * 100
    join_units(str(tmp_path / "regions"), paths)
    groups = row_groups(str(tmp_path / "regions"))
    assert (len(groups), sum(groups)) == (5, 600)
    units = np.concatenate([read_group(str(tmp_path / "regions"), number)["unit"].to_numpy() for number in range(5)])
    assert np.bincount(units).tolist() == [2, 1, 3] * 100


def test_the_inputs_are_read_as_they_were_written_or_refused(tmp_path):
    entries = [{"name": "a.jpg", "size": 3}, {"name": "b.jpg", "size": 4}]
    write_inputs(str(tmp_path), entries)
    assert read_inputs(str(tmp_path)) == entries
    pq.write_table(pa.table({"size": [3, 4]}), tmp_path / "record" / "inputs.parquet")
    with pytest.raises(UserError, match=r"inputs.parquet: cannot be read \(columns or types are not name, size"):
        read_inputs(str(tmp_path))
