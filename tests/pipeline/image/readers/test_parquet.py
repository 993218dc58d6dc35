"""Images in columns of Parquet files, whole and damaged."""

import os
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_parquet

from vlmixer.pipeline.image.readers.corpus import plan
from vlmixer.pipeline.image.readers.parquet import ParquetReader


def test_parquet_with_bytes(tmp_path):
    images = [jpeg(number) for number in range(10)]
    path = write_parquet(
        tmp_path / "p.parquet", images, URL=[f"http://u/{n}" for n in range(10)], license=list(range(10))
    )
    found = refs(path)
    assert [ref.key for ref in found] == [str(number) for number in range(10)]
    assert [(ref.url, ref.license) for ref in found[3:5]] == [("http://u/3", "3"), ("http://u/4", "4")]
    assert list(bytes_of(found).values()) == images
    assert list(bytes_of([found[4], found[8]]).values()) == [images[4], images[8]]


def test_parquet_as_hugging_face_datasets_write_it(tmp_path):
    column = [
        {"bytes": jpeg(1), "path": "1.jpg"},
        {"bytes": None, "path": "2.jpg"},
        None,
        {"bytes": jpeg(3), "path": None},
    ]
    path = write_parquet(tmp_path / "p.parquet", column, caption=["a", "b", "c", "d"])
    found = refs(path)
    assert list(bytes_of(found).values()) == [jpeg(1), "missing_field", "missing_field", jpeg(3)]


def test_a_big_parquet_file_is_cut_by_row_groups_and_within_big_ones(tmp_path):
    readers = (ParquetReader(rows_per_piece=10),)
    images = [jpeg(number) for number in range(47)]
    for group, cuts in ((4, [0, 8, 16, 24, 32, 40, 47]), (47, [0, 10, 20, 30, 40, 47]), (10, [0, 10, 20, 30, 40, 47])):
        path = write_parquet(tmp_path / f"{group}.parquet", images, group)
        pieces = plan([str(path)], readers).pieces
        assert [(piece.start, piece.stop) for piece in pieces] == list(pairwise(cuts))
        assert list(bytes_of(refs(path, readers=readers)).values()) == images
        (middle,) = [ref for ref in refs(path, readers=readers) if ref.position == 25]
        assert list(bytes_of([middle]).values()) == [images[25]]


def test_parquet_that_is_none_or_holds_no_images(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"hello")
    pq.write_table(pa.table({"n": [1]}), tmp_path / "b.parquet")
    write_parquet(tmp_path / "c.parquet", pa.array([], pa.binary()))
    found = bytes_of(refs(tmp_path / "*.parquet"))
    assert list(found.values()) == ["unreadable_file", "missing_field", "empty_file"]


def test_a_damaged_page_costs_its_rows_and_no_count(tmp_path):
    images = [os.urandom(3000) for _ in range(40)]
    path = write_parquet(tmp_path / "p.parquet", images, 10)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    found = bytes_of(refs(path))
    assert len(found) == 40
    assert list(found.values())[:16] == images[:16]
    assert set(list(found.values())[20:]) == {"unreadable_file"}
