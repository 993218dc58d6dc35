"""Files as people have them: a layout that its name does not say is read, or refused with what to do."""

import gzip
import io
import json
import tarfile

import pytest
import zstandard
from tests.pipeline.text.readers.helpers import in_units, parquet, tar, together, write, zst

from vlmixer.pipeline.text.readers.formats import is_side_file
from vlmixer.pipeline.text.sentences import SentenceSplitter

OBJECTS = b'{"caption": "one", "n": 1}\n{"caption": "two"}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c4.json", OBJECTS), ("c4.json.gz", gzip.compress(OBJECTS, mtime=0)), ("a.json.zst", zst(OBJECTS)),
        ("wiki_00", OBJECTS), ("a.txt", b"\xef\xbb\xbf" + OBJECTS), ("a.txt.gz", gzip.compress(OBJECTS, mtime=0)),
        ("a.csv", b"image,caption\na.jpg,one\nb.jpg,two\n"), ("a.csv", b'caption,url\r\n"one",x\r\ntwo,y\r\n'),
        ("a.tsv", b"caption\turl\none\thttp://x.test\ntwo\thttp://y.test\n"),
        ("a.tsv.gz", gzip.compress(b"url\tcaption\nx\tone\ny\ttwo\n", mtime=0)),
        ("captions.txt", b"image,caption\n1.jpg,one\n2.jpg,two\n"),
        ("a.TSV", b"\xef\xbb\xbfcaption\tn\none\t1\ntwo\t2"),
        ("a.tar", tar([("0.TXT", b"one"), ("1.JSON", b'{"caption": "two"}')])),
        ("a.tar", tar([("img.0001.txt", b"one"), ("img.0002.Txt", b"two"), ("._img.0003.txt", b"no")])),
        ("a.tar", tar([("__MACOSX/0.txt", b"no"), ("0.txt", b"one"), ("1.txt", b"two")])),
        ("a.tar", tar([(".DS_Store", b"x"), ("a/0.txt", b"one"), ("a/Thumbs.db", b"x"), ("a/1.txt", b"two")])),
    ],
)  # fmt: skip
def test_layouts_that_are_read(read, name, content):
    result = read(name, content)
    assert (result.texts, result.rejects) == (["one", "two"], [])


@pytest.mark.parametrize(
    "lines",
    [
        ["<s> one </s>", "<s> two </s>"],
        ["<b>one</b> dog", "two <i>cats</i>"],
        ["<person> rides a <vehicle>", "<person> sits"],
        ["<unk>", "two"],
        ["1", "2 dogs --> two"],
    ],
)
def test_sentences_with_marks_in_them_are_sentences(read, lines):
    assert read("a.txt", "".join(f"{line}\n" for line in lines).encode()).texts == lines


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "one\ntwo\n".encode("utf-16"), "UTF-16"),
        ("a.jsonl", '{"caption": "one"}'.encode("utf-16"), "UTF-16"),
        ("a.txt", "one\ntwo\n".encode("utf-16-le"), "UTF-16"), ("a.txt", "one\ntwo\n".encode("utf-16-be"), "UTF-16"),
        ("a.txt", b"<!DOCTYPE html>\n<html><body>404 Not Found</body></html>", "HTML or XML"),
        ("a.jsonl", b"<html><body>Access denied</body></html>", "HTML or XML"),
        ("a.xml", b"\xef\xbb\xbf<?xml version='1.0'?>\n<caption>a dog</caption>\n", "HTML or XML"),
        ("a.txt", b"<annotation>\n  <folder>VOC</folder>\n</annotation>\n", "HTML or XML"),
        ("a.xml", b'<set lang="en"><c>a dog</c></set>', "HTML or XML"),
        ("a.xml", b"<set>\n" + b"<c>a dog</c>\n" * 9000 + b"</set>\n", "HTML or XML"),
        ("a.srt", b"1\n00:00:01,000 --> 00:00:04,000\nA dog runs.\n", "subtitles"),
        ("a.txt", b"\xef\xbb\xbf1\r\n00:00:01,000 --> 00:00:04,000\r\nA dog runs.\r\n", "subtitles"),
        ("a.vtt", b"WEBVTT\n\n00:01.000 --> 00:04.000\nA dog runs.\n", "subtitles"),
        ("a.txt", b"%PDF-1.7\n%\xe2\xe3", "a PDF"),
        ("a.txt", b"one\rtwo\rthree\r", "CR alone"),
        ("a.txt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git lfs pull"),
        ("a.txt", gzip.compress(b"one", mtime=0), "packed with gzip"),
        ("a.txt.xz", b"\xfd7zXZ\x00...", "packed with xz"),
        ("a.jsonl.bz2", b"BZh91AY...", "packed with bzip2"), ("a.zip", b"PK\x03\x04...", "packed with zip"),
        ("cc3m.tsv", b"a dog\thttp://x.test\na cat\thttp://y.test\n", "write text.field: column 1"),
        ("results.token", b"1.jpg#0\ta dog\n2.jpg#0\ta cat\n", "no header, write text.field: column 2"),
        ("a.csv", b"caption,caption\none,two\n", "2 columns 'caption'"),
        ("karpathy.json", json.dumps({"images": [{"sentences": [{"raw": "x"}]}], "dataset": "coco"}).encode(),
         "the keys 'images', 'dataset'"),
        ("names.json", b'{"1.jpg": "a dog", "2.jpg": "a cat"}', 'write text.field: "*"'),
        ("a.tar", tar([]), "no members"),
    ],
)  # fmt: skip
def test_layouts_that_are_refused(read, name, content, said):
    result = read(name, content)
    assert result.texts == []
    assert len(result.rejects) == 1
    assert said in result.details[0]


def test_two_columns_of_one_name(read):
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays([pa.array(["one"]), pa.array(["two"])], ["caption", "caption"]), buffer)
    result = read("a.parquet", buffer.getvalue())
    assert (result.rejects, result.details) == ([("", "missing_field")], ["2 columns 'caption'; expected one"])
    assert read("b.parquet", parquet({"caption": ["one"], "text": ["two"]})).texts == ["one"]


def test_one_object_per_file(read):
    assert read("1.json", b'{"caption": "one", "width": 5}').texts == ["one"]
    assert read("1.json", json.dumps({"caption": ["one", "two"], "url": "x"}, indent=2).encode()).texts == [
        "one",
        "two",
    ]


def test_a_window_as_long_as_zstd_writes(read):
    parameters = zstandard.ZstdCompressionParameters(window_log=30, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    assert read("a.txt.zst", packer.compress(b"one\ntwo\n") + packer.flush()).texts == ["one", "two"]


def test_rows_that_are_not_like_the_header(read):
    result = read("a.csv", b'n,caption\n1,one\n2\n\n \t\n3,"two, ""quoted"" and\nlong"\n4,caf\xe9\n')
    assert result.texts == ["one", 'two, "quoted" and\nlong']
    assert result.rejects == [("1", "missing_field"), ("5", "not_utf8")]


def test_a_layout_is_the_same_in_every_slice_of_a_file(tmp_path):
    for content, texts, rejects in (
        (b'{"caption": "one"}\n{"caption": "two"}\n', ["one", "two"], []),
        (b"image,caption\n1.jpg,one\n2.jpg,two\n", ["one", "two"], []),
        ("one\ntwo\n".encode("utf-16"), [], [("", "unreadable_file")]),
        (b"1.jpg#0\ta dog\n2.jpg#0\ta cat\n", [], [("", "missing_field")]),
    ):
        parts = in_units(write(tmp_path / "a.txt", content), 7)
        assert len(parts) > 2
        assert (together(parts, "texts"), together(parts, "rejects")) == (texts, rejects)


def test_text_that_only_looks_like_a_table_or_like_json(read):
    assert read("a.txt", b"a dog, a cat\ntwo, three\n").texts == ["a dog, a cat", "two, three"]
    assert read("a.txt", b"a caption, short\na\tb\n").texts == ["a caption, short", "a\tb"]
    assert read("a.txt", b"{curly} words\n[1] and [2]\n").texts == ["{curly} words", "[1] and [2]"]
    assert read("a.txt", b"only\tone line\n").texts == ["only\tone line"]


def test_every_sample_of_a_tar_without_text_is_a_reject(read):
    members = [("0.jpg", b"x"), ("0.cls", b"1"), ("1.jpg", b"x"), ("1.txt", b"one"), ("cap.en.txt", b"two")]
    result = read("a.tar", tar(members))
    assert result.texts == ["one"]
    assert result.reasons == ["missing_field", "missing_field"]
    assert [detail.partition(":")[0] for detail in result.details] == ["sample 0", "sample cap"]


def test_links_in_a_tar_are_rejects(read):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, kind in (("0.txt", tarfile.REGTYPE), ("1.txt", tarfile.LNKTYPE), ("2.json", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "" if kind == tarfile.REGTYPE else "0.txt"
            member.size = 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"one"))
    result = read("a.tar", buffer.getvalue())
    assert result.texts == ["one"]
    assert result.details == [
        f"{name} is a link to 0.txt; links in tars are not followed" for name in ("1.txt", "2.json")
    ]


def test_a_second_tar_behind_the_first_is_said(read):
    result = read("a.tar", tar([("0.txt", b"one")]) + tar([("1.txt", b"two")]))
    assert (result.texts, result.rejects) == (["one"], [("", "unreadable_file")])
    assert "more data follows the end" in result.details[0]


def test_lists_of_running_texts(read):
    splitter = SentenceSplitter()
    assert read("a.json", b'[{"caption": ["One. Two.", "Three."]}]', splitter=splitter).texts == [
        "One.",
        "Two.",
        "Three.",
    ]


@pytest.mark.parametrize(
    ("name", "aside"),
    [
        ("snap/README.md", True), ("snap/.gitattributes", True), ("00000_stats.json", True), ("a/LICENSE", True),
        ("x/__MACOSX/a.txt", True), ("Thumbs.db", True), ("a.txt", False), ("data/readme_captions.txt", False),
        ("dir.md/a.jsonl", False), ("captions_val2017.json", False),
    ],
)  # fmt: skip
def test_files_that_folders_have_beside_the_data(name, aside):
    assert is_side_file(name) is aside


@pytest.mark.parametrize("field", ["caption", "column 1"])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_only_ends_of_lines_end_the_rows_of_a_table(read, field, ending):
    lines = [b"caption\turl", b"one \xe2\x80\xa8 dog\tx", b"two\x0b\x85\ty", "three \x85".encode() + b"\tz"]
    result = read("a.tsv", ending.join(lines), field=field)
    assert [text.split()[0] for text in result.texts][-2:] == ["one", "three"]
    assert result.reasons == ["not_utf8"]


@pytest.mark.parametrize("field", ["caption", "column 1"])
def test_a_line_of_a_table_that_never_ends_is_not_read(read, field):
    result = read("a.tsv", b"caption\turl\na dog\tx\n" + b"a\t" * 3000, field=field, max_line_bytes=1000)
    assert result.texts[-1] == "a dog"
    assert result.reasons == ["unreadable_file"]
    assert result.details == ["Error: a line of more than 1,000 characters"]
