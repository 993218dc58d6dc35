"""`vlmixer drop`: the result of a run without the images and sentences, nothing of them left, and no half result."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from tests.pipeline.hostile_changes import sign
from tests.pipeline.jobs.small_corpus import Corpus, contents, run

from vlmixer.artifacts import dropped
from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.replacing.next_result import MOVED, finish
from vlmixer.pipeline.verification.verify import verify

ROOT = Path(__file__).parents[3]
GONE = ("0003.jpg", "0042.jpg")
FOLDERS = ("tagged", "regions", "bank", "shards")


def drop(out: Path, *, images: tuple[str, ...] = (), texts: tuple[str, ...] = ()) -> int:
    arguments = []
    for name, lines in (("images", images), ("texts", texts)):
        if lines:
            path = out.parent / f"gone-{name}.txt"
            path.write_text("\ufeff" + "\n".join(lines) + "\n")
            arguments += [f"--{name}", str(path)]
    return main(["drop", str(out), *arguments, "--workers", "1"])


@pytest.fixture
def copied(small_run: Corpus, tmp_path: Path) -> Path:
    """A copy of the finished small run."""
    return Path(shutil.copytree(small_run.folder / "out", tmp_path / "out"))


def plain(path: Path) -> bytes:
    """The file's content with Parquet's pages unpacked."""
    return repr(pq.read_table(path).to_pylist()).encode() if path.suffix == ".parquet" else path.read_bytes()


def test_images_leave_the_bytes_of_a_run_without_them(corpus: Corpus, capsys):
    out = corpus.folder / "out"
    shutil.copy(corpus.photos / "0042.jpg", corpus.photos / "copy-of-it.jpg")
    config = corpus.write_config()
    assert run(config, out) == 0
    gone = [corpus.photos / name for name in (*GONE, "copy-of-it.jpg")]
    crops = [row["crop"] for part in (out / "regions").glob("part-*") for row in pq.read_table(part).to_pylist()
             if row["source"] in map(str, gone)]  # fmt: skip
    ids = {row["image_id"] for row in pq.read_table(out / "regions" / "record" / "images.parquet").to_pylist()
           if row["source"] in map(str, gone)}  # fmt: skip
    assert len(ids) == 3
    assert len(crops) > 4
    assert any(crop in (out / "bank" / "crops.bin").read_bytes() for crop in crops)
    page = out / "reports" / "run.html"
    page.write_text("the page with all photos, also 0003.jpg")
    capsys.readouterr()
    assert drop(out, images=("0003.jpg", f"./{corpus.photos.name}/0042.jpg")) == 0
    assert "<svg" in page.read_text()
    assert capsys.readouterr().out.startswith(f"dropped 2 images, and 1 exact copies of them, 0 sentences from {out}: ")
    assert verify(str(out)).problems == []
    everything = {path: plain(path) for path in out.rglob("*") if path.is_file()}
    for word in [*(path.name.encode() for path in gone), *(each.encode() for each in ids), *crops]:
        assert [path for path, data in everything.items() if word in data] == []
    # The photos are still there: a run passes over them.
    before = contents(out)
    assert run(config, out) == 0
    assert contents(out) == before
    for path in gone:
        path.unlink()
    assert run(config, out) == 0
    assert run(config, corpus.folder / "without") == 0
    assert contents(corpus.folder / "without") == before


def test_names_are_matched_as_people_write_them_and_the_rest_is_said(copied: Path, small_run: Corpus, capsys):
    before = contents(copied)
    assert drop(copied, images=("0003.jpeg", "nowhere.png"), texts=("0" * 64,)) == 1
    said = capsys.readouterr().out
    assert "not found: 0003.jpeg (near: " in said
    assert "0003.jpg" in said
    assert "not found: nowhere.png" in said
    assert f"not found: {'0' * 64}" in said
    assert contents(copied) == before
    assert main(["drop", str(copied)]) == 2
    assert main(["drop", str(copied / "bank"), "--images", "x"]) == 2


def test_sentences_leave_what_a_run_that_passes_over_them_gives(small_run: Corpus, copied: Path, capsys):
    rows = pq.read_table(copied / "tagged" / "part-00000.parquet").to_pylist()
    rows = [row for row in rows if row["text"][-3:].isdigit()]  # none of these is the beginning of another
    examples = json.loads((copied / "tagged" / "examples.json").read_text())
    shown = next(row for row in rows if any(row["text"] == entry[1] for entry in examples["meant"]["cat"]))
    other, third = [row for row in rows if row is not shown][10:12]
    texts = {row["text"] for row in (shown, other, third)}
    asked = (shown["sentence_id"], hashlib.sha256(other["text"].encode()).hexdigest().upper(), third["text"])
    assert drop(copied, texts=asked) == 0
    assert "0 images, 3 sentences" in capsys.readouterr().out
    assert verify(str(copied)).problems == []
    for path in (path for folder in (*FOLDERS, "reports") for path in (copied / folder).rglob("*") if path.is_file()):
        data = plain(path)
        assert not any(word.encode() in data for word in (*texts, shown["sentence_id"])), path
    fresh = copied.parent / "fresh"
    fresh.mkdir()
    shutil.copy(copied / dropped.NAME, fresh)
    assert run(small_run.folder / "config.yaml", fresh) == 0
    assert contents(copied) == contents(fresh)
    # Once more: they are known to be dropped.
    before = contents(copied)
    assert drop(copied, texts=asked[:1]) == 0
    assert "dropped before: 1" in capsys.readouterr().out
    assert contents(copied) == before


def test_a_kill_leaves_the_old_result_or_is_finished_by_the_same_command(small_run: Corpus, copied: Path):
    before = contents(copied)
    whole = shutil.copytree(copied, copied.parent / "whole")
    assert drop(whole, images=GONE) == 0
    expected = contents(whole)
    call = [sys.executable, "-m", "vlmixer", "drop", str(copied), "--images", str(copied.parent / "gone-images.txt"),
            "--workers", "1"]  # fmt: skip
    for made in ("work/next/regions/part-00001.parquet", "work/next/bank/manifest.json"):
        process = subprocess.Popen(call, cwd=ROOT, start_new_session=True, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 300
        while process.poll() is None and not (copied / made).exists() and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, 9)
        assert process.wait() == -9, "it ended before it was killed"
        assert contents(copied) == before
        assert verify(str(copied)).problems == []
    assert subprocess.run(call, cwd=ROOT, stderr=subprocess.DEVNULL, check=False).returncode == 0
    assert contents(copied) == expected
    _interrupt_the_exchange(small_run.folder / "out", whole, copied.parent)


def _interrupt_the_exchange(old: Path, new: Path, where: Path) -> None:
    """After any number of renames, the next command does the rest."""
    for done in range(2 * len(MOVED)):
        out = Path(shutil.copytree(old, where / f"interrupted-{done}"))
        (out / "run").mkdir()
        made = Path(shutil.copytree(new, out / "work" / "next"))
        (made / "purpose.json").write_text("{}")
        (made / "ready.json").write_text(json.dumps({"report": {"request": "this"}, "other_shards": True}))
        (made / "old").mkdir()
        renames = [pair for name in MOVED for pair in ((out / name, made / "old" / name), (made / name, out / name))]
        for source, target in renames[:done]:
            if source.exists():
                source.rename(target)
        assert finish(str(out)) == {"request": "this"}
        assert contents(out) == contents(new)
        assert sorted(path.name for path in out.iterdir()) == sorted(
            [*(path.name for path in new.iterdir()), "run-before"]
        )
        assert finish(str(out)) is None
        shutil.rmtree(out)


def test_a_photo_without_the_regions_that_its_record_says_it_has_is_one_message(copied: Path, capsys):
    """As in a folder that somebody forged, with manifests to match."""
    part = copied / "regions" / "part-00000.parquet"
    table = pq.read_table(part)
    missing = table["image_id"][0].as_py()
    pq.write_table(table.filter(pc.not_equal(table["image_id"], missing)), part)
    sign(copied, part)
    before = contents(copied)
    capsys.readouterr()
    assert drop(copied, images=GONE) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("drop: ")]
    assert errors == [
        f"error: {part}: has no region of image {missing}, which record/images.parquet says it has. Run `vlmixer "
        "verify`, then detect with --overwrite."
    ]
    assert contents(copied) == before
