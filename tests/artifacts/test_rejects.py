import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.rejects import BAD, REASONS, UNUSED, RejectLog, bad_count


def test_an_unknown_reason_is_a_programming_error():
    with pytest.raises(ValueError, match="unknown reject reason 'tired'; known: not_utf8, "):
        RejectLog("tag").add("a.txt", 0, "tired")


def test_a_reason_is_either_a_fault_of_the_data_or_not():
    assert not BAD.keys() & UNUSED.keys()
    assert BAD.keys() | UNUSED.keys() == REASONS.keys()
    assert bad_count({"not_utf8": 2, "no_mention": 50, "truncated_image": 3}.items()) == 5


@pytest.mark.parametrize(
    ("reason", "bad"),
    [("nul_byte", True), ("not_utf8", True), ("missing_field", True), ("unreadable_file", True), ("empty_file", True),
     ("too_short", False), ("too_long", False), ("not_meant", False), ("no_mention", False), ("duplicate", False),
     ("empty_line", False)],
)  # fmt: skip
def test_which_reasons_of_text_are_faults(reason, bad):
    assert bad_count([(reason, 3)]) == 3 * bad


def test_the_log_is_published_row_by_row(tmp_path):
    log = RejectLog("tag")
    log.add("a.txt", 17, "not_utf8", "byte 3")
    log.add("a.txt", "", "empty_file")
    log.add("b.txt", 0, "not_utf8")
    assert log.counts() == {"empty_file": 1, "not_utf8": 2}
    path = str(tmp_path / "rejects" / "tag-part-00000.parquet")
    assert log.publish(path) == 3
    assert pq.read_schema(path) == schemas.REJECTS
    assert pq.read_table(path).to_pylist() == [
        {"stage": "tag", "source": "a.txt", "key": "17", "reason": "not_utf8", "detail": "byte 3"},
        {"stage": "tag", "source": "a.txt", "key": "", "reason": "empty_file", "detail": ""},
        {"stage": "tag", "source": "b.txt", "key": "0", "reason": "not_utf8", "detail": ""},
    ]


def test_no_rejects_no_file(tmp_path):
    assert RejectLog("tag").publish(str(tmp_path / "x.parquet")) == 0
    assert files.list_files(str(tmp_path)) == []


def test_details_are_cut_and_always_writable(tmp_path):
    log = RejectLog("detect")
    log.add("a.jpg", "", "failed_in_detector", "half a pair: \ud800 " + "x" * 1000)
    log.publish(str(tmp_path / "x.parquet"))
    (row,) = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert row["detail"].startswith("half a pair: ? xxx")
    assert len(row["detail"]) == 300
