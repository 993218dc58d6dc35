"""Progress of long work: lines on stderr that are no terminal, none for short work."""

from vlmixer.artifacts import progress


def test_short_work_is_silent_and_long_work_has_lines(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    assert list(progress.shown("abc", 3, "read", "letters")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""
    for _ in progress.shown(range(4), 4, "read", "numbers"):
        now[0] += 6
    assert capsys.readouterr().err == "read: 2 of 4 numbers, 12 s left\n"
