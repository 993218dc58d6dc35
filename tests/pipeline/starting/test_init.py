"""`vlmixer init`: what is found in folders, and a config that can be run as it is written."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from vlmixer.pipeline.commands.main import main
from vlmixer.pipeline.config import load_config
from vlmixer.pipeline.starting.looking import Captions, Images, look

KARPATHY = {"images": [{"sentences": [{"raw": "A man rides a horse."}]}, {"sentences": [{"raw": "Two dogs play."}]}]}


def picture():
    packed = io.BytesIO()
    Image.new("RGB", (8, 8)).save(packed, "JPEG")
    return packed.getvalue()


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder like a user's: captions in several formats, photos with records, photos in a tar, other things."""
    monkeypatch.chdir(tmp_path)
    for name in ("captions/more", "karpathy", "photos/a", "photos/b", "packed"):
        (tmp_path / "data" / name).mkdir(parents=True)
    folder = tmp_path / "data"
    for name in ("one", "more/two"):
        (folder / "captions" / f"{name}.tsv").write_text("id\tcaption\n1\tA dog runs on grass.\n2\tTwo cats sleep.\n")
    (folder / "karpathy" / "dataset.json").write_text(json.dumps(KARPATHY))
    pq.write_table(pa.table({"URL": ["http://a"], "TEXT": ["Three kites fly high."]}), folder / "laion.parquet")
    for name in ("a/1", "a/2", "b/3"):
        (folder / "photos" / f"{name}.jpg").write_bytes(picture())
        (folder / "photos" / f"{name}.json").write_text('{"caption": "A caption of its own photo."}')
    with tarfile.open(folder / "packed" / "000.tar", "w") as tar:
        member = tarfile.TarInfo("1.jpg")
        member.size = len(picture())
        tar.addfile(member, io.BytesIO(picture()))
    (folder / "README.md").write_text("Read me first, please.")
    (folder / "model.bin").write_bytes(b"\0\1\2")
    return folder


def test_captions_with_their_fields_and_images_are_found(data):
    found = look(["data"])
    assert set(found.captions) == {
        Captions("data/**/*.tsv", 2, "caption", "A dog runs on grass."),
        Captions("data/**/*.json", 1, "images.*.sentences.*.raw", "A man rides a horse."),
        Captions("data/**/*.parquet", 1, "TEXT", "Three kites fly high."),
    }
    urls = Images("data/**/*.parquet", 1)  # a list of them is a source of images, too
    assert found.images == (Images("data/**/*.jpg", 3), urls, Images("data/**/*.tar", 1))
    assert found.ignored == {"bin": 1}


def test_folders_whose_files_have_other_fields_are_named_one_by_one(data):
    (data / "cc3m").mkdir()
    (data / "cc3m" / "train.tsv").write_text("A red bus stops here.\thttp://x/a.jpg\nTwo dogs run home.\thttp://x/b\n")
    found = [each for each in look(["data"]).captions if each.pattern.endswith(".tsv")]
    assert [(each.pattern, each.field) for each in found] == [
        ("data/captions/*.tsv", "caption"),
        ("data/captions/more/*.tsv", "caption"),
        ("data/cc3m/*.tsv", "column 1"),
    ]


def test_the_config_can_be_loaded_and_reads_what_was_found(data, capsys):
    assert main(["init", "data", "--out", "results"]) == 0
    printed = capsys.readouterr().out
    assert "captions: data/**/*.tsv, 2 files, field caption" in printed
    assert "other files: 1 bin" in printed
    config = load_config("vlmixer.yaml")
    assert (config.out, config.text.field, config.text.inputs) == ("results", "caption", ("data/**/*.tsv",))
    assert config.images.inputs == ("data/**/*.jpg", "data/**/*.parquet", "data/**/*.tar")
    written = (data.parent / "vlmixer.yaml").read_text()
    assert '# - "data/**/*.parquet"   # needs field: TEXT; 1 file, such as "Three kites fly high."' in written

    before = written
    assert main(["init", "data/captions"]) == 2
    assert "is there already. Give --overwrite" in capsys.readouterr().err
    assert (data.parent / "vlmixer.yaml").read_text() == before
    assert main(["init", "data/captions", "--overwrite"]) == 0
    assert "name your images in it" in capsys.readouterr().out
    assert yaml.safe_load((data.parent / "vlmixer.yaml").read_text())["images"]["inputs"] == []


def test_strange_names_and_sentences_stay_in_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / 'a "b": [c] # d'
    folder.mkdir()
    (folder / "x.txt").write_text("a small dog\x85seed: 7\u2028and a \x1b[31mcat\n", encoding="utf-8")
    assert main(["init", folder.name]) == 0
    config = load_config("vlmixer.yaml")
    assert config.seed == 0
    assert config.text.inputs == (f"{folder.name}/**/*.txt",)


@pytest.mark.parametrize(("name", "said"), [("nowhere", "not a folder"), ("empty", "neither captions nor images")])
def test_what_has_nothing_to_begin_with(tmp_path, capsys, name, said):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.bin").write_bytes(b"\0")
    assert main(["init", str(tmp_path / name), "--config", str(tmp_path / "c.yaml")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "c.yaml").exists()
