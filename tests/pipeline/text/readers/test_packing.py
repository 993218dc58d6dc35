"""Packed files read like plain ones, however they are packed; a broken one gives what is whole and a reject."""

import gzip
import struct

import numpy as np
import pytest
from tests.pipeline.text.readers.helpers import tar, zst

from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


@pytest.mark.parametrize("split", [None, SPLITTER])
@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.jsonl.zst", zst)])
def test_a_packed_file_of_nothing_is_rejected_too(read, name, pack, split):
    assert read(name, pack(b""), splitter=split).rejects == [("", "empty_file")]


CONTENT = {
    "a.txt": (b"one\n\ntwo", ["one", "two"], ["empty_line"]),
    "a.TXT": (b"one\r\ntwo\n", ["one", "two"], []),
    "notes": (b"one\ntwo", ["one", "two"], []),
    "a.jsonl": (b'{"caption": "one"}\n{}\n', ["one"], ["missing_field"]),
    "a.ndjson": (b'{"caption": ["one", "two"]}\n', ["one", "two"], []),
    "a.JSON": (b'["one", "two"]', ["one", "two"], []),
    "a.tar": (tar([("x.txt", b"one"), ("y.json", b'{"caption": "two"}')]), ["one", "two"], []),
}


@pytest.mark.parametrize("pack", [gzip.compress, zst])
@pytest.mark.parametrize("name", CONTENT)
def test_packed_files_read_like_plain_ones(read, pack, name):
    content, texts, reasons = CONTENT[name]
    plain, packed = read(name, content), read(name + (".GZ" if pack is gzip.compress else ".zst"), pack(content))
    assert plain.texts == texts
    assert [reason for _, reason in plain.rejects] == reasons
    assert packed.sentences == plain.sentences
    assert packed.rejects == plain.rejects


def test_a_tgz_is_a_packed_tar(read):
    content, texts, _ = CONTENT["a.tar"]
    assert read("a.tgz", gzip.compress(content)).texts == texts


LINES = b"".join(b"sentence %d of them\n" % number for number in range(20_000))


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zst)])
def test_several_packed_parts_one_after_the_other_are_one_file(read, name, pack):
    assert read(name, pack(b"one\ntw") + pack(b"") + pack(b"o\nthree")).texts == ["one", "two", "three"]


def test_skippable_frames_are_skipped(read):
    frame = struct.pack("<II", 0x184D2A50, 4) + b"abcd"
    assert read("a.txt.zst", frame + zst(b"one\n") + frame + zst(b"two\n") + frame).texts == ["one", "two"]


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zst)])
def test_a_truncated_packed_file_gives_its_whole_lines_and_a_reject(read, name, pack):
    packed = pack(LINES)
    whole = read("whole.txt", LINES).sentences
    for length in (len(packed) - 1, len(packed) * 2 // 3, 5):
        result = read(name, packed[:length])
        assert result.rejects == [("", "unreadable_file")]
        assert result.sentences == whole[: len(result.sentences)]
    assert len(read(name, packed[:-1]).sentences) > 0


def test_what_follows_a_packed_file_and_is_none_is_one_reject(read):
    result = read("a.txt.gz", gzip.compress(b"one\ntwo\n") + b"garbage")
    assert (result.texts, result.rejects) == (["one", "two"], [("", "unreadable_file")])


def test_very_many_frames_are_read_one_after_the_other(read):
    lines = b"".join(zst(b"line %d\n" % number) for number in range(20_000))
    long = zst(bytes(range(33, 127)) * 9000 + b"\n")
    result = read("a.txt.zst", lines + zst(b"") * 200_000 + long + zst(b"end\n"), max_characters=1_000_000)
    assert result.texts[:20_000] == [f"line {number}" for number in range(20_000)]
    assert [len(text) for text in result.texts[20_000:]] == [94 * 9000, 3]


def test_frames_of_any_size_give_the_same_bytes(read):
    rng = np.random.default_rng(0)
    sizes = [0, 1, 900, 1100, 70_000, 300_000, 5]
    texts = ["".join(map(chr, rng.integers(97, 123, size))) for size in sizes]
    packed = b"".join(zst(f"{text}\n".encode()) for text in texts)
    assert read("a.txt.zst", packed, max_characters=1_000_000).texts == [text for text in texts if text]
