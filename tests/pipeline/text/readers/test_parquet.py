"""Parquet: a column of texts or of lists of texts."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.text.readers.helpers import Result, parquet, write

from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES
from vlmixer.pipeline.text.readers.reader import SentenceReader
from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


def test_parquet(read):
    columns = {"n": [1, 2, 3, 4, 5], "caption": ["one", None, " ", "two", "x" * 9]}
    result = read("b.parquet", parquet(columns), max_characters=8)
    assert result.sentences == [("0", "one"), ("3", "two")]
    assert result.rejects == [("1", "missing_field"), ("2", "empty_line"), ("4", "too_long")]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_text_of_any_type(read, kind):
    column = pa.array(["one", "two"]).cast(kind)
    assert read("b.parquet", parquet({"caption": column})).texts == ["one", "two"]


def test_parquet_with_lists_of_texts(read):
    result = read("b.parquet", parquet({"caption": [["one", "two"], [], None, ["three", None]]}))
    assert result.sentences == [("0-0", "one"), ("0-1", "two"), ("3-0", "three")]
    assert result.rejects == [("1", "missing_field"), ("2", "missing_field"), ("3-1", "missing_field")]


def test_a_list_s_text_that_no_pipeline_takes_costs_that_text_alone(read):
    texts = ["One. Two.", "a " * (MAX_LINE_BYTES // 2 + 1), "Three."]
    result = read("b.parquet", parquet({"caption": [texts]}), splitter=SPLITTER, max_characters=10)
    assert result.sentences == [("0-0", "One."), ("0-1", "Two."), ("0-3", "Three.")]
    assert result.rejects == [("0-2", "too_long")]


def test_a_row_s_sentences_come_one_by_one(tmp_path):
    reader = SentenceReader(RejectLog("tag"))
    next(reader.sentences([write(tmp_path / "b.parquet", parquet({"caption": [["a dog"] * 1000]}))]))
    assert reader.read == 1


@pytest.mark.parametrize("values", [[1, 2], [{"caption": "x"}, None], [b"one", b"two"]])
def test_parquet_with_a_column_of_something_else(read, values):
    result = read("b.parquet", parquet({"caption": values}))
    assert result.rejects == [("0", "missing_field"), ("1", "missing_field")]


def test_parquet_text_that_is_no_utf8_costs_that_row_alone(read):
    stored = pa.array([b"one", b"caf\xe9", b"two"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, stored.buffers())
    result = read("b.parquet", parquet({"caption": column}))
    assert result.sentences == [("0", "one"), ("2", "two")]
    assert result.rejects == [("1", "not_utf8")]


def test_long_texts_that_many_rows_share(read):
    long = "x" * 200_000
    stored = [b"a dog", long.encode(), None, b"caf\xe9 " * 40_000, b"two"]
    shared = pa.array(stored, pa.binary())
    values = pa.Array.from_buffers(pa.string(), 5, shared.buffers(), null_count=1)
    rows = [0, 1, 2, 3] * 500 + [4]
    result = read("b.parquet", parquet({"caption": values.take(pa.array(rows))}), max_characters=200_000)
    assert result.texts == ["a dog", long] * 500 + ["two"]
    assert result.reasons == ["missing_field", "not_utf8"] * 500
    assert result.sentences[-1] == ("2000", "two")


def test_parquet_that_breaks_off(read):
    content = parquet({"caption": ["one"] * 10})
    assert read("b.parquet", content[:-1]).rejects == [("", "unreadable_file")]


def test_a_damaged_row_group_costs_the_rest_of_its_slice(tmp_path):
    content = bytearray(parquet({"caption": [f"caption {number}" for number in range(9)]}, 3))
    group = pq.ParquetFile(io.BytesIO(content)).metadata.row_group(1).column(0)
    begin, end = group.dictionary_page_offset, group.data_page_offset
    content[begin:end] = b"\xff" * (end - begin)
    result = Result([write(tmp_path / "b.parquet", bytes(content))])
    assert result.texts == ["caption 0", "caption 1", "caption 2"]
    assert result.rejects == [("", "unreadable_file")]


def test_a_parquet_file_without_rows_and_a_text_of_blank_lines_are_empty(read):
    assert read("a.parquet", parquet({"caption": pa.array([], pa.string())})).rejects == [("", "empty_file")]
    assert read("a.txt", b"\n \n\r\n", splitter=SPLITTER).rejects == [("", "empty_file")]


def test_a_parquet_file_without_the_column_does_not_cost_the_others(tmp_path):
    good = [write(tmp_path / f"{name}.parquet", parquet({"caption": [name]})) for name in ("one", "two")]
    odd = write(tmp_path / "odd.parquet", parquet({"text": ["x"] * 7, "n": [1] * 7}))
    result = Result([good[0], odd, good[1]])
    assert result.texts == ["one", "two"]
    assert result.rejects == [("", "missing_field")]
    assert result.details == ["no column 'caption' in: text, n; 7 rows; write text.field: text"]


def test_running_text_in_parquet(read):
    content = parquet({"caption": ["One. Two.", " ", "Three."]})
    result = read("a.parquet", content, splitter=SPLITTER)
    assert result.sentences == [("0-0", "One."), ("0-1", "Two."), ("2-0", "Three.")]
    assert result.rejects == [("1", "empty_line")]


def test_a_document_over_the_limit_is_not_used(read):
    content = parquet({"caption": ["One. Two.", "x" * 101]})
    result = read("a.parquet", content, splitter=SPLITTER, max_line_bytes=100)
    assert result.texts == ["One.", "Two."]
    assert result.rejects == [("1", "too_long")]
