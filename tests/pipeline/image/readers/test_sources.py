"""Corpora of every kind, made on the fly: which images they hold, what is known of them, and their bytes."""

import io
import json
import os
import tarfile
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.readers import sources
from vlmixer.pipeline.image.readers.sources import ImageRef, Unreadable, plan, read_images, refs_of, refs_table, survey

MANY = 1e9


def jpeg(number):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 255 - number, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def refs(*patterns, contents=True):
    """All references of a corpus, read from disk's form."""
    found = [
        ref for piece in plan([str(pattern) for pattern in patterns]).pieces for ref in survey(piece, contents=contents)
    ]
    assert refs_of(refs_table(found)) == found
    assert len({ref.image_id for ref in found}) == len(found)
    return sorted(found, key=lambda ref: ref.order)


def bytes_of(found, max_bytes=MANY):
    """By name, the bytes or the reason why there are none."""
    read = list(read_images(found, max_bytes))
    assert [ref for ref, _ in read] == list(found)
    return {ref.name: data.reason if isinstance(data, Unreadable) else data for ref, data in read}


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


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


def write_parquet(path, images, group=3, **columns):
    pq.write_table(pa.table({"image": images, **columns}), path, row_group_size=group)
    return path


def test_parquet_with_bytes(tmp_path):
    images = [jpeg(number) for number in range(10)]
    path = write_parquet(
        tmp_path / "p.parquet", images, URL=[f"http://u/{n}" for n in range(10)], license=list(range(10))
    )
    found = refs(path)
    assert [ref.key for ref in found] == [str(number) for number in range(10)]
    assert [(ref.url, ref.license) for ref in found[3:5]] == [("http://u/3", "3"), ("http://u/4", "4")]
    assert list(bytes_of(found).values()) == images
    assert list(bytes_of([found[4], found[8]]).values()) == [images[4], images[8]]


def test_parquet_as_hugging_face_datasets_write_it(tmp_path):
    column = [
        {"bytes": jpeg(1), "path": "1.jpg"},
        {"bytes": None, "path": "2.jpg"},
        None,
        {"bytes": jpeg(3), "path": None},
    ]
    path = write_parquet(tmp_path / "p.parquet", column, caption=["a", "b", "c", "d"])
    found = refs(path)
    assert list(bytes_of(found).values()) == [jpeg(1), "missing_field", "missing_field", jpeg(3)]


def test_a_big_parquet_file_is_cut_by_row_groups_and_within_big_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "ROWS_A_PIECE", 10)
    images = [jpeg(number) for number in range(47)]
    for group, cuts in ((4, [0, 8, 16, 24, 32, 40, 47]), (47, [0, 10, 20, 30, 40, 47]), (10, [0, 10, 20, 30, 40, 47])):
        path = write_parquet(tmp_path / f"{group}.parquet", images, group)
        pieces = plan([str(path)]).pieces
        assert [(piece.start, piece.stop) for piece in pieces] == list(pairwise(cuts))
        assert list(bytes_of(refs(path)).values()) == images
        (middle,) = [ref for ref in refs(path) if ref.position == 25]
        assert list(bytes_of([middle]).values()) == [images[25]]


def test_parquet_that_is_none_or_holds_no_images(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"hello")
    pq.write_table(pa.table({"url": ["http://u"]}), tmp_path / "b.parquet")
    write_parquet(tmp_path / "c.parquet", pa.array([], pa.binary()))
    found = bytes_of(refs(tmp_path / "*.parquet"))
    assert list(found.values()) == ["unreadable_file", "missing_field", "empty_file"]


def test_a_damaged_page_costs_its_rows_and_no_count(tmp_path):
    images = [os.urandom(3000) for _ in range(40)]
    path = write_parquet(tmp_path / "p.parquet", images, 10)
    data = bytearray(path.read_bytes())
    at = pq.read_metadata(path).row_group(2).column(0).data_page_offset
    data[at : at + 60] = b"\xff" * 60
    path.write_bytes(data)
    found = bytes_of(refs(path))
    assert len(found) == 40
    assert list(found.values())[:16] == images[:16]
    assert set(list(found.values())[20:]) == {"unreadable_file"}


def img2dataset_files(folder):
    (folder / "00000").mkdir(parents=True)
    for number in range(3):
        stem = folder / "00000" / f"{number:09d}"
        stem.with_suffix(".jpg").write_bytes(jpeg(number))
        stem.with_suffix(".txt").write_text(f"caption {number}")
        stem.with_suffix(".json").write_text(
            json.dumps({"url": f"http://u/{number}", "license": None, "key": stem.name})
        )
    pq.write_table(pa.table({"url": ["http://u/0"], "key": ["000000000"]}), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text("{}")


def test_the_files_of_img2dataset(tmp_path):
    img2dataset_files(tmp_path / "out")
    corpus = plan([str(tmp_path / "out")])
    found = refs(tmp_path / "out")
    assert [os.path.basename(ref.source) for ref in found] == [f"{number:09d}.jpg" for number in range(3)]
    assert [ref.url for ref in found] == [f"http://u/{number}" for number in range(3)]
    assert len(corpus.set_aside) == 3 + 3 + 2
    # The records beside the images are found from a glob of images, too.
    assert [ref.url for ref in refs(tmp_path / "out" / "*" / "*.jpg")] == [ref.url for ref in found]


def test_the_tars_and_the_parquet_of_img2dataset(tmp_path):
    records = [{"url": f"http://u/{number}", "license": "by"} for number in range(3)]
    (tmp_path / "tars").mkdir()
    write_tar(
        tmp_path / "tars" / "00000.tar",
        [
            (f"{number:09d}.{ending}", data)
            for number, record in enumerate(records)
            for ending, data in (("jpg", jpeg(number)), ("json", json.dumps(record).encode()), ("txt", b"caption"))
        ],
    )
    pq.write_table(pa.table({"url": ["http://u/0"]}), tmp_path / "tars" / "00000.parquet")
    (tmp_path / "tars" / "00000_stats.json").write_text("{}")
    found = refs(tmp_path / "tars")
    assert [(ref.key, ref.url, ref.license) for ref in found] == [
        (f"{number:09d}.jpg", f"http://u/{number}", "by") for number in range(3)
    ]
    (tmp_path / "parquet").mkdir()
    images = [jpeg(number) for number in range(3)]
    table = pa.table({"key": ["a", "b", "c"], "jpg": images, "url": [record["url"] for record in records]})
    pq.write_table(table, tmp_path / "parquet" / "00000.parquet")
    (tmp_path / "parquet" / "00000_stats.json").write_text("{}")
    found = refs(tmp_path / "parquet")
    assert [ref.url for ref in found] == [record["url"] for record in records]
    assert list(bytes_of(found).values()) == images


def test_lists_of_paths_and_urls(tmp_path):
    import fsspec

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(jpeg(1))
    with fsspec.open("memory://far/b.jpg", "wb") as file:
        file.write(jpeg(2))
    (tmp_path / "list.txt").write_text(
        "photos/a.jpg\n\nmemory://far/b.jpg\nphotos/missing.jpg\nmemory://far/missing.jpg\n"
    )
    found = refs(tmp_path / "list.txt")
    assert [ref.source for ref in found] == [
        str(tmp_path / "photos/a.jpg"), "memory://far/b.jpg", str(tmp_path / "photos/missing.jpg"), "memory://far/missing.jpg"
    ]  # fmt: skip
    assert [ref.url for ref in found] == ["", "memory://far/b.jpg", "", "memory://far/missing.jpg"]
    assert list(bytes_of(found).values()) == [jpeg(1), jpeg(2), "unreadable_file", "unreadable_file"]
    direct = refs(tmp_path / "photos" / "a.jpg")
    assert direct[0].image_id == found[0].image_id


def test_lists_of_records(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1))
    lines = [
        json.dumps({"file_name": "a.jpg", "coco_url": "http://u/a", "license": 4}),
        json.dumps({"url": "memory://far/x.jpg"}),
        json.dumps(str(tmp_path / "a.jpg")),
        json.dumps({"caption": "no path"}),
        "{broken",
        "7",
    ]
    (tmp_path / "list.jsonl").write_bytes("\n".join(lines).encode() + b"\n\xff\n")
    found = [ref for piece in plan([str(tmp_path / "list.jsonl")]).pieces for ref in survey(piece, contents=True)]
    assert [(ref.url, ref.license) for ref in found[:2]] == [("http://u/a", "4"), ("memory://far/x.jpg", "")]
    reasons = ["", "", "", "missing_field", "not_json", "missing_field", "not_utf8"]
    assert [ref.reason for ref in found] == reasons
    assert found[0].source == found[2].source
    assert found[0].digest == found[2].digest


def test_long_lists_are_cut_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "FILES_A_PIECE", 7)
    (tmp_path / "list.txt").write_text("".join(f"{number}.jpg\n" for number in range(50)))
    assert len(plan([str(tmp_path / "list.txt")]).pieces) == 8
    found = refs(tmp_path / "list.txt")
    assert [os.path.basename(ref.source) for ref in found] == [f"{number}.jpg" for number in range(50)]


def test_an_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("")
    assert list(bytes_of(refs(tmp_path / "list.txt")).values()) == ["empty_file"]


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
