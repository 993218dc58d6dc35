"""Images in WebDataset tars, whole and damaged."""

import pytest
from tests.pipeline.image.readers.made import bytes_of, jpeg, refs, write_tar

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.readers.corpus import plan


def test_a_webdataset_tar(tmp_path):
    path = write_tar(
        tmp_path / "0.tar",
        [
            ("a/x.jpg", jpeg(1)), ("a/x.txt", b"words"), ("a/x.json", b'{"url": "http://u/1", "license": "CC0"}'),
            ("b/x.json", b"{no json"), ("b/x.jpg", jpeg(2)), ("b/x.seg.png", b"a mask"),
            ("only.txt", b"no image"), ("photo.1.JPG", jpeg(3)), ("photo.2.JPG", jpeg(4)),
            ("empty.png", b""), ("a/x.jpg", jpeg(5)),
        ],
    )  # fmt: skip
    found = refs(path)
    names = [ref.key.partition("@")[0] for ref in found]
    assert names == ["a/x.jpg", "b/x.jpg", "only.txt", "photo.1.JPG", "photo.2.JPG", "empty.png", "a/x.jpg"]
    assert [(ref.url, ref.license) for ref in found[:2]] == [("http://u/1", "CC0"), ("", "")]
    assert {ref.source for ref in found} == {str(path)}
    read = list(bytes_of(found).values())
    assert read == [jpeg(1), jpeg(2), "no_image", jpeg(3), jpeg(4), b"", jpeg(5)]
    assert list(bytes_of(found[4:1:-1]).values()) == [jpeg(4), jpeg(3), "no_image"]
    assert "@" in found[-1].key


def test_long_names_and_bytes_that_are_no_utf8_in_tars(tmp_path):
    name = "d/" * 100 + "y" * 80 + ".jpg"
    path = write_tar(tmp_path / "0.tar", [(name, jpeg(1)), ("caf\udce9.jpg", jpeg(2))])
    found = refs(path)
    assert [ref.key for ref in found] == [name, "caf\\udce9.jpg"]
    assert list(bytes_of(found).values()) == [jpeg(1), jpeg(2)]


@pytest.mark.parametrize("cut", [700, 1100, 1536, 2100])
def test_a_tar_that_breaks_off_says_so_and_keeps_what_is_whole(tmp_path, cut):
    path = write_tar(tmp_path / "0.tar", [("a.jpg", jpeg(1)), ("b.jpg", jpeg(2))])
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    found = bytes_of(refs(path))
    assert found[str(path)] == "unreadable_file"
    start = 512
    whole_members = sum(offset + len(jpeg(1)) <= cut for offset in (start, start + 512 + -(-len(jpeg(1)) // 512) * 512))
    assert sum(isinstance(data, bytes) for data in found.values()) == whole_members


def test_a_damaged_header_within_a_tar_is_not_taken_for_its_end(tmp_path):
    path = write_tar(tmp_path / "0.tar", [(f"{number}.jpg", jpeg(number)) for number in range(4)])
    data = bytearray(path.read_bytes())
    second = data.index(b"1.jpg")
    data[second : second + 200] = b"x" * 200
    path.write_bytes(data)
    found = bytes_of(refs(path))
    assert found == {f"{path} 0.jpg": jpeg(0), str(path): "unreadable_file"}


def test_what_is_no_tar(tmp_path):
    (tmp_path / "0.tar").write_bytes(b"hello" * 1000)
    (tmp_path / "1.tar").write_bytes(b"")
    assert set(bytes_of(refs(tmp_path / "*.tar")).values()) == {"unreadable_file"}
    (tmp_path / "2.tar.gz").write_bytes(b"")
    with pytest.raises(CallError, match=r"2\.tar\.gz is a packed tar"):
        plan([str(tmp_path / "*.gz")])
