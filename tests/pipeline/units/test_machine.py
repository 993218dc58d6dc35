"""How many workers there are by default."""

import os

import pytest

from vlmixer.pipeline.units import machine
from vlmixer.pipeline.units.machine import default_workers, processors, quota


def test_processors_are_those_that_may_be_used(monkeypatch):
    monkeypatch.setattr(machine, "quota", lambda group: None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert processors() == 3
    monkeypatch.setattr(machine, "quota", lambda group: 2)
    assert processors() == 2
    monkeypatch.setattr(machine, "quota", lambda group: 16)
    assert processors() == 3


@pytest.mark.parametrize(("content", "expected"), [("250000 100000", 3), ("100000 100000", 1), ("max 100000", None)])
def test_the_share_of_a_container(tmp_path, content, expected):
    (tmp_path / "cpu.max").write_text(content + "\n")
    assert quota(tmp_path) == expected


def test_the_share_of_a_container_of_the_older_kind(tmp_path):
    assert quota(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    for content, expected in (("400000\n", 4), ("-1\n", None)):
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(content)
        assert quota(tmp_path) == expected


def test_workers_are_as_many_as_there_is_memory_for(monkeypatch):
    monkeypatch.setattr(machine, "processors", lambda: 64)
    for free, expected in ((0, 64), (100 << 20, 1), (20 << 30, 20), (500 << 30, 64)):
        monkeypatch.setattr(machine, "available_memory", lambda free=free: free)
        assert default_workers() == expected
