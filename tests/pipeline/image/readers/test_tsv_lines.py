"""Lines of TSV files by id: found on the disk, not held."""

import tracemalloc

import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.readers import tsv_lines
from vlmixer.pipeline.image.readers.base import InputFile
from vlmixer.pipeline.image.readers.features import FeatureReader
from vlmixer.pipeline.image.readers.tsv_lines import LinesById


def test_lines_in_order_and_the_longest_of_each_id(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(b"b\t1\na\t22\n\nb\t333\nb\t444\n\xff \t\n")
    with LinesById(str(path)) as lines:
        assert list(lines) == [
            ("b", (0, 4), 6), ("a", (4, 5), 5), ("b", (10, 6), 6), ("b", (16, 6), 6), ("\\xff", (22, 4), 4)
        ]  # fmt: skip
        assert len(lines) == 5
        assert [lines.longest(name) for name in ("b", "\\xff", "c")] == [(10, 6), (22, 4), None]
        assert lines.ends == -1


@pytest.mark.parametrize("lines", [["a\t{}"], ["{}", "a\t{}"]])
def test_lines_are_not_held(tmp_path, lines):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{line.format(number)}\n" for number in range(10_000) for line in lines))
    tracemalloc.start()
    try:
        with LinesById(str(path)) as found:
            assert sum(1 for _ in found) == 10_000 * len(lines)
        assert tracemalloc.get_traced_memory()[1] < 2 * tsv_lines.PART_BYTES
    finally:
        tracemalloc.stop()


def test_no_space_for_the_table_is_one_message(tmp_path, monkeypatch):
    monkeypatch.setattr(tsv_lines, "SETUP", f"{tsv_lines.SETUP} pragma max_page_count = 3;")
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{number}\t[]\n" for number in range(1000)))
    with pytest.raises(UserError, match=r"a.tsv: no place for a table of its lines \(.*\). Set TMPDIR to a folder"):
        LinesById(str(path))


def test_the_rest_of_a_file_that_is_no_table_is_one_unreadable_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tsv_lines, "MAX_WITHOUT_TAB", 3)
    path = tmp_path / "a.tsv"
    table = b"".join(b"%d\t[]\nhalf\n" % number for number in range(100))
    path.write_bytes(table + b"x\n" * 2000)
    (piece,) = FeatureReader().plan([InputFile(0, str(path), path.stat().st_size)])
    *refs, rest = FeatureReader().survey(piece, contents=True)
    assert [ref.reason for ref in refs] == [""] * 202
    assert (rest.key, rest.reason) == (f"byte {len(table) + 4}", "unreadable_file")
    assert rest.detail == "many lines without a tab; what follows is not read"
