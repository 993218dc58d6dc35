"""Files, folders and globs, and what holds for images of every format."""

from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_parquet, write_tar

from vlmixer.pipeline.image.readers.base import ImageRef
from vlmixer.pipeline.image.readers.corpus import plan, sample


def test_files_folders_and_globs(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        (tmp_path / "in" / f"{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "in" / "notes.txt").write_text("not a list, because the config does not name it as one")
    found = refs(tmp_path / "in", tmp_path / "in" / "*.jpg")
    assert [ref.source for ref in found] == [str(tmp_path / "in" / name) for name in ("0.jpg", "1.jpg", "2.jpg")]
    assert {ref.key for ref in found} == {""}
    assert list(bytes_of(found).values()) == [jpeg(0), jpeg(1), jpeg(2)]


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


def test_a_sample_comes_from_all_over_and_counts_the_images(tmp_path):
    for number in range(20):
        (tmp_path / f"{number:02}.jpg").write_bytes(jpeg(number))
    write_parquet(tmp_path / "p.parquet", [jpeg(number) for number in range(30)])
    corpus = plan([str(tmp_path / "*")])
    found = sample(corpus, 12)
    assert (found.images, found.counted) == (50, True)
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert {ref.format for ref in found.refs} == {"files", "parquet"}
    assert len(found.refs) == 12
    assert sample(corpus, 12) == found


def test_images_in_tars_and_lists_are_estimated_from_their_bytes(tmp_path):
    write_tar(tmp_path / "0.tar", [(f"{number:03}.jpg", jpeg(number)) for number in range(200)])
    (tmp_path / "list.txt").write_text("".join(f"{number:03}.jpg\n" for number in range(100)))
    for inputs, images in (("0.tar", 200), ("list.txt", 100)):
        found = sample(plan([str(tmp_path / inputs)]), 40)
        assert not found.counted
        assert 0.9 * images < found.images < 1.1 * images
    assert found.bytes == 0, "a list has no images of its own"
