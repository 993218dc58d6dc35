"""JSON files with a list of captions, read as a stream."""

import io
import json

import pytest

from vlmixer.artifacts.json_stream import BrokenJson
from vlmixer.pipeline.text.readers.base import ReadOptions, TextSlice
from vlmixer.pipeline.text.readers.json_list import JsonList


def test_coco_captions(read):
    records = [{"id": 7, "caption": " one "}, {"id": 8}, {"caption": 5}, "two", 3, {"caption": ""}, {"caption": ["a"]}]
    images = [{"id": number, "annotations": ["no"]} for number in range(3)]
    content = {"info": {"annotations": ["no"]}, "n": -1.5e3, "images": images, "annotations": records, "licenses": []}
    result = read("captions.json", json.dumps(content).encode())
    assert result.sentences == [("0", "one"), ("3", "two"), ("6-0", "a")]
    assert result.rejects == [
        ("1", "missing_field"), ("2", "missing_field"), ("4", "missing_field"), ("5", "empty_line")
    ]  # fmt: skip
    assert read("captions.json", json.dumps(records, indent=2).encode()).sentences == result.sentences


@pytest.mark.parametrize(
    "content",
    [b"{", b"{}", b'{"images": []}', b'{"annotations": {"a": 1}}', b'{"annotations": []}', b"[]", b"3", b" ", b'"one"',
     b"\xff\xfe[]", b"[" * 100_000, b'{"a": 1 "annotations": ["one"]}', b"{1: 2}", b'{"a": 1,}'],
)  # fmt: skip
def test_json_that_holds_no_captions(read, content):
    assert read("a.json", content).rejects == [("", "unreadable_file")]


@pytest.mark.parametrize(
    "rest", [b"", b",", b',"thr', b', {"caption": ', b"}", b', "three"] and more', b', "x"]["y"]', b", " + b"[" * 9999]
)
def test_of_a_json_list_that_breaks_what_stands_before_is_used(read, rest):
    for begin in (b"[", b'{"images": [{"id": 1}], "annotations": ['):
        result = read("a.json", begin + b'"one", "two"' + rest)
        assert result.texts[:2] == ["one", "two"]
        assert result.rejects == [("", "unreadable_file")]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (b"9" * 5000, "missing_field"),
        (b"1e99999999999999999999", "missing_field"),
        (b"-Infinity", "missing_field"),
        (b'"a\\ud83dx"', "not_utf8"),
        (b'"a\\udc15x"', "not_utf8"),
        (b'"caf\xe9"', "not_utf8"),
        (b'"a\\u0000x"', "nul_byte"),
        (b"[" * 300 + b"]" * 300, "missing_field"),
        (b'{"caption": {"caption": "x"}}', "missing_field"),
    ],
)
def test_an_odd_record_of_a_json_list_costs_itself_alone(read, odd, reason):
    result = read("a.json", b'["one", ' + odd + b', "two"]')
    assert result.sentences == [("0", "one"), ("2", "two")]
    assert result.rejects == [("1", reason)]


def test_records_may_cross_blocks_in_any_way():
    texts = ["one", 'two "quoted" \\ ', "three 🐕 שלום", "é" * 30, "", "x"]
    for ensure_ascii in (True, False):
        for indent in (None, 3):
            records = [{"n": [1.5, 20, {"a": None}], "caption": text} for text in texts]
            content = json.dumps(
                {"images": [12, 345], "annotations": records}, ensure_ascii=ensure_ascii, indent=indent
            ).encode()
            for size in (*range(1, 12), 100):
                found = JsonList(size).read(TextSlice("a.json", len(content)), io.BytesIO(content), ReadOptions())
                assert [(record.position, record.content) for record in found] == list(enumerate(texts))


def test_a_record_over_the_limit_ends_the_reading():
    content = b'["one", "' + b"x" * 5000 + b'", "two"]'
    text_slice, options = TextSlice("a.json", len(content)), ReadOptions(max_line_bytes=1000)
    found = JsonList(block_characters=10).read(text_slice, io.BytesIO(content), options)
    assert next(found).content == "one"
    with pytest.raises(BrokenJson):
        next(found)
    assert issubclass(BrokenJson, JsonList().errors)
