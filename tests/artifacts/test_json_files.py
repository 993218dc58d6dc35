"""Our own JSON: what a file holds instead is one line."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from vlmixer.artifacts import json_files
from vlmixer.artifacts.errors import UserError

ADVICE = "Do it again."


@dataclass(frozen=True)
class Entry:
    """A record as the tests expect it."""

    name: str
    rows: tuple[int, ...] = ()


def test_a_record_of_the_expected_type(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "é", "rows": [1, 2]}')
    assert json_files.read(str(path), Entry, advice=ADVICE) == Entry("é", (1, 2))
    assert json_files.read(str(path), advice=ADVICE) == {"name": "é", "rows": [1, 2]}


def test_texts_with_escapes_beside_other_letters() -> None:
    """Pydantic 2.7.0 took the bytes of these letters one by one."""
    for name in ('é "犬"\n\\🐕', '"é"', "\té"):
        for ascii_only in (False, True):
            assert json_files.parse(json.dumps({name: [name]}, ensure_ascii=ascii_only).encode()) == {name: [name]}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "EOF"),
        (b"[" * 100_000, "recursion limit"),
        (b'{"name": "\\ud800"}', "surrogate|hex escape"),
        (b'{"name": "a", "rows": [1e999]}', "too large"),
        (b'{"name": "a", "rows": [NaN]}', "expected"),
        (b'{"name": "a", "rows": [' + b"9" * 10_000 + b"]}", "out of range"),
        (b'{"name": 3}', "name: "),
        (b'{"name": "a", "rows": null}', "rows: "),
        (b'{"rows": []}', "name: Field required|name: .*missing"),
        (b"[]", "it: "),
        (b"null", "it: "),
        (b"\xff\xfe", "expected value|invalid"),
    ],
)
def test_anything_else_is_one_line_with_the_file_and_the_advice(tmp_path: Path, content: bytes, what: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"a\.json: damaged \(.*({what}).*\)\. Do it again\.$") as raised:
        json_files.read(str(path), Entry, advice=ADVICE)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"name": "' + "a" * 100 + '"}')
    assert json_files.read_limited(str(path), 112, advice=ADVICE) == path.read_bytes()
    with pytest.raises(UserError, match=r"more than 111 bytes.*Do it again"):
        json_files.read_limited(str(path), 111, advice=ADVICE)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_folder_or_a_pipe_in_its_place_is_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.json")
    with pytest.raises(UserError, match=r"a\.json: cannot be read .*Do it again"):
        json_files.read(str(tmp_path / "a.json"), advice=ADVICE)


def test_a_missing_file_is_for_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        json_files.read(str(tmp_path / "a.json"), advice=ADVICE)
