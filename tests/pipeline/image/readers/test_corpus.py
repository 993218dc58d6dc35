"""Files, folders and globs, and what holds for images of every format."""

from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_parquet, write_tar

from vlmixer.pipeline.image.readers.base import ImageRef


def test_files_folders_and_globs(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "in" / "notes.txt").write_text("not a list, as nobody asked for it as one")
    found = refs(tmp_path / "in", tmp_path / "in" / "*.jpg")
    assert [ref.source for ref in found] == [
        str(tmp_path / "in" / name) for name in ("0.jpg", "1.jpg", "2.jpg", "notes.txt")
    ]
    assert {ref.key for ref in found} == {""}
    assert list(bytes_of(found).values())[:3] == [jpeg(0), jpeg(1), jpeg(2)]


def test_ids_of_whole_files_come_from_their_names_alone(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    (found,) = refs(tmp_path / "a.jpg")
    assert (
        found.image_id == ImageRef(str(tmp_path / "a.jpg")).image_id != ImageRef(str(tmp_path / "a.jpg"), "0").image_id
    )


def test_digests_are_of_contents_or_of_names(tmp_path):
    for name, data in (("a.jpg", jpeg(1)), ("b.jpg", jpeg(1)), ("c.jpg", b""), ("d.jpg", b"")):
        (tmp_path / name).write_bytes(data)
    a, b, c, d = refs(tmp_path / "*.jpg")
    assert a.digest == b.digest
    assert len({a.digest, c.digest, d.digest}) == 3
    assert len({ref.digest for ref in refs(tmp_path / "*.jpg", contents=False)}) == 4


def test_files_that_are_too_large_are_not_read(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x" * 1000)
    write_tar(tmp_path / "0.tar", [("a.jpg", b"x" * 1000), ("b.jpg", b"y")])
    write_parquet(tmp_path / "p.parquet", [b"x" * 1000, b"y"])
    found = bytes_of(refs(tmp_path / "*"), max_bytes=999)
    assert sorted(map(str, found.values())) == ["b'y'", "b'y'"] + ["too_large_file"] * 3


def test_folders_called_like_files(tmp_path):
    for name in ("a.jpg", "b.tar", "c.parquet", "d.txt"):
        (tmp_path / name).mkdir()
    found = refs(tmp_path / "*.jpg", tmp_path / "*.tar", tmp_path / "*.parquet", tmp_path / "*.txt")
    assert list(bytes_of(found).values()) == ["unreadable_file"] * 4
