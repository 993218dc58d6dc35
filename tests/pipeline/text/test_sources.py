import gzip
import hashlib
import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from artifacts import files
from artifacts.files import FileStat
from artifacts.manifest import Input
from artifacts.rejects import RejectLog
from pipeline.text import sources
from pipeline.text.sources import Line, Reading, Slice, plan_slices, source_id


class Result:
    """What reading some slices gave: lines as (position, text), rejects as (key, reason)."""

    def __init__(self, slices, field="caption", max_characters=1000):
        log = RejectLog("tag")
        reading = Reading(field, max_characters, log)
        found = list(reading.lines(slices))
        self.lines = [(line.position, line.text) for line in found]
        self.texts = [line.text for line in found]
        self.ids = [line.sentence_id for line in found]
        self.rejects = [(reject.key, reject.reason) for reject in log.rejects]
        self.details = [reject.detail for reject in log.rejects]
        self.inputs = reading.inputs
        assert reading.read == len(found) + len(log.rejects)


@pytest.fixture
def read(tmp_path):
    """Write `content` under a name and read it as a whole."""

    def read(name, content, **options):
        path = tmp_path / name
        path.write_bytes(content)
        return Result([Slice(str(path), len(content))], **options)

    return read


def zst(data):
    return zstandard.ZstdCompressor().compress(data)


def test_plain_lines(read):
    result = read("a.txt", b"a dog\n  two cats \nkite")
    assert result.lines == [(0, "a dog"), (6, "two cats"), (18, "kite")]
    assert result.rejects == []


def test_ids_are_unique_and_tell_file_and_position(read, tmp_path):
    name = source_id(str(tmp_path / "a.txt"))
    assert len(name) == 12
    assert read("a.txt", b"a dog\na dog\n").ids == [f"{name}-000000000000", f"{name}-000000000006"]
    assert source_id("a.txt") != source_id("b.txt")
    assert Line("a.txt", 7, "x").sentence_id == f"{source_id('a.txt')}-000000000007"


def test_ends_of_lines(read):
    assert read("a.txt", b"one\r\ntwo\r\n").lines == [(0, "one"), (5, "two")]
    assert read("a.txt", b"one\ntwo\n").lines == read("a.txt", b"one\ntwo").lines == [(0, "one"), (4, "two")]
    assert read("a.txt", "one\u2028two\x0bthree\x85".encode()).texts == ["one\u2028two\x0bthree"]


def test_blank_lines_are_counted_not_used(read):
    result = read("a.txt", b"one\n\n \t\r\ntwo\n")
    assert result.lines == [(0, "one"), (9, "two")]
    assert result.rejects == [("4", "empty_line"), ("5", "empty_line")]


def test_a_line_that_is_no_utf8_costs_that_line_alone(read):
    result = read("a.txt", b"one\ncaf\xe9\ntwo\n")
    assert result.texts == ["one", "two"]
    assert result.rejects == [("4", "not_utf8")]


def test_a_byte_order_mark_is_no_part_of_the_first_line(read):
    assert read("a.txt", b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n").lines == [(0, "one"), (7, "\ufefftwo")]
    assert read("a.jsonl", b'\xef\xbb\xbf{"caption": "one"}\n').texts == ["one"]
    assert read("a.json", b'\xef\xbb\xbf["one"]').texts == ["one"]


def test_nul_bytes_are_characters_like_others(read):
    assert read("a.txt", b"a\0dog\n").texts == ["a\0dog"]


def test_text_of_many_scripts_stays_as_it_is(read):
    assert read("a.txt", "שני כלבים 🐕‍🦺 e\u0301\n".encode()).texts == ["שני כלבים 🐕‍🦺 e\u0301"]


def test_lines_over_the_limit_are_not_used(read, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 10)
    result = read("a.txt", b"x" * 10 + b"\n" + b"y" * 11 + b"\n" + b"z" * 95 + b"\nok\n" + b"w" * 11, max_characters=50)
    assert result.lines == [(0, "x" * 10), (119, "ok")]
    assert result.rejects == [("11", "too_long"), ("23", "too_long"), ("122", "too_long")]


def test_sentences_of_too_many_characters_are_not_used(read):
    result = read("a.txt", "éééé\nééééé\n".encode(), max_characters=4)
    assert result.texts == ["éééé"]
    assert result.rejects == [("9", "too_long")]
    assert result.details == ["5 characters, at most 4"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.parquet", "a.txt.gz", "a.txt.zst"])
def test_an_empty_file_is_rejected(read, name):
    result = read(name, b"")
    assert result.rejects == [("", "empty_file")]
    assert result.inputs[0].bytes == 0


def test_a_file_that_is_not_there_is_rejected(tmp_path):
    assert Result([Slice(str(tmp_path / "gone.txt"), 5)]).rejects == [("", "unreadable_file")]


def test_a_broken_file_does_not_cost_the_others(tmp_path):
    (tmp_path / "b.txt").write_bytes(b"one\n")
    slices = [Slice(str(tmp_path / "gone.txt"), 5), Slice(str(tmp_path / "b.txt"), 4)]
    assert Result(slices).texts == ["one"]


LINES = b"".join(b"sentence %d of them\n" % number for number in range(20_000))


@pytest.mark.parametrize("pack", [gzip.compress, zst])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.JSON"])
def test_packed_files_read_like_plain_ones(read, pack, name):
    content = {"a.txt": b"one\n\ntwo", "a.jsonl": b'{"caption": "one"}\n{}\n', "a.JSON": b'["one", "two"]'}[name]
    ending = ".GZ" if pack is gzip.compress else ".zst"
    plain, packed = read(name, content), read(name + ending, pack(content))
    assert packed.lines == plain.lines
    assert packed.rejects == plain.rejects


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zst)])
def test_several_packed_parts_one_after_the_other_are_one_file(read, name, pack):
    assert read(name, pack(b"one\ntw") + pack(b"") + pack(b"o\nthree")).texts == ["one", "two", "three"]


@pytest.mark.parametrize(("name", "pack"), [("a.txt.gz", gzip.compress), ("a.txt.zst", zst)])
def test_a_truncated_packed_file_gives_its_whole_lines_and_a_reject(read, name, pack):
    packed = pack(LINES)
    for length in (len(packed) - 1, len(packed) * 2 // 3, 5):
        result = read(name, packed[:length])
        assert result.rejects == [("", "unreadable_file")]
        assert result.lines == read("whole.txt", LINES).lines[: len(result.lines)]
    assert len(read(name, packed[:-1]).lines) > 0


@pytest.mark.parametrize("name", ["a.txt.gz", "a.txt.zst", "a.parquet", "a.json", "a.json.gz"])
def test_a_file_that_is_not_what_its_name_says(read, name):
    result = read(name, b"just a line of text\n")
    assert result.lines == []
    assert result.rejects == [("", "unreadable_file")]


def test_json_lines(read):
    lines = [
        b'{"caption": "one", "n": 1}', b'{"n": 2}', b'{"caption": 3}', b'{"caption": null}', b'{"caption": ["x"]}',
        b"no json", b'{"caption": "tw', b'["one"]', b"7", b"", b'{"caption": "  "}', b'{"caption": "\\ud83d"}',
        b'{"caption": "a\\ud83d\\udc15\\n b "}', b"[" * 100_000, b'{"caption": "\xff"}', b'{"caption": "last"}',
    ]  # fmt: skip
    result = read("a.jsonl", b"\n".join(lines))
    assert result.texts == ["one", "a🐕\n b", "last"]
    assert [reason for _, reason in result.rejects] == [
        "missing_field", "missing_field", "missing_field", "missing_field", "not_json", "not_json", "missing_field",
        "missing_field", "empty_line", "empty_line", "not_utf8", "not_json", "not_utf8",
    ]  # fmt: skip
    assert result.details[1] == "'caption' is int, expected text"


def test_the_field_can_be_chosen(read):
    assert read("a.ndjson", b'{"text": "one", "caption": "two"}', field="text").texts == ["one"]


def test_coco_captions(read):
    records = [{"id": 7, "caption": " one "}, {"id": 8}, {"caption": 5}, "two", 3, {"caption": ""}]
    result = read("captions.json", json.dumps({"info": {}, "annotations": records}).encode())
    assert result.lines == [(0, "one"), (3, "two")]
    assert result.rejects == [
        ("1", "missing_field"), ("2", "missing_field"), ("4", "missing_field"), ("5", "empty_line")
    ]  # fmt: skip
    assert read("captions.json", json.dumps(records).encode()).lines == result.lines


@pytest.mark.parametrize(
    "content", [b"{", b'{"images": []}', b'{"annotations": {"a": 1}}', b"3", b"\xff\xfe[]", b"[" * 100_000]
)
def test_json_that_holds_no_captions(read, content):
    assert read("a.json", content).rejects == [("", "unreadable_file")]


def parquet(tmp_path, columns):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=2)
    return (tmp_path / "a.parquet").read_bytes()


def test_parquet(read, tmp_path):
    columns = {"n": [1, 2, 3, 4, 5], "caption": ["one", None, " ", "two", "x" * 9]}
    result = read("b.parquet", parquet(tmp_path, columns), max_characters=8)
    assert result.lines == [(0, "one"), (3, "two")]
    assert result.rejects == [("1", "missing_field"), ("2", "empty_line"), ("4", "too_long")]


def test_parquet_without_the_column(read, tmp_path):
    result = read("b.parquet", parquet(tmp_path, {"text": ["one"], "n": [1]}))
    assert result.rejects == [("", "missing_field")]
    assert result.details == ["no column 'caption': text, n"]


def test_parquet_with_a_column_of_numbers(read, tmp_path):
    result = read("b.parquet", parquet(tmp_path, {"caption": [1, 2]}))
    assert result.rejects == [("0", "missing_field"), ("1", "missing_field")]


def test_parquet_text_that_is_no_utf8_costs_that_row_alone(read, tmp_path):
    stored = pa.array([b"one", b"caf\xe9", b"two"], pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, stored.buffers())
    result = read("b.parquet", parquet(tmp_path, {"caption": column}))
    assert result.lines == [(0, "one"), (2, "two")]
    assert result.rejects == [("1", "not_utf8")]


def test_parquet_that_breaks_off(read, tmp_path):
    content = parquet(tmp_path, {"caption": ["one"] * 10})
    assert read("b.parquet", content[:-1]).rejects == [("", "unreadable_file")]


AWKWARD = (
    b"one\n\ntwo\r\n\r\n" + "drei ß 🐕\n".encode() + b"caf\xe9\n \n" + b"a longer line than the units are big\n\n\nend"
)


@pytest.mark.parametrize("content", [AWKWARD, AWKWARD + b"\n", b"\n\n\n", b"no end of line", b"\n" + AWKWARD, b"\r\n"])
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_slices_of_any_size_give_together_what_the_whole_file_gives(tmp_path, content, name):
    path = str(tmp_path / name)
    files.publish_bytes(path, content)
    whole = Result([Slice(path, len(content))])
    for unit_bytes in range(1, len(content) + 2):
        units = plan_slices([FileStat(path, len(content))], unit_bytes)
        parts = [Result(unit) for unit in units]
        assert [line for part in parts for line in part.lines] == whole.lines
        assert [reject for part in parts for reject in part.rejects] == whole.rejects
        pieces = [piece for unit in units for piece in unit]
        assert pieces[0].start == 0
        assert all(one.end == other.start for one, other in itertools.pairwise(pieces))


def test_a_line_over_the_limit_is_one_reject_however_the_file_is_sliced(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 10)
    content = b"one\n" + b"x" * 35 + b"\ntwo\n"
    path = str(tmp_path / "a.txt")
    files.publish_bytes(path, content)
    for unit_bytes in range(1, len(content) + 1):
        parts = [Result(unit) for unit in plan_slices([FileStat(path, len(content))], unit_bytes)]
        assert [line for part in parts for line in part.lines] == [(0, "one"), (40, "two")]
        assert [reject for part in parts for reject in part.rejects] == [("4", "too_long")]


def test_small_files_are_packed_together():
    inputs = [FileStat("a.txt", 40), FileStat("b.txt", 60), FileStat("c.txt", 1), FileStat("d.txt", 0)]
    assert plan_slices(inputs, 100) == [
        (Slice("a.txt", 40), Slice("b.txt", 60)), (Slice("c.txt", 1), Slice("d.txt", 0))
    ]  # fmt: skip


def test_empty_files_are_planned_too():
    assert plan_slices([FileStat("a.txt", 0), FileStat("b.txt", 5)], 100) == [(Slice("a.txt", 0), Slice("b.txt", 5))]
    assert plan_slices([FileStat("a.txt", 0)]) == [(Slice("a.txt", 0),)]
    assert plan_slices([]) == []


def test_a_unit_never_holds_very_many_files():
    units = plan_slices([FileStat(f"{number}.txt", 1) for number in range(2001)])
    assert [len(unit) for unit in units] == [1000, 1000, 1]


def test_big_plain_files_are_sliced_and_others_are_not():
    assert plan_slices([FileStat("a.jsonl", 250)], 100) == [
        (Slice("a.jsonl", 250, 0, 100),), (Slice("a.jsonl", 250, 100, 200),), (Slice("a.jsonl", 250, 200, 250),)
    ]  # fmt: skip
    for name in ("a.txt.gz", "a.jsonl.zst", "a.parquet", "A.JSON"):
        assert plan_slices([FileStat(name, 250)], 100) == [(Slice(name, 250),)]


def test_inputs_tell_the_bytes_of_each_slice(tmp_path):
    path = str(tmp_path / "a.txt")
    files.publish_bytes(path, b"one\ntwo\n")
    hashes = [hashlib.sha256(part).hexdigest() for part in (b"one\nt", b"wo\n", b"one\ntwo\n")]
    units = plan_slices([FileStat(path, 8)], 5)
    assert [entry for unit in units for entry in Result(unit).inputs] == [
        Input(path, 5, hashes[0], 0, 5), Input(path, 3, hashes[1], 5, 8)
    ]  # fmt: skip
    assert Result([Slice(path, 8)]).inputs == [Input(path, 8, hashes[2])]


def test_text_is_read_from_urls():
    files.publish_bytes("memory://test-sources/a.txt", b"one\ntwo\nthree\n")
    (stat,) = files.expand(["memory://test-sources/*.txt"], key="text.inputs")
    parts = [Result(unit) for unit in plan_slices([stat], 5)]
    assert [text for part in parts for text in part.texts] == ["one", "two", "three"]
