"""Stage `tag`: duplicates, resumption, hostile input, and what it says came out, against plain reckoning."""

import gzip
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.pipeline.jobs.small_corpus import contents, run
from tests.pipeline.report.small import read_page

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files import FileStat
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import HARDLY_VISUAL
from vlmixer.pipeline.jobs import tag
from vlmixer.pipeline.jobs.tag import Candidates, count_buckets, plan_parts, repeated
from vlmixer.pipeline.text.readers.slices import plan_slices, source_id
from vlmixer.pipeline.text.tagger import Tagger
from vlmixer.pipeline.units import doing

NOUNS = ["a dog", "two dogs", "a cat", "a bear market", "kites", "cat food", "a tree", "the sea", "an orange shirt"]


def sentences(chance: random.Random, count: int) -> list[str]:
    """Captions, many of them twice or more often."""
    return [f"{chance.choice(NOUNS)} and {chance.choice(NOUNS)} on day {chance.randrange(3)}" for _ in range(count)]


def write_config(folder: Path, inputs: Sequence[Path | str], name: str = "config.yaml", **text: object) -> Path:
    """A config over these inputs."""
    path = folder / name
    settings = {"inputs": [str(entry) for entry in inputs], "spacy_model": "rules", **text}
    path.write_text(yaml.safe_dump({"vocabulary": "coco", "max_bad_fraction": 1.0, "text": settings}))
    return path


def tagged_rows(out: Path) -> list[dict]:
    """The rows of all parts in order."""
    return [row for path in sorted((out / "tagged").glob("part-*")) for row in pq.read_table(path).to_pylist()]


def reject_rows(out: Path) -> list[dict]:
    return [row for path in sorted((out / "rejects").glob("tag-*")) for row in pq.read_table(path).to_pylist()]


def counts(out: Path) -> dict:
    return json.loads((out / "tagged" / "manifest.json").read_text())["counts"]["sentences"]


def is_sound(out: Path) -> bool:
    return main(["verify", str(out)]) == 0


TAGGER = Tagger(load_vocabulary("coco"), "rules", HARDLY_VISUAL)


def reckoned(lines: Sequence[tuple[str, str]]) -> tuple[list[dict], Counter]:
    """The rows and the rejects by reason that sound sentences (id, text) give, one after the other."""
    rows, rejects, known = [], Counter(), set()
    for (key, text), found in zip(lines, TAGGER.tag([text for _, text in lines]), strict=True):
        if not (found.mentions or found.not_meant):
            rejects["no_mention"] += 1
        elif text in known:
            rejects["duplicate"] += 1
        elif not found.mentions:
            rejects["not_meant"] += 1
        else:
            fields = ("start", "end", "concept", "surface", "lemma")
            mentions = [{field: getattr(mention, field) for field in fields} for mention in found.mentions]
            rows.append({"sentence_id": key, "text": text, "mentions": mentions})
        if found.mentions or found.not_meant:
            known.add(text)
    return rows, rejects


@pytest.fixture
def small_units(monkeypatch):
    """Many units, batches and buckets for little text."""
    monkeypatch.setattr(tag, "plan_slices", partial(plan_slices, unit_bytes=2000))
    monkeypatch.setattr(tag, "ROWS_A_BATCH", 8)
    monkeypatch.setattr(tag, "UNITS_WANTED", 5)
    monkeypatch.setattr(tag, "BUCKET_BYTES", 4000)


@pytest.fixture
def corpus(tmp_path) -> tuple[list[Path], list[tuple[str, str]]]:
    """Three files of 300 sentences, and the sentences with their ids."""
    chance = random.Random(3)
    paths, lines = [], []
    texts = sentences(chance, 300)
    for number in range(3):
        path = tmp_path / f"{number}.txt"
        at = 0
        for text in texts[number * 100 : number * 100 + 100]:
            lines.append((f"{source_id(str(path))}-{at:012d}", text))
            at += len(text) + 1
        path.write_text("\n".join(texts[number * 100 : number * 100 + 100]) + "\n")
        paths.append(path)
    return paths, lines


def test_duplicates_across_files_and_units_are_removed_and_the_first_is_kept(corpus, tmp_path, small_units):
    paths, lines = corpus
    out = tmp_path / "out"
    assert run(write_config(tmp_path, paths), out, command="tag") == 0
    rows, rejects = reckoned(lines)
    assert rejects["duplicate"] > 30
    assert tagged_rows(out) == rows
    assert counts(out) == {"read": 300, "written": len(rows), "rejected": dict(sorted(rejects.items()))}
    assert Counter(row["reason"] for row in reject_rows(out)) == rejects
    # What is rejected is named by the place where it stands.
    text_at = dict(lines)
    doubles = [row for row in reject_rows(out) if row["reason"] == "duplicate"]
    assert all(f"{source_id(row['source'])}-{int(row['key']):012d}" in text_at for row in doubles)
    kept = {row["text"]: row["sentence_id"] for row in rows}
    order = [key for key, _ in lines]
    for row in doubles:
        key = f"{source_id(row['source'])}-{int(row['key']):012d}"
        if text_at[key] in kept:
            assert order.index(kept[text_at[key]]) < order.index(key)
    assert is_sound(out)


def test_units_of_any_size_give_the_same_rows(corpus, tmp_path, monkeypatch):
    paths, lines = corpus
    rows, _ = reckoned(lines)
    for unit_bytes, batch, bucket in ((1 << 20, 1024, 1 << 20), (700, 3, 1000), (5000, 1, 2500)):
        monkeypatch.setattr(tag, "plan_slices", partial(plan_slices, unit_bytes=unit_bytes))
        monkeypatch.setattr(tag, "ROWS_A_BATCH", batch)
        monkeypatch.setattr(tag, "BUCKET_BYTES", bucket)
        out = tmp_path / f"out-{unit_bytes}"
        assert run(write_config(tmp_path, paths), out, command="tag") == 0
        assert tagged_rows(out) == rows
        summary = (out / "tagged" / "summary.json").read_bytes()
        assert summary == (tmp_path / f"out-{1 << 20}" / "tagged" / "summary.json").read_bytes()


def test_repeated_is_what_a_set_would_say():
    chance = np.random.default_rng(0)
    for _ in range(200):
        sizes = chance.integers(0, 30, chance.integers(1, 6))
        parts = [chance.integers(0, 4, (size, 2)).astype(np.uint64) for size in sizes]
        known: set[tuple[int, int]] = set()
        expected = []
        for part in parts:
            expected.append([])
            for place, entry in enumerate(map(tuple, part.tolist())):
                if entry in known:
                    expected[-1].append(place)
                known.add(entry)
        assert [found.tolist() for found in repeated(parts)] == expected


def test_hashes_that_share_a_half_are_not_the_same():
    parts = [np.array([[1, 2], [1, 3]], np.uint64), np.array([[2, 2], [1, 2]], np.uint64)]
    assert [found.tolist() for found in repeated(parts)] == [[], [1]]


def test_parts_are_of_equal_size_whatever_the_files_were():
    batch = tag.ROWS_A_BATCH
    assert plan_parts([]) == plan_parts([0, 0]) == []
    assert [unit.content for unit in plan_parts([1, 0, batch + 1])] == [
        Candidates(0, 0, 1), Candidates(2, 0, 1), Candidates(2, 1, 2)
    ]  # fmt: skip
    assert [unit.name for unit in plan_parts([1, 1])] == ["part-00000", "part-00001"]
    big = plan_parts([batch * 5000])
    assert {unit.content.end - unit.content.first for unit in big[:-1]} == {tag.MOST_BATCHES_A_UNIT}
    assert big[-1].content.end == 5000


def test_there_are_more_buckets_for_more_text():
    assert count_buckets([FileStat("a.txt", 1)]) == 1
    assert count_buckets([FileStat("a.txt", tag.BUCKET_BYTES)]) == 2
    assert count_buckets([FileStat("a.txt.gz", tag.BUCKET_BYTES), FileStat("b.txt", tag.BUCKET_BYTES)]) == 6


# The same bytes


def test_one_worker_and_two_give_the_same_bytes(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    chance = random.Random(5)
    lines = []
    # More files than one unit takes.
    for number in range(1100):
        path = texts / f"{number:04d}.txt"
        content = sentences(chance, 1200)[:3]
        path.write_text("\n".join([*content, "", "a d\0g"]))
        for place, text in enumerate(content):
            lines.append((f"{source_id(str(path))}-{sum(len(line) + 1 for line in content[:place]):012d}", text))
    config = write_config(tmp_path, [texts])
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(config, one, command="tag", workers=1) == 0
    assert run(config, two, command="tag", workers=2) == 0
    assert contents(one) == contents(two)
    assert len(list((one / "tagged").glob("part-*"))) >= 3
    rows, rejects = reckoned(lines)
    assert tagged_rows(one) == rows
    assert counts(one)["rejected"] == dict(sorted((rejects + Counter(empty_line=1100, nul_byte=1100)).items()))


class Interrupted(RuntimeError):
    """Stands for a machine that goes away."""


def failing(function: Callable, call: int) -> Callable:
    """The function, but for its call of that number, which raises."""
    calls = iter(range(1_000_000))

    def wrapped(*arguments: object, **options: object) -> object:
        if next(calls) == call:
            raise Interrupted("Interrupted")
        return function(*arguments, **options)

    return wrapped


def interrupt(monkeypatch, config: Path, out: Path, place: object, name: str, call: int) -> None:
    """Run, and fail at that call of `place.name`."""
    with monkeypatch.context() as patch:
        patch.setattr(place, name, failing(getattr(place, name), call))
        with pytest.raises(Exception, match="Interrupted") as caught:
            run(config, out, command="tag")
        assert not isinstance(caught.value, UserError)
    assert not (out / "tagged" / "manifest.json").exists()


def test_interrupted_anywhere_it_resumes_to_the_same_bytes(corpus, tmp_path, small_units, monkeypatch):
    config = write_config(tmp_path, corpus[0])
    whole = tmp_path / "whole"
    assert run(config, whole, command="tag") == 0
    parts = len(list((whole / "tagged").glob("part-*")))
    assert parts >= 6
    broken = tmp_path / "broken"
    for place, name, call in (
        (tag.FindWorker, "run", 1),  # before a unit of the first pass
        (doing, "publish_result", 1),  # a unit's files are there, its mark is not
        (tag, "_candidates", 0),
        (tag.DuplicatesWorker, "run", 0),
        (doing, "publish_result", 1),
        (tag.TagWorker, "run", 2),
        (doing, "publish_result", 1),
        (tag, "tagged_table", 3),  # within a part
        (tag, "write_tag_page", 0),
        (tag, "finish_stage", 0),
    ):
        interrupt(monkeypatch, config, broken, place, name, call)
    assert run(config, broken, command="tag") == 0
    assert contents(broken) == contents(whole)
    assert not (broken / "work" / "tag").exists()


def test_what_is_done_is_not_done_again(corpus, tmp_path, small_units, monkeypatch):
    config, out = write_config(tmp_path, corpus[0]), tmp_path / "out"
    interrupt(monkeypatch, config, out, tag.TagWorker, "run", 3)
    calls: list[str] = []
    for worker in (tag.FindWorker, tag.DuplicatesWorker, tag.TagWorker):
        before = worker.run
        monkeypatch.setattr(
            worker,
            "run",
            lambda self, unit, resource, before=before: calls.append(unit.name) or before(self, unit, resource),
        )
    assert run(config, out, command="tag") == 0
    assert calls
    assert all(name.startswith("part-") for name in calls)
    assert len(calls) == len(list((out / "tagged").glob("part-*"))) - 3
    del calls[:]
    assert run(config, out, command="tag") == 0
    assert calls == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"min_characters": 5}, "setting min_characters (was 1, is 5)"),
        ({"split": "sentences"}, "setting split (was 'lines', is 'sentences')"),
        ({"tag_modifiers": True}, "setting tag_modifiers (was False, is True)"),
        ({"stop_words": ["dog"]}, "setting stop_words"),
    ],
)
def test_a_changed_setting_is_refused_until_overwrite(corpus, tmp_path, monkeypatch, capsys, change, said):
    config, changed = write_config(tmp_path, corpus[0]), write_config(tmp_path, corpus[0], "changed.yaml", **change)
    out = tmp_path / "out"
    interrupt(monkeypatch, config, out, tag.TagWorker, "run", 0)
    assert run(changed, out, command="tag") == 1
    assert said in capsys.readouterr().err
    assert run(config, out, command="tag") == 0
    assert run(changed, out, command="tag") == 1
    assert "its settings or its inputs changed" in capsys.readouterr().err
    assert run(changed, out, "--overwrite", command="tag") == 0
    afresh = tmp_path / "afresh"
    assert run(changed, afresh, command="tag") == 0
    assert contents(out) == contents(afresh)


# Bad input


def test_ten_thousand_hostile_lines(tmp_path):
    chance = random.Random(11)
    plain = b"".join(hostile_line(chance) + chance.choice([b"\n", b"\n", b"\r\n"]) for _ in range(6000))
    records = b"\n".join(hostile_record(chance) for _ in range(4000))
    (tmp_path / "a.txt").write_bytes(plain)
    (tmp_path / "b.jsonl").write_bytes(records)
    expected, lines = Counter(), []
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
    read_page(out / "tagged" / "report.html")


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
        text = raw.decode()
    except UnicodeDecodeError:
        return "not_utf8", ""
    if record:
        if not text.strip():
            return "empty_line", ""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return "not_json", ""
        text = found.get("caption") if isinstance(found, dict) else None
        if not isinstance(text, str):
            return "missing_field", ""
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
    assert run(write_config(tmp_path, paths), out, command="tag") == 0
    found = counts(out)
    assert found["rejected"] == {"empty_file": 1, "missing_field": 1, "unreadable_file": 2}
    assert {Path(row["source"]).name: row["reason"] for row in reject_rows(out)} == {
        "cut.txt.gz": "unreadable_file", "odd.parquet": "missing_field", "empty.jsonl": "empty_file",
        "broken.json": "unreadable_file",
    }  # fmt: skip
    texts = {row["text"] for row in tagged_rows(out)}
    assert {"a dog on day 499", "a kite", "a horse", "two horses"} <= texts
    summary = json.loads((out / "tagged" / "summary.json").read_text())
    assert [Path(name).name for name in summary["unreadable"]] == ["broken.json", "cut.txt.gz"]
    table = capsys.readouterr().out
    assert f"cannot be read: {tmp_path / 'cut.txt.gz'}" in table
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


# What came out


def test_not_meant_is_told_from_no_mention(tmp_path):
    (tmp_path / "a.txt").write_text("a bus stop\na bear market\nthey train\nthe sea\na dog\n")
    out = tmp_path / "out"
    assert run(write_config(tmp_path, [tmp_path / "a.txt"]), out, command="tag") == 0
    assert counts(out) == {"read": 5, "written": 1, "rejected": {"no_mention": 2, "not_meant": 2}}
    assert {row["key"]: row["reason"] for row in reject_rows(out)} == {
        "0": "not_meant", "11": "no_mention", "25": "not_meant", "36": "no_mention"
    }  # fmt: skip


def test_the_summary_tells_what_lies_in_parts_and_rejects(corpus, tmp_path, small_units, capsys):
    paths, lines = corpus
    out = tmp_path / "out"
    assert run(write_config(tmp_path, paths), out, command="tag") == 0
    folder = out / "tagged"
    assert {path.name for path in folder.iterdir() if not path.name.startswith("part-")} == {
        "manifest.json", "summary.json", "report.html"
    }  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    manifest = json.loads((folder / "manifest.json").read_text())
    mentions = Counter(mention["concept"] for row in tagged_rows(out) for mention in row["mentions"])
    rejects = Counter(row["reason"] for row in reject_rows(out))
    assert summary["counts"] == manifest["counts"]["sentences"] == {
        "read": 300, "written": len(tagged_rows(out)), "rejected": dict(sorted(rejects.items()))
    }  # fmt: skip
    assert summary["mentions"] == manifest["details"]["mentions"] == dict(sorted(mentions.items()))
    texts = list(dict.fromkeys(text for _, text in lines))
    not_meant = Counter(mention.concept for found in TAGGER.tag(texts) for mention in found.not_meant)
    assert summary["not_meant"] == dict(sorted(not_meant.items()))
    names = load_vocabulary("coco").names
    assert summary["missing"] == [name for name in names if name not in mentions]
    assert (summary["tagger"], summary["vocabulary"], summary["unreadable"]) == ("rules", "coco", [])

    table = capsys.readouterr().out
    assert f"{300:>12,} inputs read" in table
    assert f"{rejects['duplicate']:>12,} duplicate: the same as one that comes before it" in table
    for name, number in mentions.items():
        assert f"{number:>12,} {name}" in table
    page = read_page(folder / "report.html")
    assert {row.attributes["data-words"] for row in page.all("section") if "data-words" in row.attributes} == {
        *mentions, *not_meant
    }  # fmt: skip


def test_the_table_goes_to_stdout_again_when_all_is_done(corpus, tmp_path, capsys):
    config, out = write_config(tmp_path, corpus[0]), tmp_path / "out"
    assert run(config, out, command="tag") == 0
    first = capsys.readouterr().out
    assert first.startswith("tagged by rules, vocabulary coco\n")
    assert run(config, out, command="tag") == 0
    assert capsys.readouterr().out == first


def test_a_corpus_without_any_mention_is_no_error(tmp_path, capsys):
    (tmp_path / "a.txt").write_text("the sea\nthe tree\n")
    out = tmp_path / "out"
    assert run(write_config(tmp_path, [tmp_path / "a.txt"]), out, command="tag") == 0
    assert counts(out) == {"read": 2, "written": 0, "rejected": {"no_mention": 2}}
    assert "0 of 80 found" in capsys.readouterr().out
    assert is_sound(out)


def test_files_that_cannot_be_split_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(tag, "UNIT_BYTES", 80)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a dog\n", mtime=0))
    (tmp_path / "b.json").write_text(json.dumps(["a cat"] * 3))
    (tmp_path / "c.txt").write_text("a kite\n" * 50)
    (tmp_path / "d.json").write_text('["x"]')
    paths = [tmp_path / name for name in ("a.txt.gz", "b.json", "c.txt", "d.json")]
    out = tmp_path / "out"
    assert run(write_config(tmp_path, paths), out, command="tag") == 0
    said = capsys.readouterr().err
    assert "2 files cannot be split" in said
    assert f"{paths[0]}, {paths[1]}" in said
    assert json.loads((out / "tagged" / "manifest.json").read_text())["details"]["not_split"] == 3


def test_running_text_is_split_into_sentences(tmp_path):
    (tmp_path / "a.txt").write_text("A dog ran. The sea\nis blue. A\ncat sat.\n\nA kite flew. A dog ran.\n")
    (tmp_path / "b.jsonl").write_text('{"caption": "Two horses. A dog ran."}\n')
    out = tmp_path / "out"
    inputs = [tmp_path / "a.txt", tmp_path / "b.jsonl"]
    assert run(write_config(tmp_path, inputs, split="sentences"), out, command="tag") == 0
    assert [row["text"] for row in tagged_rows(out)] == ["A dog ran.", "A cat sat.", "A kite flew.", "Two horses."]
    first = source_id(str(inputs[0]))
    assert [row["sentence_id"] for row in tagged_rows(out)][:3] == [
        f"{first}-000000000000-00000", f"{first}-000000000000-00002", f"{first}-000000000040-00000"
    ]  # fmt: skip
    assert counts(out)["rejected"] == {"duplicate": 2, "no_mention": 1}
