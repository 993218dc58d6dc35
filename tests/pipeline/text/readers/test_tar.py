"""Tars of WebDataset samples."""

import gzip
import io
import tarfile

import pytest
from tests.pipeline.text.readers.helpers import tar, zst


def test_webdataset_samples(read):
    members = [
        ("a", None),
        ("a/000.jpg", b"\xff\xd8"), ("a/000.json", b'{"caption": "from json"}'), ("a/000.txt", b"from txt\n"),
        ("a/001.txt", b"one"), ("a/001.json", b'{"caption": "no"}'),
        ("b.v2/001.json", b'{"caption": ["two", "three"]}'), ("b.v2/001.cls", b"7"),
        ("b.v2/002.jpg", b"\xff\xd8"), ("b.v2/003.meta.json", b'{"caption": "no"}'),
        ("b.v2/004.json", b"{"), ("b.v2/005.txt", b""), ("b.v2/006.txt", b"\xff"), ("b.v2/007.json", b'{"n": 1}'),
        ("b.v2/008.json", b'{"caption": "last"}'),
    ]  # fmt: skip
    result = read("a.tar", tar(members))
    assert result.texts == ["from txt", "one", "two", "three", "last"]
    assert [reason for _, reason in result.rejects] == ["missing_field"] * 2 + [
        "not_json",
        "empty_line",
        "not_utf8",
        "missing_field",
    ]


def test_a_members_key_is_where_its_bytes_begin(read):
    content = tar([("a.txt", b"one"), ("b.json", b'{"caption": ["two"]}')])
    keys = [key for key, _ in read("a.tar", content).sentences]
    assert keys == [str(content.index(b"one")), f"{content.index(b'{')}-0"]


def test_samples_of_the_same_name_in_other_folders_are_others(read):
    members = [("a/0.json", b'{"caption": "one"}'), ("b/0.txt", b"two"), ("c/0.json", b'{"caption": "three"}')]
    assert read("a.tar", tar(members)).texts == ["one", "two", "three"]


def test_a_tar_without_text(read):
    result = read("a.tar", tar([("0.jpg", b"\xff\xd8"), ("0.cls", b"7")]))
    assert result.rejects == [("", "missing_field")]
    assert result.details == ["no .txt or .json member"]


def test_a_tar_whose_first_samples_have_no_text_is_one_reject(read, monkeypatch):
    monkeypatch.setattr("vlmixer.pipeline.text.readers.tar.MAX_WITHOUT_TEXT", 3)
    pictures = [(f"{number}{'a' * 300}.jpg", b"\xff\xd8") for number in range(4)]
    result = read("a.tar", tar([*pictures[:3], ("9.txt", b"one")]))
    assert (result.texts, result.reasons) == (["one"], ["missing_field"] * 3)
    assert result.details[0] == f"sample 0{'a' * 199}: no .txt or .json member"
    result = read("a.tar", tar([*pictures, ("9.txt", b"one")]))
    assert (result.texts, result.rejects) == ([], [("", "missing_field")])
    assert result.details == ["no .txt or .json member in its first 3 samples"]


def test_a_member_over_the_limit(read):
    members = [
        ("0.txt", b"one"),
        ("1.txt", b"x" * 41),
        ("2.json", b'{"caption": "' + b"x" * 41 + b'"}'),
        ("3.txt", b"two"),
    ]
    result = read("a.tar", tar(members), max_line_bytes=40)
    assert result.texts == ["one", "two"]
    assert result.reasons == ["too_long", "too_long"]


@pytest.mark.parametrize("pack", ["tar", "tar.gz", "tgz", "tar.zst"])
def test_a_tar_cut_anywhere_gives_its_whole_members_and_a_reject(read, pack):
    content = tar([("0.txt", b"one"), ("1.txt", b"two"), ("2.txt", b"three")])
    packed = {"tar": lambda data: data, "tar.zst": zst}.get(pack, gzip.compress)
    for length, texts in (
        (100, []), (512, []), (514, []), (1024, ["one"]), (1100, ["one"]), (1536, ["one"]), (2048, ["one", "two"]),
        (2561, ["one", "two"]), (3072, ["one", "two", "three"]), (3500, ["one", "two", "three"]),
    ):  # fmt: skip
        result = read(f"a.{pack}", packed(content[:length]))
        assert result.texts == texts, length
        assert result.rejects == [("", "unreadable_file")]
    assert read(f"a.{pack}", packed(content)).rejects == []
    # Without the padding behind the end.
    assert read(f"a.{pack}", packed(content[: 3072 + 1024])).rejects == []


def test_a_tar_with_a_broken_header_in_the_middle_is_not_taken_for_its_end(read):
    content = bytearray(tar([("0.txt", b"one"), ("1.txt", b"two"), ("2.txt", b"three")]))
    content[1024 + 3] ^= 1
    result = read("a.tar", bytes(content))
    assert (result.texts, result.rejects) == (["one"], [("", "unreadable_file")])


def test_long_names_in_a_tar(read):
    members = [(f"{'deep/' * 60}0.txt", b"one"), (f"{'x' * 200}.json", b'{"caption": "two"}')]
    assert read("a.tar", tar(members)).texts == ["one", "two"]


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member, without its content."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


TEXT = tar([("0.txt", b"one")])[:1024]
"""A member, without the end of an archive."""


def test_a_member_that_says_a_terabyte_is_passed_by_seeking(read):
    result = read("a.tar", TEXT + header("b.bin", 1 << 40) + bytes(5000))
    assert result.texts == ["one"]
    assert result.reasons == ["unreadable_file"]


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("pack", ["tar", "tar.gz"])
def test_names_and_fields_of_a_member_are_limited(read, kind, pack):
    size = (1 << 20) + 1
    result = read(
        f"a.{pack}", (gzip.compress if pack == "tar.gz" else bytes)(TEXT + header("x", size, kind) + bytes(1 << 21))
    )
    assert result.texts == ["one"]
    assert result.reasons == ["unreadable_file"]
    assert "a member with 1,048,577 bytes of names and fields" in result.details[0]


def test_thousands_of_headers_in_a_row(read):
    field = header("x", 12, tarfile.XHDTYPE) + b"12 path=abc\n" + bytes(500)
    result = read("a.tar", TEXT + 3000 * field + bytes(1024))
    assert (result.texts, result.reasons) == (["one"], ["unreadable_file"])


def test_zeros_without_end_after_the_archive(read):
    result = read("a.tar", TEXT + bytes(1024 + (1 << 26) + (1 << 16)))
    assert (result.texts, result.reasons) == (["one"], ["unreadable_file"])


@pytest.mark.parametrize(
    "fields",
    [{"size": "9" * 3000}, {"size": "9" * 19}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
     {"GNU.sparse.major": "x", "GNU.sparse.minor": "y"}, {"GNU.sparse.map": "1,2,x"}, {"GNU.sparse.size": "x"}],
)  # fmt: skip
def test_extra_fields_that_are_no_numbers_end_the_archive(read, fields):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, more in (("a.txt", {}), ("b.txt", fields)):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 6, more
            archive.addfile(member, io.BytesIO(b"a dog\n"))
    result = read("a.tar", content.getvalue())
    assert result.texts[0] == "a dog"
    assert set(result.reasons) <= {"unreadable_file"}
