"""Plain text: sentences by lines, or running text by paragraphs, each known by the byte at which it begins."""

import gzip

import pytest
from tests.pipeline.text.readers.helpers import tar, zst

from vlmixer.pipeline.text.readers.reader import SourceSentence
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


def test_plain_lines(read):
    result = read("a.txt", b"a dog\n  two cats \nkite")
    assert result.sentences == [("0", "a dog"), ("6", "two cats"), ("18", "kite")]
    assert result.rejects == []


def test_ids_are_unique_and_tell_file_and_position(read, tmp_path):
    name = source_id(str(tmp_path / "a.txt"))
    assert len(name) == 12
    assert read("a.txt", b"a dog\na dog\n").ids == [f"{name}-000000000000", f"{name}-000000000006"]
    assert source_id("a.txt") != source_id("b.txt")
    assert SourceSentence("a.txt", 7, -1, "x").sentence_id == f"{source_id('a.txt')}-000000000007"
    assert SourceSentence("a.txt", 7, 3, "x").sentence_id == f"{source_id('a.txt')}-000000000007-00003"
    assert (SourceSentence("a.txt", 7, -1, "x").key, SourceSentence("a.txt", 7, 0, "x").key) == ("7", "7-0")


def test_ends_of_lines(read):
    assert read("a.txt", b"one\r\ntwo\r\n").sentences == [("0", "one"), ("5", "two")]
    assert (
        read("a.txt", b"one\ntwo\n").sentences == read("a.txt", b"one\ntwo").sentences == [("0", "one"), ("4", "two")]
    )
    assert read("a.txt", "one\u2028two\x0bthree\x85".encode()).texts == ["one\u2028two\x0bthree"]


def test_blank_lines_are_counted_not_used(read):
    result = read("a.txt", b"one\n\n \t\r\ntwo\n")
    assert result.sentences == [("0", "one"), ("9", "two")]
    assert result.rejects == [("4", "empty_line"), ("5", "empty_line")]


@pytest.mark.parametrize("split", [None, SPLITTER])
def test_bytes_that_are_no_utf8_cost_their_line_or_paragraph_alone(read, split):
    result = read("a.txt", b"one\n\ncaf\xe9\n\ntwo\n", splitter=split)
    assert result.texts == ["one", "two"]
    assert [entry for entry in result.rejects if entry[1] != "empty_line"] == [("5", "not_utf8")]


def test_a_binary_file_is_all_rejects(read):
    result = read("a.txt", b"\x89PNG\r\n\0\0\0\rIHDR\n" + bytes(range(0x80, 0x100)))
    assert result.texts == []
    assert result.rejects == [("0", "not_utf8"), ("6", "nul_byte"), ("15", "not_utf8")]


def test_lines_over_the_limit_are_not_used(read):
    result = read(
        "a.txt",
        b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z" * 95 + b"\nok\n" + b"w" * 11,
        max_characters=50,
        max_line_bytes=10,
    )
    assert result.sentences == [("0", "x" * 10), ("119", "ok")]
    assert result.rejects == [("11", "too_long"), ("23", "too_long"), ("122", "too_long")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"One dog. Two\r\ncats!\r\n\r\nThe end"),
        ("a.jsonl", b'{"caption": "One dog. Two\\ncats!\\n\\nThe end"}'),
        ("a.json", b'["One dog. Two\\ncats!\\n \\nThe end"]'),
        ("a.tar", tar([("0.txt", b"One dog. Two\ncats!\n\nThe end\n")])),
        ("a.tar.zst", zst(tar([("0.json", b'{"caption": "One dog. Two  cats!\\n\\nThe end"}')]))),
        ("a.txt.gz", gzip.compress(b"One dog. Two\ncats!\n\nThe end", mtime=0)),
    ],
)
def test_running_text_is_taken_apart_in_every_format(read, name, content):
    result = read(name, content, splitter=SPLITTER)
    assert result.texts == ["One dog.", "Two cats!", "The end"]
    assert result.rejects == []


def test_sentences_of_running_text_are_numbered_within_their_paragraph(read):
    result = read("a.txt", b"\n\nOne. Two.\nThree.\n\n \n\nFour.", splitter=SPLITTER)
    assert result.sentences == [("2-0", "One."), ("2-1", "Two."), ("2-2", "Three."), ("23-0", "Four.")]


def test_running_text_without_blank_lines_is_divided_at_the_ends_of_lines(read):
    text = b"".join(b"Sentence %d stands here.\n" % number for number in range(50))
    result = read("a.txt", text, splitter=SPLITTER, max_line_bytes=30)
    assert result.texts == [f"Sentence {number} stands here." for number in range(50)]
    assert result.rejects == []
    result = read("a.txt", b"One.\n" + b"x" * 31 + b"\nTwo.\nThree.\n", splitter=SPLITTER, max_line_bytes=30)
    assert result.texts == ["One.", "Two.", "Three."]
    assert result.rejects == [("5", "too_long")]
