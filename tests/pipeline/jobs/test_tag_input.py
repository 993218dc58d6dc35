"""Stage `tag` on hostile text and broken files: everything is counted, nothing stops it that should not."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.pipeline.jobs.small_corpus import run
from tests.pipeline.jobs.small_text import (
    counts,
    is_sound,
    reckoned,
    reject_rows,
    report_numbers,
    tagged_rows,
    write_config,
)
from tests.pipeline.report.small import read_page

from vlmixer.pipeline.text.readers.slices import source_id


def test_ten_thousand_hostile_lines(tmp_path):
    chance = random.Random(11)
    plain = b"".join(hostile_line(chance) + chance.choice([b"\n", b"\n", b"\r\n"]) for _ in range(6000))
    records = b"\n".join(hostile_record(chance) for _ in range(4000))
    (tmp_path / "a.txt").write_bytes(plain)
    (tmp_path / "b.jsonl").write_bytes(records)
    expected: Counter[str] = Counter()
    lines = []
    for name, content in (("a.txt", plain), ("b.jsonl", records)):
        at = 0
        for raw in content.split(b"\n") if not content.endswith(b"\n") else content[:-1].split(b"\n"):
            reason, text = judged(raw, record=name == "b.jsonl")
            if reason:
                expected[reason] += 1
            else:
                lines.append((f"{source_id(str(tmp_path / name))}-{at:012d}", text))
            at += len(raw) + 1
    rows, more = reckoned(lines)
    assert sum(expected.values()) + len(lines) >= 10_000
    assert len(rows) > 100
    assert {"not_utf8", "nul_byte", "not_json", "missing_field", "too_long", "empty_line"} <= expected.keys()

    out = tmp_path / "out"
    assert run(write_config(tmp_path, [tmp_path / "a.txt", tmp_path / "b.jsonl"]), out, command="tag") == 0
    assert counts(out) == {
        "read": sum(expected.values()) + len(lines),
        "written": len(rows),
        "rejected": dict(sorted((expected + more).items())),
    }
    assert tagged_rows(out) == rows
    for row in rows:
        assert all(row["text"][mention["start"] : mention["end"]] == mention["surface"] for mention in row["mentions"])
    assert is_sound(out)
    read_page(out / "reports" / "tagging.html")


HOSTILE_WORDS = [
    "dog", "DOGS", "c\u00adat", "ｋｉｔｅｓ", "e\u0301le\u0301phant", "👨\u200d👩\u200d👧", "שלום", "\u202edog\u202c",
    "İ", "ß", "<b>dog</b>", "</script>", '"dog"', "'", "\\", "\x00", "\x1f", "\x85", "\u2028", "\ufeff", "\ufffe",
    "x" * 300, "हिन्दी", "\U000e0041", "a\u0300\u0301\u0302", "orange", "they train", "bear market", "ﷺ", "{", "]",
    "hot", "\t",
]  # fmt: skip


ODD_RECORDS = [
    b'{"caption": "a \\ud83d dog"}', b'{"caption": "a \\udc15\\ud83d dog"}', b'{"caption": 1e999}', b'{"caption": NaN}',
    b'{"caption": {"caption": "a dog"}}', b"[]", b'"a dog"', b"null", b'{"caption": ' + b"7" * 5000 + b"}",
    b'{"caption": "a dog", "caption": 5}', b"{}",
]  # fmt: skip


def hostile_text(chance: random.Random) -> str:
    words = [chance.choice(HOSTILE_WORDS) for _ in range(chance.randrange(12))]
    if chance.random() < 0.1:
        words += [chr(chance.randrange(0x20, 0xD800)) for _ in range(chance.randrange(20))]
    return chance.choice([" ", " ", "", ", "]).join(words * chance.choice([1] * 40 + [50]))


def hostile_line(chance: random.Random) -> bytes:
    if chance.random() < 0.15:
        return bytes(chance.randrange(256) for _ in range(chance.randrange(40))).replace(b"\n", b"")
    line = hostile_text(chance).encode()
    return line[: chance.randrange(1, len(line) + 1)] if line and chance.random() < 0.1 else line


def hostile_record(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return hostile_line(chance)
    if kind < 0.15:
        depth = chance.choice([3, 200, 50_000])
        return b'{"caption": ' + b"[" * depth + b"]" * chance.choice([0, depth]) + b"}"
    if kind < 0.2:
        return chance.choice(ODD_RECORDS)
    record = {"caption": hostile_text(chance), "n": chance.random(), "caption ": "x"}
    line = json.dumps(record, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    return line[: chance.randrange(len(line))] if kind < 0.25 else line


def judged(raw: bytes, *, record: bool) -> tuple[str, str]:
    """Why a line is not used, "" if it is; and its sentence."""
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf").decode()
    except UnicodeDecodeError:
        return "not_utf8", ""
    if record:
        if not text.strip():
            return "empty_line", ""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return "not_json", ""
        caption = found.get("caption") if isinstance(found, dict) else None
        if not isinstance(caption, str):
            return "missing_field", ""
        text = caption
    text = text.strip()
    if not text:
        return "empty_line", ""
    if len(text) > 1000:
        return "too_long", ""
    if "\0" in text:
        return "nul_byte", ""
    if any("\ud800" <= character < "\ue000" for character in text):
        return "not_utf8", ""
    return "", text


def test_bad_files_among_good_ones_are_counted_and_named(tmp_path, capsys):
    good = "".join(f"a dog on day {number}\n" for number in range(500)).encode()
    (tmp_path / "good.txt").write_bytes(good)
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(good.replace(b"dog", b"cat"))[:-30])
    pq.write_table(pa.table({"caption": ["a kite"]}), tmp_path / "good.parquet")
    pq.write_table(pa.table({"text": ["a kite"]}), tmp_path / "odd.parquet")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    (tmp_path / "broken.json").write_bytes(b'["a horse", "two horses", ')
    paths = sorted(path for path in tmp_path.iterdir())
    out = tmp_path / "out"
    # Two inputs of more than 500, but a tenth of the bytes.
    assert run(write_config(tmp_path, paths), out, "--set", "max_bad_fraction=0.05", command="tag") == 1
    said = capsys.readouterr().err
    assert "% of the text cannot be read, by bytes, but max_bad_fraction allows only 5%" in said
    assert f"\n{tmp_path / 'broken.json'}: " in said
    assert f"\n{tmp_path / 'cut.txt.gz'}: " in said
    assert run(write_config(tmp_path, paths), out, "--set", "max_bad_fraction=0.3", command="tag") == 0
    found = counts(out)
    assert found["rejected"] == {"empty_file": 1, "missing_field": 1, "unreadable_file": 2}
    assert {Path(row["source"]).name: row["reason"] for row in reject_rows(out)} == {
        "cut.txt.gz": "unreadable_file", "odd.parquet": "missing_field", "empty.jsonl": "empty_file",
        "broken.json": "unreadable_file",
    }  # fmt: skip
    texts = {row["text"] for row in tagged_rows(out)}
    assert {"a dog on day 499", "a kite", "a horse", "two horses"} <= texts
    summary = report_numbers(out)
    assert [Path(name).name for name in summary["unreadable"]] == ["broken.json", "cut.txt.gz"]
    table, said = capsys.readouterr()
    assert "% of the text cannot be read, by bytes:\n" in said
    assert f"not readable: {tmp_path / 'cut.txt.gz'}" in table
    assert "2 unreadable_file: " in table
    assert is_sound(out)


def test_too_much_that_is_bad_stops_it_and_less_strictness_goes_on(tmp_path, capsys):
    (tmp_path / "a.txt").write_bytes(b"a dog\n" + b"\xff\n" * 3)
    config, out = write_config(tmp_path, [tmp_path / "a.txt"]), tmp_path / "out"
    assert run(config, out, "--set", "max_bad_fraction=0.5", command="tag") == 1
    said = capsys.readouterr()
    assert "3 of 4 sentences were bad (3 not_utf8)" in said.err
    assert said.out == ""
    assert run(config, out, "--set", "max_bad_fraction=0.75", command="tag") == 0
