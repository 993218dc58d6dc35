"""The Parquet folders as DuckDB, Polars, pandas and PyArrow read them: docs/reading-tables.md, and what they skip."""

import re
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

PAGE = (Path(__file__).parents[2] / "docs" / "reading-tables.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def out(small_run, monkeypatch) -> Path:
    """The folder in which `out/` is a finished run, as the present one."""
    monkeypatch.chdir(small_run.folder)
    return small_run.folder / "out"


@pytest.mark.parametrize("program", PROGRAMS, ids=["duckdb", "polars", "pandas", "bank", "datasets"])
def test_the_programs_of_the_page_run(out, program, capsys):
    exec(compile(program, "reading-tables.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.parametrize("folder", ["tagged", "regions", "rejects"])
def test_all_tools_read_the_same_rows(out, folder, tmp_path):
    parts = sorted(map(str, (out / folder).glob("*.parquet")))
    rows = sum(pq.ParquetFile(part).metadata.num_rows for part in parts)
    assert rows > 0
    assert len(pl.read_parquet(f"out/{folder}/*.parquet")) == rows
    assert len(pd.read_parquet(parts)) == rows  # type: ignore[call-overload]  # the stubs know single files only
    assert duckdb.sql(f"SELECT count(*) FROM 'out/{folder}/*.parquet'").fetchall() == [(rows,)]
    files = f"out/{folder}/*.parquet"
    assert load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path)).num_rows == rows


def test_rejects_are_read_as_a_folder(out):
    rows = len(pl.read_parquet("out/rejects/*.parquet"))
    assert len(pl.read_parquet("out/rejects")) == len(pd.read_parquet("out/rejects")) == rows


@pytest.mark.parametrize("column", ["concept", "image_id"])
def test_filters_exclude_the_row_groups_without_a_value(out, column):
    for path in sorted((out / "regions").glob("*.parquet")):
        file = pq.ParquetFile(path)
        groups = [file.read_row_group(number, columns=[column])[column] for number in range(file.num_row_groups)]
        for value in {groups[0][0].as_py(), groups[-1][-1].as_py()}:
            found = duckdb.sql(f"FROM parquet_bloom_probe('{path}', '{column}', '{value}')").fetchall()
            excluded = {number for _, number, is_excluded in found if is_excluded}
            assert excluded == {number for number, group in enumerate(groups) if value not in group.to_pylist()}


def test_a_concept_of_the_bank_is_one_row_group(out):
    file = pq.ParquetFile(out / "bank" / "patches.parquet")
    place = file.schema_arrow.names.index("concept_id")
    for number in range(file.num_row_groups):
        kept = file.metadata.row_group(number).column(place).statistics
        (concept,) = set(file.read_row_group(number, columns=["concept_id"])["concept_id"].to_pylist())
        assert (kept.min, kept.max) == (concept, concept)
