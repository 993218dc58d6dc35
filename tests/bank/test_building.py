"""The files that a bank is written as."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.bank.numbered import DIM, VOCABULARY, table, write

from vlmixer.artifacts import files, manifest
from vlmixer.bank import building
from vlmixer.bank.building import ConceptCounts


def test_the_same_patches_give_the_same_bytes(folder, tmp_path):
    write(str(tmp_path))
    names = files.list_files(folder)
    assert names == ["concepts.parquet", "crops.bin", "features.npy", "index.faiss", "manifest.json", "patches.parquet"]
    for name in names:
        assert files.sha256(f"{folder}/{name}") == files.sha256(str(tmp_path / name)), name


def test_outputs_tell_rows_bytes_and_hashes_of_the_files(folder, tmp_path):
    for output in write(str(tmp_path)):
        assert output == manifest.output_of(folder, output.name, 4 if output.name == "concepts.parquet" else 43)


def test_concepts_tell_how_many_candidates_there_were(folder):
    rows = pq.read_table(f"{folder}/concepts.parquet").to_pylist()
    assert [(row["first"], row["count"], row["candidates"], row["near_duplicates"]) for row in rows] == [
        (0, 30, 60, 3), (30, 0, 0, 0), (30, 1, 2, 0), (31, 12, 24, 1)
    ]  # fmt: skip


def test_a_total_that_does_not_hold_publishes_no_bank(tmp_path):
    tables = [table(concept, 1) for concept in VOCABULARY.concepts]
    counts = [ConceptCounts(count) for count in (1, 1, 1, 2)]
    with pytest.raises(ValueError, match="kite: expected 2 patches, got 1"):
        building.write_bank(str(tmp_path), VOCABULARY.concepts, DIM, counts, tables)
    assert files.list_files(str(tmp_path)) == []


def test_feature_rows_of_a_slice():
    rows = table(VOCABULARY.concepts[0], 6)["feature"]
    expected = np.stack(rows.to_pylist()).astype(np.float16)
    assert np.array_equal(building.feature_rows(rows.slice(2, 3)), expected[2:5])
    assert np.array_equal(building.feature_rows(pa.chunked_array([rows.chunk(0)[:2], rows.chunk(0)[2:]])), expected)


def test_crops_file_is_the_crops_one_after_the_other(folder):
    content = io.BytesIO(files.read_bytes(f"{folder}/crops.bin"))
    assert content.read(26) == b"jpeg of dog 0jpeg of dog 1"
