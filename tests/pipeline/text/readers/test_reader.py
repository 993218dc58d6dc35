"""What holds in every format: which texts are usable, and which files are."""

import gzip
import json
import subprocess
import sys

import pytest
from tests.pipeline.text.readers.helpers import Result, tar, together, write, zst

from vlmixer.artifacts import files
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.slices import plan_slices
from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


def test_a_byte_order_mark_is_no_part_of_the_first_line(read):
    assert read("a.txt", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n").sentences == [("0", "one"), ("7", "two")]
    assert read("a.jsonl", b'\xef\xbb\xbf{"caption": "one"}\n').texts == ["one"]
    assert read("a.json", b'\xef\xbb\xbf["one"]').texts == ["one"]
    members = [("a.txt", b"\xef\xbb\xbfone"), ("b.json", b'\xef\xbb\xbf{"caption": "two"}')]
    assert read("a.tar", tar(members)).texts == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"one\na\0dog\ntwo\n"),
        ("a.jsonl", b'{"caption": "one"}\n{"caption": "a\\u0000dog"}\n{"caption": "two"}'),
        ("a.json", b'["one", "a\\u0000dog", "two"]'),
        ("a.tar", tar([("1.txt", b"one"), ("2.txt", b"a\0dog"), ("3.txt", b"two")])),
    ],
)
def test_text_with_a_nul_byte_is_not_used(read, name, content):
    result = read(name, content)
    assert result.texts == ["one", "two"]
    assert [reason for _, reason in result.rejects] == ["nul_byte"]


def test_text_of_many_scripts_stays_as_it_is(read):
    text = "שני כלבים 🐕‍🦺 e\u0301"
    assert read("a.txt", text.encode()).texts == [text]
    assert read("a.jsonl", json.dumps({"caption": text}).encode()).texts == [text]


@pytest.mark.parametrize("split", ["lines", "sentences"])
@pytest.mark.parametrize("pack", ["", ".gz", ".zst"])
def test_a_line_of_a_hundred_megabytes_takes_no_more_memory_than_a_short_one(tmp_path, split, pack):
    path = tmp_path / f"a.txt{pack}"
    huge = b"x" * 100_000_000
    content = {"": lambda data: data, ".gz": lambda data: gzip.compress(data, 1), ".zst": zst}[pack](
        b"a dog\n\n" + huge + b"\n\na cat\n"
    )
    path.write_bytes(content)
    program = f"""
import resource
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.text.sentences import SentenceSplitter
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.reader import SentenceReader
splitter = SentenceSplitter() if {split!r} == "sentences" else None
if splitter: splitter.split("Ready.")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log = RejectLog("tag")
reader = SentenceReader(log, splitter=splitter)
texts = [found.text for found in reader.sentences([TextSlice({str(path)!r}, {len(content)})])]
print(texts, [reject.reason for reject in log.rejects if reject.reason != "empty_line"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    said, grown = done.stdout.splitlines()
    assert said == "['a dog', 'a cat'] ['too_long']"
    assert int(grown) < 20 * 1024


@pytest.mark.parametrize("split", [None, SPLITTER])
def test_sentences_of_too_many_or_too_few_characters_are_not_used(read, split):
    result = read("a.txt", "éé\n\néééé\n\néééééé\n".encode(), min_characters=3, max_characters=5, splitter=split)
    assert result.texts == ["éééé"]
    wrong = {reason: detail for (_, reason), detail in zip(result.rejects, result.details, strict=True) if detail}
    assert wrong == {"too_short": "2 characters, at least 3", "too_long": "6 characters, at most 5"}


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.parquet", "a.tar", "a.txt.gz", "a.txt.zst", "a.tgz"])
def test_an_empty_file_is_rejected(read, name):
    result = read(name, b"")
    assert result.rejects == [("", "empty_file")]
    assert result.inputs[0].bytes == 0


def test_a_file_that_is_not_there_is_rejected(tmp_path):
    assert Result([TextSlice(str(tmp_path / "gone.txt"), 5)]).rejects == [("", "unreadable_file")]


def test_a_broken_file_does_not_cost_the_others(tmp_path):
    assert Result([TextSlice(str(tmp_path / "gone.txt"), 5), write(tmp_path / "b.txt", b"one\n")]).texts == ["one"]


@pytest.mark.parametrize(
    "name", ["a.txt.gz", "a.txt.zst", "a.parquet", "a.json", "a.json.gz", "a.tar", "a.tgz", "a.tar.zst"]
)
def test_a_file_that_is_not_what_its_name_says(read, name):
    result = read(name, b"just a line of text\n")
    assert result.sentences == []
    assert result.rejects == [("", "unreadable_file")]


def test_text_is_read_from_urls():
    files.publish_bytes("memory://test-sources/a.txt", b"one\ntwo\nthree\n")
    files.publish_bytes("memory://test-sources/b.txt.gz", gzip.compress(b"four\n"))
    files.publish_bytes("memory://test-sources/c.tar", tar([("0.txt", b"five")]))
    files.publish_bytes("memory://test-sources/d.json", b'["six"]')
    stats = files.expand(["memory://test-sources/*"], key="text.inputs")
    parts = [Result(unit) for unit in plan_slices(stats, 5)]
    assert together(parts, "texts") == ["one", "two", "three", "four", "five", "six"]
    assert together(parts, "rejects") == []
