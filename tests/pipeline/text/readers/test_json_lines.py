"""JSON lines: the field of each object."""

import json

from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


def test_json_lines(read):
    lines = [
        b'{"caption": "one", "n": 1}', b'{"n": 2}', b'{"caption": 3}', b'{"caption": null}', b'{"caption": {"a": "x"}}',
        b"no json", b'{"caption": "tw', b'["one"]', b"7", b"", b'{"caption": "  "}', b'{"caption": "\\ud83d"}',
        b'{"caption": "a\\ud83d\\udc15\\n b "}', b"[" * 100_000, b'{"caption": "\xff"}',
        b'{"n": ' + b"9" * 5000 + b"}", b'{"caption": "last", "n": 1e999999999999}',
    ]  # fmt: skip
    result = read("a.jsonl", b"\n".join(lines))
    assert result.texts == ["one", "a🐕\n b", "last"]
    assert [reason for _, reason in result.rejects] == [
        "missing_field", "missing_field", "missing_field", "missing_field", "not_json", "not_json", "missing_field",
        "missing_field", "empty_line", "empty_line", "not_utf8", "not_json", "not_utf8", "not_json",
    ]  # fmt: skip
    assert result.details[1] == "'caption' is int, expected text"


def test_the_field_can_be_chosen(read):
    assert read("a.ndjson", b'{"text": "one", "caption": "two"}', field="text").texts == ["one"]


def test_a_field_may_hold_several_texts(read):
    result = read("a.jsonl", json.dumps({"caption": ["one", 2, None, " ", "two", ["x"]]}).encode())
    assert result.sentences == [("0-0", "one"), ("0-4", "two")]
    wrong = ["missing_field", "missing_field", "empty_line", "missing_field"]
    assert result.rejects == [(f"0-{place}", why) for place, why in zip((1, 2, 3, 5), wrong, strict=True)]


def test_a_list_of_no_texts_is_a_missing_field(read):
    assert read("a.jsonl", b'{"caption": []}').rejects == [("0", "missing_field")]


def test_several_running_texts_are_split_and_numbered_through(read):
    content = b'{"caption": ["One. Two.", " ", 3, "Three."]}\n{"caption": "One. Two."}'
    result = read("a.jsonl", content, splitter=SPLITTER)
    assert result.sentences == [
        ("0-0", "One."), ("0-1", "Two."), ("0-4", "Three."), ("45-0", "One."), ("45-1", "Two.")
    ]  # fmt: skip
    assert result.rejects == [("0-2", "empty_line"), ("0-3", "missing_field")]
