"""What a file is by its first bytes, where its name does not say: a table, JSON lines, or nothing that can be read."""

import csv
import json
import re

HEAD_BYTES = 1 << 16
"""Number of bytes that are looked at."""

_LFS = b"version https://git-lfs.github.com/spec/"
_UTF_16_32 = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")
_PACKINGS = {
    b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "Zstandard", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip", b"7z\xbc\xaf\x27\x1c": "7-Zip", b"\x04\x22\x4d\x18": "LZ4", b"\x1f\x9d": "compress",
    b"Rar!": "RAR",
}  # fmt: skip
_MARKUP = re.compile(rb"\s*(?:<\?xml\b|<!doctype\b|<html\b)", re.IGNORECASE)
_ELEMENT = re.compile(rb"\s*<([A-Za-z][\w:.-]*)(?:\s[^<>]*)?>")
_SUBTITLES = re.compile(rb"\s*(?:WEBVTT\b|\d+\s*\n(?:\d+:)?\d\d?:\d\d[,.]\d+ *-->)")
_COLUMN = re.compile(r"[\w .#-]{1,40}")
_TABLE_LINES = 20


def unreadable(head: bytes) -> str | None:
    """Why text cannot be read from a file that begins so, and what to do; None if it can be.

    head: the first bytes of an unpacked file.
    """
    if head.startswith(_LFS):
        return "a Git LFS pointer and not the file itself; run `git lfs pull`"
    if head.startswith(_UTF_16_32) or _alternates_with_nul(head):
        return "UTF-16 or UTF-32 text; expected UTF-8: iconv -f UTF-16 -t UTF-8 FILE"
    for magic, packing in _PACKINGS.items():
        if head.startswith(magic):
            return f"packed with {packing}; unpack it, or pack it with gzip (.gz) or Zstandard (.zst) and that ending"
    if head.startswith(b"%PDF-"):
        return "a PDF; expected its text: pdftotext FILE"
    text = head.removeprefix(b"\xef\xbb\xbf")
    if _SUBTITLES.match(text):
        return "subtitles with times; expected sentences, one a line, without numbers and times"
    if _MARKUP.match(text) or _is_one_element(text):
        return "an HTML or XML document, perhaps in place of a download that failed; expected sentences"
    if b"\r" in head and b"\n" not in head and head.count(b"\r") > head.count(b"\r\n") + 1:
        return "lines end in CR alone; expected LF or CR LF: tr '\\r' '\\n' < FILE"
    return None


def _is_one_element(head: bytes) -> bool:
    """Whether this is XML without its first line <?xml …>: one element that holds others and goes on to the end.

    Lines such as "<s> a dog </s>" and "<b>Dogs</b> run" are sentences.
    """
    if not (outer := _ELEMENT.match(head)):
        return False
    inside, closing = head[outer.end() :], b"</%s>" % outer[1]
    if closing in inside:
        inside, after = inside.split(closing, 1)
        if after.strip():
            return False
    elif len(head) < HEAD_BYTES:
        return False
    return _ELEMENT.match(inside) is not None


def _alternates_with_nul(head: bytes) -> bool:
    """Whether every second byte is NUL, and no other: UTF-16 of Latin text, without its mark."""
    even, odd = head[:400:2], head[1:400:2]
    nul = [part.count(0) for part in (even, odd)]
    return len(odd) > 4 and min(nul) == 0 and max(nul) > 0.9 * len(odd)


def is_json_lines(head: bytes) -> bool:
    """Whether the first line that is not blank is a JSON object."""
    lines = [line for line in head.removeprefix(b"\xef\xbb\xbf").splitlines(keepends=True) if line.strip()]
    if not lines or not lines[0].lstrip().startswith(b"{"):
        return False
    if len(lines) == 1 and len(head) >= HEAD_BYTES:
        return lines[0].lstrip().startswith(b'{"')  # a line longer than the head
    try:
        return isinstance(json.loads(lines[0]), dict)
    except (ValueError, RecursionError):
        return False


def delimiter_of(head: bytes, field: str) -> str | None:
    """The delimiter of a table whose first line names its columns, one of them `field`; None if it is not one."""
    first = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace").strip("\r")
    for delimiter in ("\t", ",", ";", "|"):
        cells = [cell.strip() for cell in next(csv.reader([first], delimiter=delimiter), [])]
        if len(cells) > 1 and field in cells and all(map(_COLUMN.fullmatch, cells)):
            return delimiter
    return None


def is_table(head: bytes) -> bool:
    """Whether all lines, and more than one, have the same number of tabs, at least one."""
    lines = [line for line in head.split(b"\n")[: _TABLE_LINES + 1] if line.strip()][:_TABLE_LINES]
    tabs = {line.strip(b"\r").count(b"\t") for line in lines}
    return len(lines) > 1 and len(tabs) == 1 and tabs != {0}
