"""What lies between images in folders and tars: hidden files, labels, archives; and inputs without any image."""

import json

import pytest
from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_tar
from tests.pipeline.jobs.small_corpus import Corpus, run

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.readers.corpus import plan

SIDE_FILES = {
    "._a.jpg": b"\0\x05\x16\x07" + b"\0" * 30,
    ".DS_Store": b"\0\0\0\x01Bud1",
    "Thumbs.db": b"\xd0\xcf\x11\xe0",
    "__MACOSX/b.jpg": b"\0\x05\x16\x07" + b"\0" * 30,
    "a.xml": b"<annotation/>",
    "a.txt": b"16 0.5 0.5 0.1 0.1",
    "instances.json": b"{}",
    "more.zip": b"PK\x03\x04",
    "clip.mp4": b"\0\0\0\x20ftypisom",
    "README": b"photos of dogs",
}
IMAGES = ("a.jpg", "b.jfif", "c.JPG", "d.img", "e.jpg.data", "f")


def write_folder(folder):
    for name, data in {**SIDE_FILES, **{name: jpeg(number) for number, name in enumerate(IMAGES)}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_in_a_folder_only_images_count(tmp_path):
    write_folder(tmp_path / "in")
    for pattern in ("in", "in/**/*"):
        corpus = plan([str(tmp_path / pattern)])
        images = [file.name.removeprefix(f"{tmp_path}/in/") for piece in corpus.pieces for file in piece.files]
        assert sorted(images) == sorted(IMAGES)
    assert {name.removeprefix(f"{tmp_path}/in/") for name in plan([str(tmp_path / "in")]).set_aside} == set(SIDE_FILES)


def test_a_file_that_the_config_names_counts_whatever_it_is(tmp_path):
    write_folder(tmp_path / "in")
    found = bytes_of(refs(tmp_path / "in" / "a.xml", tmp_path / "in" / "*.mp4"))
    assert len(found) == 2


def test_in_a_tar_only_images_count(tmp_path):
    members = {**SIDE_FILES, **{name: jpeg(number) for number, name in enumerate(IMAGES)}}
    found = bytes_of(refs(write_tar(tmp_path / "0.tar", list(members.items()))))
    images = {name.partition(" ")[2]: data for name, data in found.items() if isinstance(data, bytes)}
    assert images == {name: jpeg(number) for number, name in enumerate(IMAGES)}
    assert {data for data in found.values() if not isinstance(data, bytes)} == {"no_image"}


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("empty.tar", lambda path: write_tar(path, [])),
        ("blank.txt", lambda path: path.write_text("\n\n \n")),
        ("blank.jsonl", lambda path: path.write_text("\n")),
    ],
)
def test_an_input_without_an_image_is_named(tmp_path, name, write):
    write(tmp_path / name)
    assert bytes_of(refs(tmp_path / name)) == {str(tmp_path / name): "empty_file"}


def test_a_folder_without_an_image_is_named(tmp_path):
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("no list")
    with pytest.raises(CallError, match=r"images\.inputs: no image among the 2 files that match \(.*00000_stats\.json"):
        plan([str(tmp_path)])


def test_labels_next_to_photos_are_counted_as_set_aside(corpus: Corpus):
    for photo in list(corpus.photos.iterdir()):
        photo.with_suffix(".xml").write_text("<annotation/>")
    out = corpus.folder / "out"
    assert run(corpus.write_config(), out, command="detect") == 0
    manifest = json.loads((out / "regions" / "manifest.json").read_text())
    assert manifest["details"]["not_images"] == manifest["counts"]["images"]["read"] == 150
