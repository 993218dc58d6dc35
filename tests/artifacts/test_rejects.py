import pyarrow.parquet as pq
import pytest

from vlmixer.artifacts import files, schemas
from vlmixer.artifacts.rejects import (
    BAD,
    REASONS,
    UNUSED,
    VOLUMINOUS,
    CappedRejects,
    FirstRejects,
    Reject,
    RejectFile,
    RejectLog,
    bad_count,
    read_rejects,
)


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
        {"stage": "tag", "source": "a.txt", "key": "17", "reason": "not_utf8", "detail": "byte 3", "number": 1},
        {"stage": "tag", "source": "a.txt", "key": "", "reason": "empty_file", "detail": "", "number": 1},
        {"stage": "tag", "source": "b.txt", "key": "0", "reason": "not_utf8", "detail": "", "number": 1},
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


def test_a_file_lists_some_of_each_voluminous_reason_and_source_and_counts_the_others(tmp_path):
    path = str(tmp_path / "tag-find-00000.parquet")
    with RejectFile("tag", path, listed=2) as log:
        for place in range(5):
            log.add("a.txt", place, "no_mention")
            log.add("a.txt", place, "not_utf8", "bad")
            log.add("b.txt", place, "no_mention")
        log.add("b.txt", 9, "duplicate")
    assert log.counts() == {"duplicate": 1, "no_mention": 10, "not_utf8": 5}
    rows = list(read_rejects(path))
    assert [row for row in rows if row.reason == "no_mention"] == [
        Reject("a.txt", "0", "no_mention"), Reject("b.txt", "0", "no_mention"), Reject("a.txt", "1", "no_mention"),
        Reject("b.txt", "1", "no_mention"),
        Reject("a.txt", "", "no_mention", "not listed each (rejects: sample)", 3),
        Reject("b.txt", "", "no_mention", "not listed each (rejects: sample)", 3),
    ]  # fmt: skip
    assert [row.key for row in rows if row.reason == "not_utf8"] == ["0", "1", "2", "3", "4"]
    assert sum(row.number for row in rows) == log.total == 16
    assert log.rows == len(rows)


def test_a_file_lists_all_if_asked(tmp_path):
    path = str(tmp_path / "x.parquet")
    with RejectFile("tag", path, list_all=True, listed=2) as log:
        for reason in sorted(VOLUMINOUS):
            for place in range(5):
                log.add("a.txt", place, reason)
    listed = [(row.key, row.number) for row in read_rejects(path)]
    assert listed == [(str(place), 1) for place in range(5)] * len(VOLUMINOUS)


@pytest.mark.parametrize("list_all", [False, True])
@pytest.mark.parametrize("reason", ["empty_line", "not_utf8"])
def test_many_are_recorded_as_one_by_one(tmp_path, list_all, reason):
    rows = []
    for together in (False, True):
        path = str(tmp_path / f"{together}.parquet")
        with RejectFile("tag", path, list_all=list_all, listed=3) as log:
            for keys in (range(2), range(2, 20, 2), range(20, 22)):
                if together:
                    log.add_each("a.txt", keys, reason)
                else:
                    for key in keys:
                        log.add("a.txt", key, reason)
        assert log.counts() == {reason: 13}
        rows.append(list(read_rejects(path)))
    assert rows[0] == rows[1]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
def test_a_file_is_written_in_batches(tmp_path, count):
    path = str(tmp_path / "x.parquet")
    with RejectFile("tag", path, batch=3) as log:
        for place in range(count):
            log.add("a.txt", place, "not_utf8")
            assert len(log.rejects) < 3
    assert log.rows == count
    assert files.list_files(str(tmp_path)) == (["x.parquet"] if count else [])
    if count:
        assert [row.key for row in read_rejects(path)] == [str(place) for place in range(count)]
        assert pq.ParquetFile(path).num_row_groups == -(-count // 3)


def test_no_file_is_left_if_the_work_fails(tmp_path):
    def fail():
        with RejectFile("tag", str(tmp_path / "x.parquet"), batch=1) as log:
            log.add("a.txt", 0, "not_utf8")
            raise KeyError("work")

    with pytest.raises(KeyError, match="work"):
        fail()
    assert files.list_files(str(tmp_path)) == []


def test_the_first_of_each_reason_alone():
    log = FirstRejects("tag")
    for place in range(5):
        log.add("a.txt", place, "not_utf8")
        log.add("a.txt", place, "empty_line")
    assert log.counts() == {"empty_line": 5, "not_utf8": 5}
    assert log.rejects == [Reject("a.txt", "0", "not_utf8"), Reject("a.txt", "0", "empty_line")]


def test_of_many_rejects_the_first_are_listed_and_the_others_counted(tmp_path):
    log = CappedRejects("finetune", most=2)
    for key in ("a", "b", "c", "\ud800", "e"):
        log.add("x.json", key, "duplicate_id")
    log.add("x.json", "\ud800", "no_answer")
    assert log.total == 6
    assert len(log.rejects) == 3
    path = str(tmp_path / "rejects.parquet")
    log.publish(path)
    rows = [(row.key, row.reason, row.number) for row in read_rejects(path)]
    assert rows == [("a", "duplicate_id", 1), ("b", "duplicate_id", 1), ("?", "no_answer", 1), ("", "duplicate_id", 3)]
