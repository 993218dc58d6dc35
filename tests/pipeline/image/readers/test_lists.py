"""Lists of paths, URLs and records."""

import json
import os

from tests.pipeline.image.readers.made import bytes_of, jpeg, refs

from vlmixer.pipeline.image.readers.corpus import plan, survey
from vlmixer.pipeline.image.readers.lists import ListReader
from vlmixer.pipeline.text.readers.base import MAX_LINE_BYTES


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


def test_long_lists_are_cut_and_nothing_is_lost(tmp_path):
    readers = (ListReader(paths_per_piece=7),)
    (tmp_path / "list.txt").write_text("".join(f"{number}.jpg\n" for number in range(50)))
    assert len(plan([str(tmp_path / "list.txt")], readers).pieces) == 8
    found = refs(tmp_path / "list.txt", readers=readers)
    assert [os.path.basename(ref.source) for ref in found] == [f"{number}.jpg" for number in range(50)]


def test_many_blank_lines_are_no_work(tmp_path):
    blank = b"\n \n\t\r\n" * 10_000
    (tmp_path / "list.txt").write_bytes(b"0.jpg\n" + blank + b"1.jpg\n2.jpg\n" + blank)
    readers = (ListReader(paths_per_piece=2),)
    assert len(plan([str(tmp_path / "list.txt")], readers).pieces) == 2
    found = refs(tmp_path / "list.txt", readers=readers)
    assert [os.path.basename(ref.source) for ref in found] == ["0.jpg", "1.jpg", "2.jpg"]
    assert found[2].order[1] == found[1].order[1] + 6 == 6 + len(blank) + 6


def test_urls_are_few_in_a_piece_after_many_paths(tmp_path):
    (tmp_path / "list.txt").write_text("".join(f"{number}.jpg\n" for number in range(6)) + "memory://a\n" * 7)
    readers = (ListReader(paths_per_piece=7, urls_per_piece=3),)
    assert len(plan([str(tmp_path / "list.txt")], readers).pieces) == 4


def test_a_line_longer_than_any_name_is_rejected(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"x" * (MAX_LINE_BYTES + 1) + b"\nb.jpg\n")
    assert [(ref.key, ref.reason) for ref in refs(tmp_path / "list.txt")] == [("byte 0", "too_long"), ("", "")]


def test_an_empty_list(tmp_path):
    (tmp_path / "list.txt").write_text("")
    assert list(bytes_of(refs(tmp_path / "list.txt")).values()) == ["empty_file"]
