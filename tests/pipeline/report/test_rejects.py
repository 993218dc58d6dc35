"""What is counted and listed of OUT/rejects/."""

import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectFile, RejectLog
from vlmixer.pipeline.report.rejects import ReasonCount, Rejected, read_rejects


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out" / "rejects"
    folder.mkdir(parents=True)
    with RejectFile("tag", str(folder / "tag-part-00000.parquet"), listed=2) as file:
        for place in range(7):
            file.add("a.txt", place, "no_mention")
        file.add("b.txt", 5, "no_mention")
        file.add("b.txt", 9, "not_utf8", "byte 0xff")
    for unit in range(2):
        log = RejectLog("detect")
        for number in range(4):
            log.add(f"{unit}-{number}.jpg", "", "no_region")
        log.publish(str(folder / f"detect-part-0000{unit}.parquet"))
    log = RejectLog("mix")
    log.add("s-1", 0, "no_patch", "giraffe")
    log.publish(str(folder / "mix-mixed-000000.parquet"))
    return str(tmp_path / "out")


def test_counts_by_stage_reason_and_source(out):
    no_region = {f"0-{number}.jpg": 1 for number in range(4)} | {"1-0.jpg": 1}
    assert read_rejects(out).counts == (
        ReasonCount("tag", "no_mention", "no word of the vocabulary", False, 8, {"a.txt": 7, "b.txt": 1}, 0),
        ReasonCount("tag", "not_utf8", "bytes that are not valid UTF-8", True, 1, {"b.txt": 1}, 0),
        ReasonCount("detect", "no_region", "the detector found no region of a known concept", False, 8, no_region, 3),
        ReasonCount("mix", "no_patch", "the bank has no patch for any mentioned concept", False, 1, {"s-1": 1}, 0),
    )


def test_one_reason_or_stage_is_counted_alone_and_listed(out):
    report = read_rejects(out, reason="no_mention", listed=9)
    assert [entry.reason for entry in report.counts] == ["no_mention"]
    assert report.listed == (
        Rejected("tag", "a.txt", "0", "no_mention", "", 1),
        Rejected("tag", "a.txt", "1", "no_mention", "", 1),
        Rejected("tag", "b.txt", "5", "no_mention", "", 1),
        Rejected("tag", "a.txt", "", "no_mention", "not listed each (rejects: sample)", 5),
    )
    assert len(read_rejects(out, reason="no_mention", listed=2).listed) == 2
    assert [entry.stage for entry in read_rejects(out, stage="mix").counts] == ["mix"]
    assert read_rejects(out, reason="nul_byte").to_table() == "nothing: every input was used"


def test_the_table(out):
    lines = read_rejects(out, listed=1, stage="tag").to_table().splitlines()
    assert lines == [
        "           8  tag  no_mention: no word of the vocabulary",
        "               7  a.txt",
        "               1  b.txt",
        "           1  tag  not_utf8 (bad): bytes that are not valid UTF-8",
        "               1  b.txt",
        "",
        "tag  no_mention  a.txt at 0",
    ]
    assert "               … and 3 more" in read_rejects(out).to_table()


def test_a_damaged_file_is_named(out):
    with open(f"{out}/rejects/tag-part-00000.parquet", "wb") as file:
        file.write(b"PAR1 damaged")
    with pytest.raises(UserError, match=r"tag-part-00000\.parquet: cannot be read"):
        read_rejects(out)
