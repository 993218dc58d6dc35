"""Lists of many files in columns: the same as lists of objects."""

import tracemalloc

import numpy as np
import pytest

from vlmixer.artifacts.files import FileStat, FileStats, Strings, expand, in_order, listed

VALUES = ["b.jpg", "", "é/ü.png", "a/b.jpg", "b.jpg", "a b", "a!b"]


@pytest.fixture(params=[4, 1 << 24])
def strings(request, monkeypatch):
    """In a mapped file, and in memory."""
    monkeypatch.setattr(listed, "MAX_HELD", request.param)
    monkeypatch.setattr(listed, "AT_ONCE", 2)
    return Strings(VALUES)


def test_strings_are_a_sequence(strings):
    assert list(strings) == VALUES
    assert len(strings) == len(VALUES)
    assert (strings[0], strings[-1], strings[2:4]) == ("b.jpg", "a!b", VALUES[2:4])
    assert list(strings.at(np.array([3, 3, 1]))) == ["a/b.jpg", "a/b.jpg", ""]
    assert "a b" in strings
    assert "a" not in strings
    assert list(Strings()) == []
    assert "a" not in Strings()
    with pytest.raises(UnicodeEncodeError):
        Strings(["\udcff"])


def test_the_first_row_of_a_string_is_found(strings):
    assert strings.find(["a b", "b.jpg", "no", ""]).tolist() == [5, 0, -1, 1]
    assert list(in_order(VALUES)) == sorted(set(VALUES))


def test_strings_with_equal_hashes_are_told_apart(strings, monkeypatch):
    monkeypatch.setattr(listed, "hash", lambda value: 7, raising=False)
    assert strings.find([*VALUES, "no"]).tolist() == [0, 1, 2, 3, 0, 5, 6, -1]


def test_files_are_a_sequence():
    files = [FileStat(name, size, f"{size} 1") for size, name in enumerate(dict.fromkeys(VALUES))]
    found = FileStats.of(files)
    assert list(found) == files
    assert [entry.stamp for entry in found] == [entry.stamp for entry in files]
    assert (found[1], found[-2:]) == (files[1], files[-2:])
    assert list(found.where(lambda name: "b" in name)) == [entry for entry in files if "b" in entry.name]
    more = FileStats.of([files[0], FileStat("new", 9), files[3]])
    assert list(FileStats.merged([found, FileStats.of(), more])) == [*files, FileStat("new", 9)]
    assert list(FileStats.merged([more, found])) == [*more, *files[1:3], *files[4:]]
    assert list(FileStats.joined([found, more])) == [*files, *more]
    assert FileStats.merged([found]) is found
    assert list(FileStats.merged([])) == []


def test_many_patterns_take_work_in_proportion(tmp_path, monkeypatch):
    """Each name is put in a column a few times, however many patterns there are."""
    taken = 0

    def counted(column, values=(), made=Strings.__init__):
        nonlocal taken
        held = list(values)
        taken += len(held)
        made(column, held)

    monkeypatch.setattr(Strings, "__init__", counted)
    photos = [tmp_path / f"{number}.jpg" for number in range(60)]
    for photo in photos:
        photo.touch()
    assert (
        expand([str(photo) for photo in photos], key="images.inputs")[:]
        == FileStats.local(Strings(map(str, photos)))[:]
    )
    assert taken < 10 * len(photos)


def test_a_file_takes_few_bytes():
    number = 10_000
    tracemalloc.start()
    try:
        names = Strings(f"photos/{row:05d}.jpg" for row in range(number))
        found = FileStats(names, range(number), Strings(f"{row} 1764427023123456789" for row in range(number)))
        assert found.names.find(["photos/00007.jpg"]).tolist() == [7]
        assert sum(entry.size for entry in found) == number * (number - 1) // 2
        assert tracemalloc.get_traced_memory()[0] / number < 150
    finally:
        tracemalloc.stop()
