"""Extending and dropping over corpora of several kinds at once: files, a tar, a Parquet file, a list."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tests.pipeline.jobs.small_corpus import PHOTOS, Corpus, contents, run
from tests.pipeline.jobs.test_corpora import config_of, mixed
from tests.pipeline.replacing.test_drop import drop

from vlmixer.artifacts import dropped
from vlmixer.pipeline.verification.verify import verify

__all__ = ["mixed"]


def record(out: Path) -> list[dict]:
    return pq.read_table(out / "regions" / "record" / "images.parquet").to_pylist()


def test_every_image_is_in_the_record_with_what_became_of_it(mixed: Corpus):
    (mixed.folder / "folder" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    out = mixed.folder / "out"
    assert run(config_of(mixed), out, command="detect") == 0
    rows = record(out)
    assert len({(row["part"], row["row"]) for row in rows}) == len(rows) == PHOTOS + 9
    reasons = [row["reason"] for row in rows]
    assert {reason: reasons.count(reason) for reason in set(reasons)} == {"": PHOTOS, "duplicate": 8, "not_an_image": 1}
    sizes = {path.name: path.stat().st_size for path in (mixed.folder / "folder").iterdir()}
    assert {
        Path(row["source"]).name: row["bytes"] for row in rows if Path(row["source"]).parent.name == "folder"
    } == sizes


def test_containers_that_are_added_and_removed_give_the_bytes_of_a_run_over_all(mixed: Corpus, capsys):
    log: dict[str, Any] = {"detector_options": {"log": str(mixed.folder)}}
    every = config_of(mixed, **log)
    inputs = [str(mixed.folder / part) for part in ("folder", "list.txt")]
    text = {"inputs": [str(mixed.captions)], "spacy_model": "rules"}
    few = mixed.write_config("few.yaml", images={"inputs": inputs, **log}, text=text)
    out = mixed.folder / "out"
    assert run(few, out) == 0
    smaller = contents(out)
    assert run(every, mixed.folder / "fresh") == 0
    (mixed.folder / "calls").unlink()
    assert run(every, out, "--extend") == 0
    assert len((mixed.folder / "calls").read_text().splitlines()) == PHOTOS - 74
    assert contents(out) == contents(mixed.folder / "fresh")
    assert run(few, out, "--extend") == 0
    assert len((mixed.folder / "calls").read_text().splitlines()) == PHOTOS - 74
    assert contents(out) == smaller
    capsys.readouterr()
    assert run(few, out, "--extend", "--set", "images.score_threshold=0.4") == 1
    assert "score_threshold (was 0.3, is 0.4)" in capsys.readouterr().err
    assert contents(out) == smaller


@pytest.mark.parametrize("drop_duplicates", [True, False])
def test_images_inside_files_leave_what_a_run_that_passes_over_them_gives(mixed: Corpus, drop_duplicates: bool):
    config = config_of(mixed, drop_duplicates=drop_duplicates)
    out = mixed.folder / "out"
    assert run(config, out, command="detect") == 0
    rows = record(out)
    row = next(row for row in rows if row["source"].endswith(".parquet") and row["key"] == "7")
    listed = next(row for row in rows if row["reader"] == "list")
    # The first member of the tar is also in the Parquet file.
    assert (
        drop(out, images=("some.tar/000000.jpg", row["image_id"].upper(), f"./photos/{Path(listed['source']).name}"))
        == 0
    )
    assert verify(str(out)).problems == []
    left = record(out)
    assert len(left) == len(rows) - 4
    assert not {each["sha256"] for each in left} & {row["sha256"], listed["sha256"]}
    fresh = mixed.folder / "fresh"
    fresh.mkdir()
    shutil.copy(out / dropped.NAME, fresh)
    assert run(config, fresh, command="detect") == 0
    assert contents(out) == contents(fresh)
    assert run(config, out, command="detect") == 0
    assert contents(out) == contents(fresh)
