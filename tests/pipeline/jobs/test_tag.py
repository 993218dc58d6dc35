"""Stage `tag`: duplicates, units of any size, resumption, against plain reckoning."""

import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.pipeline.jobs.small_corpus import contents, run
from tests.pipeline.jobs.small_text import (
    counts,
    is_sound,
    reckoned,
    reject_rows,
    report_numbers,
    sentences,
    tag,
    tagged_rows,
    write_config,
    write_text_files,
)

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.jobs import finish
from vlmixer.pipeline.jobs import tag as stage
from vlmixer.pipeline.text import passes
from vlmixer.pipeline.text.readers.slices import source_id
from vlmixer.pipeline.text.units import TagSizes
from vlmixer.pipeline.units import doing


@pytest.fixture
def corpus(tmp_path):
    return write_text_files(tmp_path)


def test_duplicates_across_files_and_units_are_removed_and_the_first_is_kept(corpus, tmp_path):
    paths, lines = corpus
    out = tmp_path / "out"
    tag(write_config(tmp_path, paths), out)
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


def test_units_of_any_size_give_the_same_rows(corpus, tmp_path):
    paths, lines = corpus
    rows, _ = reckoned(lines)
    for unit_bytes, batch, bucket in ((1 << 20, 1024, 1 << 20), (700, 3, 1000), (5000, 1, 2500)):
        out = tmp_path / f"out-{unit_bytes}"
        sizes = TagSizes(find_bytes=unit_bytes, rows_per_batch=batch, bucket_bytes=bucket)
        tag(write_config(tmp_path, paths), out, sizes=sizes)
        assert tagged_rows(out) == rows
        assert report_numbers(out) == report_numbers(tmp_path / f"out-{1 << 20}")


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
            tag(config, out)
        assert not isinstance(caught.value, UserError)


def test_interrupted_anywhere_it_resumes_to_the_same_bytes(corpus, tmp_path, monkeypatch):
    config = write_config(tmp_path, corpus[0])
    whole = tmp_path / "whole"
    tag(config, whole)
    parts = len(list((whole / "tagged").glob("part-*")))
    assert parts >= 6
    broken = tmp_path / "broken"
    for place, name, call in (
        (stage.FindWorker, "run", 1),  # before a unit of the first pass
        (doing, "publish_result", 1),  # a unit's files are there, its mark is not
        (stage.FindWorker, "_candidates", 0),
        (stage.DuplicatesWorker, "run", 0),
        (doing, "publish_result", 1),
        (stage.TagWorker, "run", 2),
        (doing, "publish_result", 1),
        (passes, "tagged_table", 3),  # within a part
        (finish.FinishWorker, "run", 0),
        (passes, "join_units", 0),  # the examples are there
        (stage, "finish_stage", 0),
    ):
        interrupt(monkeypatch, config, broken, place, name, call)
        assert not (broken / "tagged" / "manifest.json").exists()
    interrupt(monkeypatch, config, broken, stage, "write_tagging_report", 0)  # the report comes after the manifest
    tag(config, broken)
    assert contents(broken) == contents(whole)
    assert not (broken / "work" / "tag").exists()


def test_what_is_done_is_not_done_again(corpus, tmp_path, monkeypatch):
    config, out = write_config(tmp_path, corpus[0]), tmp_path / "out"
    interrupt(monkeypatch, config, out, stage.TagWorker, "run", 3)
    calls: list[str] = []
    for worker in (stage.FindWorker, stage.DuplicatesWorker, stage.TagWorker):
        before = worker.run
        monkeypatch.setattr(
            worker,
            "run",
            lambda self, unit, resource, before=before: calls.append(unit.name) or before(self, unit, resource),
        )
    tag(config, out)
    assert calls
    assert all(name.startswith("part-") for name in calls)
    assert len(calls) == len(list((out / "tagged").glob("part-*"))) - 3
    del calls[:]
    tag(config, out)
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
def test_a_changed_setting_is_refused(corpus, tmp_path, monkeypatch, change, said):
    config, changed = write_config(tmp_path, corpus[0]), write_config(tmp_path, corpus[0], "changed.yaml", **change)
    out = tmp_path / "out"
    interrupt(monkeypatch, config, out, stage.FindWorker, "run", 1)
    with pytest.raises(UserError, match=re.escape(said)):
        tag(changed, out)


def test_a_finished_stage_is_done_afresh_only_with_overwrite(corpus, tmp_path, capsys):
    change = {"stop_words": ["dog"]}
    config, changed = write_config(tmp_path, corpus[0]), write_config(tmp_path, corpus[0], "changed.yaml", **change)
    out, afresh = tmp_path / "out", tmp_path / "afresh"
    assert run(config, out, command="tag") == 0
    assert run(changed, out, command="tag") == 1
    said = capsys.readouterr().err
    assert "setting stop_words (was [" in said
    assert "is ['dog']) changed since" in said
    assert run(changed, out, "--overwrite", command="tag") == 0
    assert run(changed, afresh, command="tag") == 0
    assert contents(out) == contents(afresh)
