"""Parquet is read in the thread that asks for it."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts.parquet import open_parquet, read_parquet

TABLE = pa.table({"id": list(range(100)), "name": [f"name {number}" for number in range(100)]})

COUNT_THREADS = """
import os, sys
from vlmixer.artifacts.parquet import open_parquet, read_parquet
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
        assert read_parquet(file, schema=TABLE.schema) == TABLE


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads in /proc")
def test_no_thread_of_arrow_holds_the_file(path):
    call = [sys.executable, "-c", COUNT_THREADS, str(path)]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0"
