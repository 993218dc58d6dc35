"""Every format, packed or not, whole or in slices of any size, gives the same sentences; what is none is counted."""

import gzip
import hashlib
import json
import struct
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.pipeline.text.readers.reading import Result, in_units, tar, together, write, zst

from vlmixer.artifacts import files
from vlmixer.artifacts.manifest import Input
from vlmixer.pipeline.text.readers import json_lists, lines, sources
from vlmixer.pipeline.text.readers.slices import Slice, plan_slices, source_id
from vlmixer.pipeline.text.readers.sources import Line
from vlmixer.pipeline.text.sentences import SentenceSplitter

SPLITTER = SentenceSplitter()


@pytest.fixture
def read(tmp_path):
    """Write `content` under a name and read it as a whole."""

    def read(name, content, **options):
        return Result([write(tmp_path / name, content)], **options)

    return read


@pytest.fixture
def limit(monkeypatch):
    """Makes the longest line that is read shorter."""

    def change(size):
        for module in (lines, sources, json_lists):
            monkeypatch.setattr(module, "MAX_LINE_BYTES", size)

    return change


# Lines


def test_plain_lines(read):
    result = read("a.txt", b"a dog\n  two cats \nkite")
    assert result.lines == [("0", "a dog"), ("6", "two cats"), ("18", "kite")]
    assert result.rejects == []


def test_ids_are_unique_and_tell_file_and_position(read, tmp_path):
    name = source_id(str(tmp_path / "a.txt"))
    assert len(name) == 12
    assert read("a.txt", b"a dog\na dog\n").ids == [f"{name}-000000000000", f"{name}-000000000006"]
    assert source_id("a.txt") != source_id("b.txt")
    assert Line("a.txt", 7, -1, "x").sentence_id == f"{source_id('a.txt')}-000000000007"
    assert Line("a.txt", 7, 3, "x").sentence_id == f"{source_id('a.txt')}-000000000007-00003"
    assert (Line("a.txt", 7, -1, "x").key, Line("a.txt", 7, 0, "x").key) == ("7", "7-0")


def test_ends_of_lines(read):
    assert read("a.txt", b"one\r\ntwo\r\n").lines == [("0", "one"), ("5", "two")]
    assert read("a.txt", b"one\ntwo\n").lines == read("a.txt", b"one\ntwo").lines == [("0", "one"), ("4", "two")]
    assert read("a.txt", "one\u2028two\x0bthree\x85".encode()).texts == ["one\u2028two\x0bthree"]


def test_blank_lines_are_counted_not_used(read):
    result = read("a.txt", b"one\n\n \t\r\ntwo\n")
    assert result.lines == [("0", "one"), ("9", "two")]
    assert result.rejects == [("4", "empty_line"), ("5", "empty_line")]


@pytest.mark.parametrize("split", [None, SPLITTER])
def test_bytes_that_are_no_utf8_cost_their_line_or_paragraph_alone(read, split):
    result = read("a.txt", b"one\n\ncaf\xe9\n\ntwo\n", splitter=split)
    assert result.texts == ["one", "two"]
    assert [entry for entry in result.rejects if entry[1] != "empty_line"] == [("5", "not_utf8")]


def test_a_byte_order_mark_is_no_part_of_the_first_line(read):
    assert read("a.txt", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n").lines == [("0", "one"), ("7", "\ufefftwo")]
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


def test_a_binary_file_is_all_rejects(read):
    result = read("a.txt", b"\x89PNG\r\n\0\0\0\rIHDR\n" + bytes(range(0x80, 0x100)))
    assert result.texts == []
    assert result.rejects == [("0", "not_utf8"), ("6", "nul_byte"), ("15", "not_utf8")]


def test_text_of_many_scripts_stays_as_it_is(read):
    text = "שני כלבים 🐕‍🦺 e\u0301"
    assert read("a.txt", text.encode()).texts == [text]
    assert read("a.jsonl", json.dumps({"caption": text}).encode()).texts == [text]


def test_lines_over_the_limit_are_not_used(read, limit):
    limit(10)
    result = read("a.txt", b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z" * 95 + b"\nok\n" + b"w" * 11, max_characters=50)
    assert result.lines == [("0", "x" * 10), ("119", "ok")]
    assert result.rejects == [("11", "too_long"), ("23", "too_long"), ("122", "too_long")]


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
from vlmixer.pipeline.text.readers.slices import Slice
from vlmixer.pipeline.text.readers.sources import Reading
splitter = SentenceSplitter() if {split!r} == "sentences" else None
if splitter: splitter.split("Ready.")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
log = RejectLog("tag")
texts = [line.text for line in Reading(log, splitter=splitter).lines([Slice({str(path)!r}, {len(content)})])]
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


# Whole files


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.parquet", "a.tar", "a.txt.gz", "a.txt.zst", "a.tgz"])
def test_an_empty_file_is_rejected(read, name):
    result = read(name, b"")
    assert result.rejects == [("", "empty_file")]
    assert result.inputs[0].bytes == 0


@pytest.mark.parametrize("split", [None, SPLITTER])
@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.jsonl.zst", zst)])
def test_a_packed_file_of_nothing_is_rejected_too(read, name, pack, split):
    assert read(name, pack(b""), splitter=split).rejects == [("", "empty_file")]


def test_a_parquet_file_without_rows_and_a_text_of_blank_lines_are_empty(read, tmp_path):
    assert read("a.parquet", parquet(tmp_path, {"caption": pa.array([], pa.string())})).rejects == [("", "empty_file")]
    assert read("a.txt", b"\n \n\r\n", splitter=SPLITTER).rejects == [("", "empty_file")]


def test_a_file_that_is_not_there_is_rejected(tmp_path):
    assert Result([Slice(str(tmp_path / "gone.txt"), 5)]).rejects == [("", "unreadable_file")]


def test_a_broken_file_does_not_cost_the_others(tmp_path):
    assert Result([Slice(str(tmp_path / "gone.txt"), 5), write(tmp_path / "b.txt", b"one\n")]).texts == ["one"]


def test_a_parquet_file_without_the_column_does_not_cost_the_others(tmp_path):
    good = [write(tmp_path / f"{name}.parquet", parquet(tmp_path, {"caption": [name]})) for name in ("one", "two")]
    odd = write(tmp_path / "odd.parquet", parquet(tmp_path, {"text": ["x"] * 7, "n": [1] * 7}))
    result = Result([good[0], odd, good[1]])
    assert result.texts == ["one", "two"]
    assert result.rejects == [("", "missing_field")]
    assert result.details == ["no column 'caption' in: text, n; 7 rows"]


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
    assert packed.lines == plain.lines
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
    whole = read("whole.txt", LINES).lines
    for length in (len(packed) - 1, len(packed) * 2 // 3, 5):
        result = read(name, packed[:length])
        assert result.rejects == [("", "unreadable_file")]
        assert result.lines == whole[: len(result.lines)]
    assert len(read(name, packed[:-1]).lines) > 0


def test_what_follows_a_packed_file_and_is_none_is_one_reject(read):
    result = read("a.txt.gz", gzip.compress(b"one\ntwo\n") + b"garbage")
    assert (result.texts, result.rejects) == (["one", "two"], [("", "unreadable_file")])


@pytest.mark.parametrize(
    "name", ["a.txt.gz", "a.txt.zst", "a.parquet", "a.json", "a.json.gz", "a.tar", "a.tgz", "a.tar.zst"]
)
def test_a_file_that_is_not_what_its_name_says(read, name):
    result = read(name, b"just a line of text\n")
    assert result.lines == []
    assert result.rejects == [("", "unreadable_file")]


# JSON lines


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
    assert result.lines == [("0-0", "one"), ("0-4", "two")]
    wrong = ["missing_field", "missing_field", "empty_line", "missing_field"]
    assert result.rejects == [(f"0-{place}", why) for place, why in zip((1, 2, 3, 5), wrong, strict=True)]


def test_a_list_of_no_texts_is_a_missing_field(read):
    assert read("a.jsonl", b'{"caption": []}').rejects == [("0", "missing_field")]


def test_several_texts_are_no_running_text(read):
    result = read("a.jsonl", b'{"caption": ["One. Two."]}\n{"caption": "One. Two."}', splitter=SPLITTER)
    assert result.lines == [("27-0", "One."), ("27-1", "Two.")]
    assert result.rejects == [("0", "missing_field")]


# JSON lists, read as a stream


def test_coco_captions(read):
    records = [{"id": 7, "caption": " one "}, {"id": 8}, {"caption": 5}, "two", 3, {"caption": ""}, {"caption": ["a"]}]
    images = [{"id": number, "annotations": ["no"]} for number in range(3)]
    content = {"info": {"annotations": ["no"]}, "n": -1.5e3, "images": images, "annotations": records, "licenses": []}
    result = read("captions.json", json.dumps(content).encode())
    assert result.lines == [("0", "one"), ("3", "two"), ("6-0", "a")]
    assert result.rejects == [
        ("1", "missing_field"), ("2", "missing_field"), ("4", "missing_field"), ("5", "empty_line")
    ]  # fmt: skip
    assert read("captions.json", json.dumps(records, indent=2).encode()).lines == result.lines


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
    assert result.lines == [("0", "one"), ("2", "two")]
    assert result.rejects == [("1", reason)]


def test_records_of_a_json_list_lie_across_blocks_in_any_way(read, monkeypatch):
    texts = ["one", 'two "quoted" \\ ', "three 🐕 שלום", "é" * 30, "", "x"]
    for ensure_ascii in (True, False):
        for indent in (None, 3):
            records = [{"n": [1.5, 20, {"a": None}], "caption": text} for text in texts]
            content = json.dumps(
                {"images": [12, 345], "annotations": records}, ensure_ascii=ensure_ascii, indent=indent
            )
            expected = read("a.json", content.encode())
            assert expected.texts == ["one", 'two "quoted" \\', "three 🐕 שלום", "é" * 30, "x"]
            for size in (*range(1, 12), 100):
                monkeypatch.setattr(json_lists, "_CHARACTERS", size)
                found = read("a.json", content.encode())
                assert (found.lines, found.rejects) == (expected.lines, expected.rejects)


def test_a_record_of_a_json_list_over_the_limit_ends_the_reading(read, limit, monkeypatch):
    limit(1000)
    monkeypatch.setattr(json_lists, "_CHARACTERS", 10)
    result = read("a.json", b'["one", "' + b"x" * 5000 + b'", "two"]')
    assert result.texts == ["one"]
    assert result.rejects == [("", "unreadable_file")]


# Parquet


def parquet(tmp_path, columns, row_group_size=2):
    pq.write_table(pa.table(columns), tmp_path / "made.parquet", row_group_size=row_group_size)
    return (tmp_path / "made.parquet").read_bytes()


def test_parquet(read, tmp_path):
    columns = {"n": [1, 2, 3, 4, 5], "caption": ["one", None, " ", "two", "x" * 9]}
    result = read("b.parquet", parquet(tmp_path, columns), max_characters=8)
    assert result.lines == [("0", "one"), ("3", "two")]
    assert result.rejects == [("1", "missing_field"), ("2", "empty_line"), ("4", "too_long")]


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_text_of_any_type(read, tmp_path, kind):
    column = pa.array(["one", "two"]).cast(kind)
    assert read("b.parquet", parquet(tmp_path, {"caption": column})).texts == ["one", "two"]


def test_parquet_with_lists_of_texts(read, tmp_path):
    result = read("b.parquet", parquet(tmp_path, {"caption": [["one", "two"], [], None, ["three", None]]}))
    assert result.lines == [("0-0", "one"), ("0-1", "two"), ("3-0", "three")]
    assert result.rejects == [("1", "missing_field"), ("2", "missing_field"), ("3-1", "missing_field")]


@pytest.mark.parametrize("values", [[1, 2], [{"caption": "x"}, None], [b"one", b"two"]])
def test_parquet_with_a_column_of_something_else(read, tmp_path, values):
    result = read("b.parquet", parquet(tmp_path, {"caption": values}))
    assert result.rejects == [("0", "missing_field"), ("1", "missing_field")]


def test_parquet_text_that_is_no_utf8_costs_that_row_alone(read, tmp_path):
    stored = pa.array([b"one", b"caf\xe9", b"two"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, stored.buffers())
    result = read("b.parquet", parquet(tmp_path, {"caption": column}))
    assert result.lines == [("0", "one"), ("2", "two")]
    assert result.rejects == [("1", "not_utf8")]


def test_parquet_that_breaks_off(read, tmp_path):
    content = parquet(tmp_path, {"caption": ["one"] * 10})
    assert read("b.parquet", content[:-1]).rejects == [("", "unreadable_file")]


def test_a_damaged_row_group_costs_the_rest_of_its_slice(tmp_path):
    content = bytearray(parquet(tmp_path, {"caption": [f"caption {number}" for number in range(9)]}, 3))
    group = pq.ParquetFile(tmp_path / "made.parquet").metadata.row_group(1).column(0)
    begin, end = group.dictionary_page_offset, group.data_page_offset
    content[begin:end] = b"\xff" * (end - begin)
    result = Result([write(tmp_path / "b.parquet", bytes(content))])
    assert result.texts == ["caption 0", "caption 1", "caption 2"]
    assert result.rejects == [("", "unreadable_file")]


# Tars


def test_webdataset_samples(read):
    members = [
        ("a", None),
        ("a/000.jpg", b"\xff\xd8"), ("a/000.json", b'{"caption": "from json"}'), ("a/000.txt", b"from txt\n"),
        ("a/001.txt", b"one"), ("a/001.json", b'{"caption": "no"}'),
        ("b.v2/001.json", b'{"caption": ["two", "three"]}'), ("b.v2/001.cls", b"7"),
        ("b.v2/002.jpg", b"\xff\xd8"), ("b.v2/003.meta.json", b'{"caption": "no"}'),
        ("b.v2/004.json", b"{"), ("b.v2/005.txt", b""), ("b.v2/006.txt", b"\xff"), ("b.v2/007.json", b'{"n": 1}'),
        ("b.v2/008.json", b'{"caption": "last"}'),
    ]  # fmt: skip
    result = read("a.tar", tar(members))
    assert result.texts == ["from txt", "one", "two", "three", "last"]
    assert [reason for _, reason in result.rejects] == ["not_json", "empty_line", "not_utf8", "missing_field"]


def test_a_members_key_is_where_its_bytes_begin(read):
    content = tar([("a.txt", b"one"), ("b.json", b'{"caption": ["two"]}')])
    keys = [key for key, _ in read("a.tar", content).lines]
    assert keys == [str(content.index(b"one")), f"{content.index(b'{')}-0"]


def test_samples_of_the_same_name_in_other_folders_are_others(read):
    members = [("a/0.json", b'{"caption": "one"}'), ("b/0.txt", b"two"), ("c/0.json", b'{"caption": "three"}')]
    assert read("a.tar", tar(members)).texts == ["one", "two", "three"]


def test_a_tar_without_text(read):
    result = read("a.tar", tar([("0.jpg", b"\xff\xd8"), ("0.cls", b"7")]))
    assert result.rejects == [("", "missing_field")]
    assert result.details == ["no .txt or .json member"]


def test_a_member_over_the_limit(read, limit):
    limit(40)
    members = [
        ("0.txt", b"one"),
        ("1.txt", b"x" * 41),
        ("2.json", b'{"caption": "' + b"x" * 41 + b'"}'),
        ("3.txt", b"two"),
    ]
    result = read("a.tar", tar(members))
    assert result.texts == ["one", "two"]
    assert [reason for _, reason in result.rejects] == ["too_long", "too_long"]


@pytest.mark.parametrize("pack", ["tar", "tar.gz", "tgz", "tar.zst"])
def test_a_tar_cut_anywhere_gives_its_whole_members_and_a_reject(read, pack):
    content = tar([("0.txt", b"one"), ("1.txt", b"two"), ("2.txt", b"three")])
    packed = {"tar": lambda data: data, "tar.zst": zst}.get(pack, gzip.compress)
    for length, texts in (
        (100, []), (512, []), (514, []), (1024, ["one"]), (1100, ["one"]), (1536, ["one"]), (2048, ["one", "two"]),
        (2561, ["one", "two"]), (3072, ["one", "two", "three"]), (3500, ["one", "two", "three"]),
    ):  # fmt: skip
        result = read(f"a.{pack}", packed(content[:length]))
        assert result.texts == texts, length
        assert result.rejects == [("", "unreadable_file")]
    assert read(f"a.{pack}", packed(content)).rejects == []
    # Without the padding behind the end.
    assert read(f"a.{pack}", packed(content[: 3072 + 1024])).rejects == []


def test_a_tar_with_a_broken_header_in_the_middle_is_not_taken_for_its_end(read):
    content = bytearray(tar([("0.txt", b"one"), ("1.txt", b"two"), ("2.txt", b"three")]))
    content[1024 + 3] ^= 1
    result = read("a.tar", bytes(content))
    assert (result.texts, result.rejects) == (["one"], [("", "unreadable_file")])


def test_long_names_in_a_tar(read):
    members = [(f"{'deep/' * 60}0.txt", b"one"), (f"{'x' * 200}.json", b'{"caption": "two"}')]
    assert read("a.tar", tar(members)).texts == ["one", "two"]


# Running text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", b"One dog. Two\r\ncats!\r\n\r\nThe end"),
        ("a.jsonl", b'{"caption": "One dog. Two\\ncats!\\n\\nThe end"}'),
        ("a.json", b'["One dog. Two\\ncats!\\n \\nThe end"]'),
        ("a.tar", tar([("0.txt", b"One dog. Two\ncats!\n\nThe end\n")])),
        ("a.tar.zst", zst(tar([("0.json", b'{"caption": "One dog. Two  cats!\\n\\nThe end"}')]))),
        ("a.txt.gz", gzip.compress(b"One dog. Two\ncats!\n\nThe end")),
    ],
)
def test_running_text_is_taken_apart_in_every_format(read, name, content):
    result = read(name, content, splitter=SPLITTER)
    assert result.texts == ["One dog.", "Two cats!", "The end"]
    assert result.rejects == []


def test_running_text_in_parquet(read, tmp_path):
    content = parquet(tmp_path, {"caption": ["One. Two.", " ", "Three."]})
    result = read("a.parquet", content, splitter=SPLITTER)
    assert result.lines == [("0-0", "One."), ("0-1", "Two."), ("2-0", "Three.")]
    assert result.rejects == [("1", "empty_line")]


def test_sentences_of_running_text_are_numbered_within_their_paragraph(read):
    result = read("a.txt", b"\n\nOne. Two.\nThree.\n\n \n\nFour.", splitter=SPLITTER)
    assert result.lines == [("2-0", "One."), ("2-1", "Two."), ("2-2", "Three."), ("23-0", "Four.")]


def test_running_text_without_blank_lines_is_divided_at_the_ends_of_lines(read, limit):
    limit(30)
    text = b"".join(b"Sentence %d stands here.\n" % number for number in range(50))
    result = read("a.txt", text, splitter=SPLITTER)
    assert result.texts == [f"Sentence {number} stands here." for number in range(50)]
    assert result.rejects == []
    result = read("a.txt", b"One.\n" + b"x" * 31 + b"\nTwo.\nThree.\n", splitter=SPLITTER)
    assert result.texts == ["One.", "Two.", "Three."]
    assert result.rejects == [("5", "too_long")]


def test_a_document_over_the_limit_is_not_used(read, limit, tmp_path):
    content = parquet(tmp_path, {"caption": ["One. Two.", "x" * 101]})
    limit(100)
    result = read("a.parquet", content, splitter=SPLITTER)
    assert result.texts == ["One.", "Two."]
    assert result.rejects == [("1", "too_long")]


# Slices

AWKWARD = (
    b"one\n\ntwo\r\n\r\n" + "drei ß 🐕\n".encode() + b"caf\xe9\n \n" + b"a longer line than the units are big\n\n\nend"
)
CONTENTS = [
    AWKWARD,
    AWKWARD + b"\n",
    b"\n\n\n",
    b"no end of line",
    b"\n" + AWKWARD,
    b"\r\n",
    b"\n\n\na\n\n",
    b"a\n\n\nb",
]


def assert_the_same_in_units_of_any_size(piece, sizes, **options):
    whole = Result([piece], **options)
    for unit_bytes in sizes:
        parts = in_units(piece, unit_bytes, **options)
        assert together(parts, "lines") == whole.lines
        assert together(parts, "ids") == whole.ids
        if not whole.lines and whole.rejects == [("", "empty_file")]:
            continue
        assert together(parts, "rejects") == whole.rejects
        assert sum(part.read for part in parts) == whole.read


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_slices_of_any_size_give_together_what_the_whole_file_gives(tmp_path, content, name):
    piece = write(tmp_path / name, content)
    assert_the_same_in_units_of_any_size(piece, range(1, len(content) + 2))


@pytest.mark.parametrize(
    "content", [*CONTENTS, AWKWARD.replace(b"\n", b".\n") * 2, b"One\ntwo. Three\n \t\n\nFour.\r\n\r\nFive"]
)
def test_and_so_do_paragraphs(tmp_path, content):
    piece = write(tmp_path / "a.txt", content)
    assert_the_same_in_units_of_any_size(piece, range(1, len(content) + 2), splitter=SPLITTER)


@pytest.mark.parametrize("splitter", [None, SPLITTER])
def test_a_line_over_the_limit_is_one_reject_however_the_file_is_sliced(tmp_path, limit, splitter):
    limit(10)
    content = b"one\n\n" + b"x" * 35 + b"\n\ntwo\nthree\nfour\nfive\n\nsix\n" + b"y" * 11
    piece = write(tmp_path / "a.txt", content)
    assert [reason for _, reason in Result([piece], splitter=splitter).rejects].count("too_long") == 2
    assert_the_same_in_units_of_any_size(piece, range(1, len(content) + 1), splitter=splitter)


@pytest.mark.parametrize("splitter", [None, SPLITTER])
def test_parquet_is_sliced_by_its_row_groups(tmp_path, splitter):
    captions = [f"Caption {number}. And {number}." if number % 5 else None for number in range(23)]
    content = parquet(tmp_path, {"n": list(range(23)), "caption": captions}, 3)
    piece = write(tmp_path / "a.parquet", content)
    assert_the_same_in_units_of_any_size(
        piece, [*range(1, 400, 7), *range(400, len(content) + 50, 97)], splitter=splitter
    )


def test_parquet_without_the_column_is_one_reject_however_it_is_sliced(tmp_path):
    piece = write(tmp_path / "a.parquet", parquet(tmp_path, {"text": ["one"] * 9}))
    assert_the_same_in_units_of_any_size(piece, range(1, piece.size, 31))


class Counting:
    """A file that counts what is read from it."""

    def __init__(self, data):
        self.data, self.at, self.taken = data, 0, 0

    def seek(self, place):
        self.at = place

    def readline(self, size):
        end = self.data.find(b"\n", self.at, self.at + size)
        part = self.data[self.at : end + 1 if end >= 0 else self.at + size]
        self.at += len(part)
        self.taken += len(part)
        return part


def test_a_slice_without_a_blank_line_is_not_read_to_the_files_end():
    file = Counting(b"a sentence\n" * 10_000)
    piece = Slice("a.txt", 110_000, 1000, 2000)
    assert list(lines.paragraphs(piece, file)) == []
    assert file.taken < 1100


def test_inputs_tell_the_bytes_of_each_slice(tmp_path):
    piece = write(tmp_path / "a.txt", b"one\ntwo\n")
    hashes = [hashlib.sha256(part).hexdigest() for part in (b"one\nt", b"wo\n", b"one\ntwo\n")]
    assert together(in_units(piece, 5), "inputs") == [
        Input(piece.name, 5, hashes[0], 0, 5), Input(piece.name, 3, hashes[1], 5, 8)
    ]  # fmt: skip
    assert Result([piece]).inputs == [Input(piece.name, 8, hashes[2])]


def test_text_is_read_from_urls():
    files.publish_bytes("memory://test-sources/a.txt", b"one\ntwo\nthree\n")
    files.publish_bytes("memory://test-sources/b.txt.gz", gzip.compress(b"four\n"))
    files.publish_bytes("memory://test-sources/c.tar", tar([("0.txt", b"five")]))
    files.publish_bytes("memory://test-sources/d.json", b'["six"]')
    stats = files.expand(["memory://test-sources/*"], key="text.inputs")
    parts = [Result(unit) for unit in plan_slices(stats, 5)]
    assert together(parts, "texts") == ["one", "two", "three", "four", "five", "six"]
    assert together(parts, "rejects") == []
