"""`vlmixer run --extend`: the bytes of a run over all inputs, and no photo is detected twice."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from tests.pipeline.jobs.small_corpus import PHOTOS, Corpus, contents, run

from vlmixer.pipeline.verification.verify import verify

NEW = 10


@pytest.fixture
def growing(corpus: Corpus) -> Corpus:
    """The small corpus, whose last photos and half of whose captions are not there yet, but in `later`."""
    later = corpus.folder / "later"
    later.mkdir()
    for photo in sorted(corpus.photos.iterdir())[::15]:
        shutil.move(photo, later / photo.name)
    lines = corpus.captions.read_text().splitlines(keepends=True)
    (corpus.folder / "texts").mkdir()
    (corpus.folder / "texts" / "b.txt").write_text("".join(lines[:150]))
    (later / "a.txt").write_text("".join(lines[140:]))  # ten are in both files, and this one comes first
    return corpus


def config_of(corpus: Corpus, **sections: object) -> Path:
    (corpus.folder / "calls").unlink(missing_ok=True)
    return corpus.write_config(
        text={"inputs": [str(corpus.folder / "texts")]},
        images={"detector_options": {"log": str(corpus.folder)}, **sections},
    )


def grow(corpus: Corpus) -> None:
    for path in sorted((corpus.folder / "later").iterdir()):
        shutil.move(path, (corpus.folder / "texts" if path.suffix == ".txt" else corpus.photos) / path.name)


def calls(corpus: Corpus) -> int:
    """The photos that were detected since this was last asked."""
    path = corpus.folder / "calls"
    count = len(path.read_text().splitlines()) if path.exists() else 0
    path.unlink(missing_ok=True)
    return count


def test_new_photos_and_a_new_text_file_give_the_bytes_of_a_run_over_all(growing: Corpus, capsys):
    config, out = config_of(growing), growing.folder / "texts" / "out"  # below an input
    Image.new("RGB", (32, 32)).save(growing.photos / "dark.png")  # without regions
    Image.new("RGB", (32, 32), (200, 30, 30)).save(growing.photos / "plain.bmp")
    (growing.photos / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    (growing.photos / "0001-copy.jpg").write_bytes((growing.photos / "0001.jpg").read_bytes())
    assert run(config, out) == 0
    before = contents(out)
    assert calls(growing) == PHOTOS - NEW + 2
    # Another picture of the same size.
    Image.new("RGB", (32, 32), (30, 200, 30)).save(growing.photos / "plain.bmp")
    assert run(config, out) == 1
    assert "vlmixer run … --extend" in capsys.readouterr().err
    grow(growing)
    assert run(config, out) == 1
    assert "vlmixer run … --extend" in capsys.readouterr().err
    assert contents(out) == before
    assert run(config, out, "--extend") == 0
    assert calls(growing) == NEW + 1
    out = Path(shutil.move(out, growing.folder / "out"))
    assert run(config, growing.folder / "fresh") == 0
    assert contents(out) == contents(growing.folder / "fresh")
    assert verify(str(out)).problems == []
    assert not (out / "work" / "next").exists()
    calls(growing)
    assert run(config, out, "--extend") == 0
    assert run(config, out) == 0
    assert calls(growing) == 0


def test_extend_and_overwrite_exclude_each_other(growing: Corpus, capsys):
    assert run(config_of(growing), growing.folder / "out", "--extend", "--overwrite") == 2
    assert "Give one of the two" in capsys.readouterr().err
