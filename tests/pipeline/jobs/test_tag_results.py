"""What stage `tag` says came out: the summary, the table, the page, the log."""

import gzip
import json
import logging
from collections import Counter

import pytest
from tests.pipeline.jobs.small_corpus import run
from tests.pipeline.jobs.small_text import (
    counts,
    is_sound,
    reject_rows,
    report_numbers,
    tag,
    tagged_rows,
    tagger,
    write_config,
    write_text_files,
)
from tests.pipeline.report.small import read_page

from vlmixer.artifacts.rejects import REASONS
from vlmixer.bank.concepts import load_vocabulary
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.units import TagSizes


@pytest.fixture
def corpus(tmp_path):
    return write_text_files(tmp_path)


def test_not_meant_is_told_from_no_mention(tmp_path):
    (tmp_path / "a.txt").write_text("a bus stop\na bear market\nthey train\nthe sea\na dog\n")
    out = tmp_path / "out"
    assert run(write_config(tmp_path, [tmp_path / "a.txt"]), out, command="tag") == 0
    assert counts(out) == {"read": 5, "written": 1, "rejected": {"no_mention": 2, "not_meant": 2}}
    assert {row["key"]: row["reason"] for row in reject_rows(out)} == {
        "0": "not_meant", "11": "no_mention", "25": "not_meant", "36": "no_mention"
    }  # fmt: skip


def test_the_summary_tells_what_lies_in_parts_and_rejects(corpus, tmp_path, capsys):
    paths, lines = corpus
    out = tmp_path / "out"
    config = write_config(tmp_path, paths)
    tag(config, out)
    # The command finds all done, and prints the table.
    assert run(config, out, command="tag") == 0
    folder = out / "tagged"
    assert {path.name for path in folder.iterdir() if not path.name.startswith("part-")} == {
        "manifest.json", "examples.json", "record"
    }  # fmt: skip
    summary = report_numbers(out)
    manifest = json.loads((folder / "manifest.json").read_text())
    mentions = Counter(mention["concept"] for row in tagged_rows(out) for mention in row["mentions"])
    rejects = Counter(row["reason"] for row in reject_rows(out))
    assert summary["counts"] == manifest["counts"]["sentences"] == {
        "read": 300, "written": len(tagged_rows(out)), "rejected": dict(sorted(rejects.items()))
    }  # fmt: skip
    assert summary["mentions"] == manifest["details"]["mentions"] == dict(sorted(mentions.items()))
    texts = list(dict.fromkeys(text for _, text in lines))
    not_meant = Counter(mention.concept for found in tagger().tag(texts) for mention in found.not_meant)
    assert summary["not_meant"] == dict(sorted(not_meant.items()))
    names = load_vocabulary("coco").names
    assert summary["missing"] == [name for name in names if name not in mentions]
    assert (summary["tagger"], summary["vocabulary"], summary["unreadable"]) == ("rules", "coco", [])

    table = capsys.readouterr().out
    assert f"{300:>12,} inputs read" in table
    assert f"{rejects['duplicate']:>12,} duplicate: {REASONS['duplicate']}" in table
    for name, number in mentions.items():
        assert f"{number:>12,} {name}" in table
    page = read_page(out / "reports" / "tagging.html")
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


def test_files_that_cannot_be_split_are_named(tmp_path, caplog):
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"a dog\n", mtime=0))
    (tmp_path / "b.json").write_text(json.dumps(["a cat"] * 3))
    (tmp_path / "c.txt").write_text("a kite\n" * 50)
    (tmp_path / "d.json").write_text('["x"]')
    paths = [tmp_path / name for name in ("a.txt.gz", "b.json", "c.txt", "d.json")]
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO, "vlmixer"):
        tag(write_config(tmp_path, paths), out, sizes=TagSizes(find_bytes=80))
    said = caplog.text
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
