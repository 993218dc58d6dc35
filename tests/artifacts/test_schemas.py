import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts import files, schemas

SENTENCE: dict[str, object] = {
    "sentence_id": "s-0",
    "text": "a dog",
    "mentions": [{"start": 2, "end": 5, "concept": "dog", "surface": "dog", "lemma": "dog"}],
}


def region(number):
    return {
        "image_id": "i", "patch_id": f"i-{number}", "box": [0.0, 1.0, 2.5, 3.0], "concept": "dog", "score": 0.5,
        "feature": np.array([number, 1], np.float16), "crop": b"\xff\xd8", "width": 4, "height": 5, "source": "a.jpg",
        "key": "", "url": "", "license": "",
    }  # fmt: skip


def write(path, rows, schema, groups=1):
    with schemas.writing_parquet(str(path), schema) as writer:
        for _ in range(groups):
            writer.write_table(schemas.rows_to_table(rows, schema))


def test_equal_rows_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write(tmp_path / name, [region(number) for number in range(50)], schemas.regions(2), groups=2)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_rows_are_read_back_with_the_schema_and_a_row_group_for_each_write(tmp_path):
    write(tmp_path / "x", [SENTENCE], schemas.TAGGED, groups=3)
    file = pq.ParquetFile(tmp_path / "x")
    assert file.schema_arrow == schemas.TAGGED
    assert file.num_row_groups == 3
    assert file.read().to_pylist() == [SENTENCE] * 3


def test_only_sorted_columns_have_statistics(tmp_path):
    schema = pa.schema([("score", pa.float32()), ("concept_id", pa.int32())])
    with schemas.writing_parquet(str(tmp_path / "x"), schema) as writer:
        for concept in (3, 7):
            writer.write_table(pa.table({"score": [0.5, 0.25], "concept_id": [concept, concept]}, schema=schema))
    groups = [pq.ParquetFile(tmp_path / "x").metadata.row_group(number) for number in (0, 1)]
    assert [group.column(0).statistics for group in groups] == [None, None]
    assert [(group.column(1).statistics.min, group.column(1).statistics.max) for group in groups] == [(3, 3), (7, 7)]


def test_columns_of_regions_in_which_nothing_repeats_have_no_dictionary(tmp_path):
    write(tmp_path / "x", [region(number) for number in range(50)], schemas.regions(2), groups=1)
    group = pq.ParquetFile(tmp_path / "x").metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    repeating = {column.path_in_schema for column in columns if column.has_dictionary_page}
    assert repeating == {"image_id", "concept", "width", "height", "source", "key", "url", "license"}


def test_no_rows_make_a_file_without_rows(tmp_path):
    write(tmp_path / "x", [], schemas.TAGGED, groups=0)
    assert pq.read_table(tmp_path / "x", schema=schemas.TAGGED).num_rows == 0


def test_an_exception_within_the_block_leaves_nothing(tmp_path):
    def half():
        with schemas.writing_parquet(str(tmp_path / "x"), schemas.TAGGED) as writer:
            writer.write_table(schemas.rows_to_table([SENTENCE], schemas.TAGGED))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert files.list_files(str(tmp_path)) == []


@pytest.mark.parametrize("change", [{"feature": np.zeros(3, np.float16)}, {"score": "high"}, {"box": [1.0, 2.0]}])
def test_rows_of_another_shape_are_refused(change):
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        schemas.rows_to_table([region(0) | change], schemas.regions(2))
