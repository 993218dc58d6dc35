"""The record of photos: a file of other columns is one message."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.record import read_inputs, write_inputs


def test_the_inputs_are_read_as_they_were_written_or_refused(tmp_path):
    entries = [{"name": "a.jpg", "size": 3}, {"name": "b.jpg", "size": 4}]
    write_inputs(str(tmp_path), entries)
    assert read_inputs(str(tmp_path)) == entries
    pq.write_table(pa.table({"size": [3, 4]}), tmp_path / "record" / "inputs.parquet")
    with pytest.raises(UserError, match=r"inputs.parquet: cannot be read \(columns or types are not name, size"):
        read_inputs(str(tmp_path))
