"""Parquet is read in the thread that asks for it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.parquet import boxes_inside, open_parquet, read_parquet, reading, rows_at_once

TABLE = pa.table({"id": list(range(100)), "name": [f"name {number}" for number in range(100)]})

COUNT_THREADS = """
import os, sys
from vlmixer.artifacts.parquet import boxes_inside, open_parquet, read_parquet, reading
before = len(os.listdir("/proc/self/task"))
with open(sys.argv[1], "rb") as file:
    open_parquet(file).read(use_threads=False)
    open_parquet(file).read_row_group(0, columns=["id"], use_threads=False)
    read_parquet(file, ["name"])
print(len(os.listdir("/proc/self/task")) - before)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    pq.write_table(TABLE, tmp_path / "table.parquet", row_group_size=30)
    return tmp_path / "table.parquet"


def test_what_is_read_is_what_was_written(path):
    with path.open("rb") as file:
        assert open_parquet(file).read_row_group(1, use_threads=False) == TABLE.slice(30, 30)
        assert open_parquet(file, buffer_size=1 << 12).read(use_threads=False) == TABLE
        assert read_parquet(file, ["id"]) == TABLE.select(["id"])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_no_thread_of_arrow_holds_the_file(path):
    call = [sys.executable, "-c", COUNT_THREADS, str(path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"


LISTS = pa.schema([pa.field("boxes", pa.list_(pa.struct([pa.field("name", pa.string())])), nullable=False)])


def test_a_file_of_ours_is_read_by_row_groups(path):
    with reading(str(path), TABLE.schema) as table:
        assert table.row_groups == [30, 30, 30, 10]
        assert table.read_row_group(1, ["id"]) == TABLE.slice(30, 30).select(["id"])
        assert table.read() == TABLE


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ([{"boxes": None}], "a null in column boxes"),
        ([{"boxes": [None]}], "a null in column boxes"),
        ([{"boxes": []}, {"boxes": [{"name": "a"}, {"name": None}]}], "a null in column boxes"),
    ],
)
def test_nulls_are_damage_at_any_depth(tmp_path, rows, what):
    nullable = pa.schema([pa.field("boxes", LISTS.field("boxes").type)])
    pq.write_table(pa.Table.from_pylist(rows, nullable), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=what), reading(str(tmp_path / "a.parquet"), nullable) as table:
        table.read()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.list_(pa.float32(), 2)])
def test_numbers_that_are_not_finite_are_damage(tmp_path, value, kind):
    listed = pa.types.is_fixed_size_list(kind)
    schema = pa.schema([("score", kind)])
    # The oldest pyarrow makes float16 of numpy's alone.
    number = np.float16(value) if pa.types.is_float16(kind) else value
    given = pa.array([[1, value] if listed else number], kind)
    pq.write_table(pa.table([given], schema=schema), tmp_path / "a.parquet")
    where = "a number that is not finite in column score"
    with pytest.raises(UserError, match=where), reading(str(tmp_path / "a.parquet"), schema) as table:
        table.read()


def test_other_columns_groups_and_bytes_are_damage(path, tmp_path):
    other = pa.schema([("id", pa.int32())])
    with pytest.raises(UserError, match="columns or types are not id as documented"), reading(str(path), other):
        pass
    with pytest.raises(UserError, match="no row group 4"), reading(str(path), TABLE.schema) as table:
        table.read_row_group(4)
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    schema = pa.schema([("text", pa.string())])
    with pytest.raises(UserError, match=r"UTF-?8"), reading(str(tmp_path / "a.parquet"), schema) as table:
        table.read()


SHARED = pa.schema([("name", pa.string())])


def write_shared(path: Path, length: int, rows: int) -> None:
    """A file of one row group in which all rows share one text, which it has once."""
    shared = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["a" * length]))
    pq.write_table(pa.table({"name": shared}), path, compression="zstd", store_schema=False)


def test_a_text_that_would_fill_the_memory_in_each_row_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    write_shared(path, 20_000, 10_000)
    assert path.stat().st_size < 10_000  # in memory it would have 200 MB
    with path.open("rb") as file:
        assert rows_at_once(open_parquet(file), file, 0, "name", 4096) == (1 << 26) // 20_000
    write_shared(path, 100_000, 10_000)
    with (
        pytest.raises(UserError, match="column name of row group 0 has values that fill the memory"),
        reading(str(path), SHARED) as table,
    ):
        table.read_row_group(0)
    write_shared(path, 100, 10_000)
    with reading(str(path), SHARED) as table:
        assert table.read()["name"].to_pylist() == ["a" * 100] * 10_000


LONG = "a" * 100_000


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.binary(), LONG.encode()),
        (pa.list_(pa.string()), [LONG]),
        (pa.list_(pa.struct([("word", pa.string())])), [{"word": LONG}]),
    ],
)
def test_so_are_bytes_and_texts_in_lists(tmp_path, kind, value):
    schema = pa.schema([("name", kind)])
    for rows in (100, 1000):
        values = [value] * rows
        pq.write_table(pa.table([pa.array(values, kind)], schema), tmp_path / "a.parquet", compression="zstd")
        with reading(str(tmp_path / "a.parquet"), schema) as table:
            if rows == 100:
                assert table.read()["name"].to_pylist() == values
                continue
            with pytest.raises(pa.ArrowInvalid, match="of row group 0 has values that fill the memory"):
                table.read()


def test_numbers_that_repeat_without_end_are_refused(tmp_path):
    schema = pa.schema([("width", pa.int32())])
    ones = pa.table({"width": pa.array(np.ones(9 << 20, np.int32))})
    pq.write_table(ones, tmp_path / "a.parquet", row_group_size=len(ones))
    said = "column width of row group 0 has values"
    with pytest.raises(UserError, match=said), reading(str(tmp_path / "a.parquet"), schema) as table:
        table.read()


def test_a_column_that_unpacks_to_many_times_its_size_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"name": ["a dog", "a" * (70 << 20)]}), path, compression="zstd")
    for read in (lambda table: table.read_row_group(0), lambda table: table.read(["name"])):
        said = r"column name of row group 0 unpacks to [\d,]+ bytes, more than 200 times"
        with pytest.raises(UserError, match=said), reading(str(path), SHARED) as table:
            read(table)


@pytest.mark.parametrize("box", [[0, 0, 0, 5], [0, 0, 11, 5], [-1, 0, 5, 5], [0, 3, 5, 2], [0, 0, 5, float("nan")]])
def test_a_box_outside_of_its_image_is_damage(tmp_path, box):
    kinds = {"box": pa.list_(pa.float32(), 4), "width": pa.int32(), "height": pa.int32()}
    schema = pa.schema(list(kinds.items()))
    for boxes in ([[0, 0, 10, 20]], [[0, 0, 10, 20], box]):
        columns = [boxes, [10] * len(boxes), [20] * len(boxes)]
        table = pa.table([pa.array(values, kind) for values, kind in zip(columns, kinds.values(), strict=True)], schema)
        pq.write_table(table, tmp_path / "a.parquet")
        with reading(str(tmp_path / "a.parquet"), schema, finite=False) as own:
            assert boxes_inside(own.read()).tolist() == [True, False][: len(boxes)]
        if len(boxes) == 1:
            with reading(str(tmp_path / "a.parquet"), schema) as own:
                assert own.read().equals(table)
    with pytest.raises(UserError, match=r"not inside|not finite"), reading(str(tmp_path / "a.parquet"), schema) as own:
        own.read()
