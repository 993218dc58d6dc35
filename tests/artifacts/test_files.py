import os
import uuid

import pytest

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, WriteError
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.files.writing import _refuse_device


@pytest.fixture(params=["local", "memory"])
def folder(request, tmp_path):
    """An empty place to write to: the door works alike for paths and URLs."""
    return str(tmp_path / "place") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_what_is_published_is_read_back(folder):
    path = files.join(folder, "a", "b.bin")
    files.publish_bytes(path, b"\0whole")
    assert files.read_bytes(path) == b"\0whole"
    assert files.exists(path)
    assert files.size(path) == 6
    assert files.is_folder(files.join(folder, "a"))
    assert not files.is_folder(path)
    assert files.sha256(path) == "3df57b8414706b7728b87b4eabcd0581466acad5f87fee85178ed985b07eab6e"
    assert files.list_files(folder) == ["a/b.bin"]


def write_half(path, error):
    with files.publishing(path) as file:
        file.write(b"half")
        raise error


def test_an_exception_within_the_block_leaves_nothing(folder):
    path = files.join(folder, "half.bin")
    with pytest.raises(ZeroDivisionError):
        write_half(path, ZeroDivisionError)
    assert not files.exists(path)
    assert files.list_files(folder) == []


def test_an_exception_within_the_block_leaves_the_older_file_as_it_was(folder):
    path = files.join(folder, "kept.bin")
    files.publish_bytes(path, b"older")
    with pytest.raises(KeyboardInterrupt):
        write_half(path, KeyboardInterrupt)
    assert files.read_bytes(path) == b"older"
    assert files.list_files(folder) == ["kept.bin"]


def test_nothing_is_visible_under_the_name_before_the_block_ends(folder):
    path = files.join(folder, "slow.bin")
    with files.publishing(path) as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert not files.exists(path)
    assert files.size(path) == 100_000


def test_temporaries_of_a_killed_run_are_swept(tmp_path):
    files.publish_bytes(str(tmp_path / "in" / "done.bin"), b"1")
    (tmp_path / "in" / f"half.bin{files.TEMPORARY}0123").write_bytes(b"?")
    files.sweep_temporaries(str(tmp_path))
    assert files.list_files(str(tmp_path)) == ["in/done.bin"]


def test_list_files_is_sorted_and_empty_where_there_is_no_folder(folder):
    for name in ("b", "a/c", "a/b", "Z"):
        files.publish_bytes(files.join(folder, name), b"")
    assert files.list_files(folder) == ["Z", "a/b", "a/c", "b"]
    assert files.list_files(files.join(folder, "nowhere")) == []


def test_remove_takes_files_and_folders_and_does_not_mind_absence(folder):
    for name in ("a/b", "a/c", "d"):
        files.publish_bytes(files.join(folder, name), b"")
    files.remove(files.join(folder, "d"))
    files.remove(files.join(folder, "a"))
    files.remove(files.join(folder, "never"))
    assert files.list_files(folder) == []


def test_a_missing_file_is_file_not_found(folder):
    with pytest.raises(FileNotFoundError):
        files.read_bytes(files.join(folder, "nothing"))


@pytest.mark.parametrize(
    ("folder", "names", "joined"),
    [
        ("out", ["a", "b"], "out/a/b"),
        ("out/", ["a"], "out/a"),
        ("/", ["a"], "/a"),
        ("gs://bucket/x/", ["a"], "gs://bucket/x/a"),
        ("memory://", ["a"], "memory://a"),
        ("out/", [], "out/"),
    ],
)
def test_join(folder, names, joined):
    assert files.join(folder, *names) == joined


@pytest.mark.parametrize(
    ("path", "parent"),
    [
        ("out/bank", "out"),
        ("out/bank/", "out"),
        ("bank", "."),
        ("/bank", "/"),
        ("/", "/"),
        (".", "./.."),
        ("../..", "../../.."),
        ("gs://bucket/out/bank/", "gs://bucket/out"),
        ("gs://bucket/out", "gs://bucket"),
        ("memory://a", "memory://"),
    ],
)
def test_parent(path, parent):
    assert files.parent(path) == parent


def written(folder, *names):
    for name in names:
        files.publish_bytes(files.join(folder, name), name.encode())


def expanded(folder, *patterns):
    found = files.expand([files.join(folder, pattern) for pattern in patterns], key="images.inputs")
    assert all(stat.size == files.size(stat.name) for stat in found)
    return [stat.name.removeprefix("memory://").lstrip("/").removeprefix(folder.removeprefix("memory://").lstrip("/"))
            for stat in found]  # fmt: skip


def test_expand_takes_files_folders_and_globs_in_a_fixed_order_each_once(folder):
    written(folder, "c.txt", "a.txt", "d/x.jpg", "d/e/y.jpg", "d/e/z.png")
    assert expanded(folder, "*.txt") == ["/a.txt", "/c.txt"]
    assert expanded(folder, "d") == ["/d/e/y.jpg", "/d/e/z.png", "/d/x.jpg"]
    assert expanded(folder, "d/**/*.jpg") == ["/d/e/y.jpg", "/d/x.jpg"]
    assert expanded(folder, "c.txt", "*.txt") == ["/c.txt", "/a.txt"]


@pytest.mark.parametrize("pattern", ["absent.txt", "*.none", "absent"])
def test_a_pattern_that_nothing_matches_is_a_call_error_that_names_the_key(folder, pattern):
    written(folder, "a.txt")
    with pytest.raises(CallError, match=r"images\.inputs: nothing matches .*Give existing files"):
        expanded(folder, "a.txt", pattern)


def test_an_existing_name_with_glob_characters_is_that_file(tmp_path):
    written(str(tmp_path), "photo[1].jpg", "photo1.jpg")
    assert expanded(str(tmp_path), "photo[1].jpg") == ["/photo[1].jpg"]


def test_folders_that_a_glob_matches(tmp_path):
    """Those that photos/* matches are read; one that is named like a photo is passed on by *.jpg, to be rejected."""
    written(str(tmp_path), "photos/a.jpg", "photos/sub/b.jpg", "photos/album.jpg/c.jpg")
    names = [stat.name for stat in files.expand([str(tmp_path / "photos" / "*")], key="k")]
    assert names == [str(tmp_path / "photos" / name) for name in ("a.jpg", "album.jpg/c.jpg", "sub/b.jpg")]
    names = [stat.name for stat in files.expand([str(tmp_path / "photos" / "*.jpg")], key="k")]
    assert names == [str(tmp_path / "photos" / "a.jpg"), str(tmp_path / "photos" / "album.jpg")]


def test_a_link_that_leads_nowhere_is_passed_on_to_be_rejected(tmp_path):
    os.symlink(tmp_path / "gone", tmp_path / "link.jpg")
    for pattern in (str(tmp_path), str(tmp_path / "*.jpg")):
        assert list(files.expand([pattern], key="k")) == [FileStat(str(tmp_path / "link.jpg"), 0)]


def test_a_file_name_that_is_not_valid_utf8_is_a_call_error(tmp_path):
    with open(os.fsencode(tmp_path) + b"/caf\xe9.txt", "wb"):
        pass
    with pytest.raises(CallError, match=r"text\.inputs: the name of the file .*caf.*Rename it"):
        files.expand([str(tmp_path)], key="text.inputs")


def test_what_is_beside_a_path_is_found_through_links(tmp_path, monkeypatch):
    (tmp_path / "out" / "bank").mkdir(parents=True)
    (tmp_path / "out" / "config.yaml").touch()
    (tmp_path / "link").symlink_to(tmp_path / "out" / "bank")
    found = str(tmp_path / "out" / "config.yaml")
    for path in ("out/bank", "out/bank/", "link", "link/"):
        assert os.path.realpath(files.beside(str(tmp_path / path), "config.yaml")) == found
    monkeypatch.chdir(tmp_path / "out" / "bank")
    assert os.path.realpath(files.beside(".", "config.yaml")) == found
    monkeypatch.chdir(tmp_path)
    assert files.beside("link", "tagged") == "./tagged"
    (tmp_path / "config.yaml").touch()
    assert files.beside("link", "config.yaml") == "./config.yaml"
    assert files.beside("gs://a/bank", "config.yaml") == "gs://a/config.yaml"


def test_a_pipe_or_a_device_is_not_read(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (str(pipe), "/dev/zero"):
        for read in (files.read_bytes, files.sha256, lambda name: files.read_ranges(name, [(0, 1)])):
            with pytest.raises(OSError, match="expected a regular file"):
                read(path)


@pytest.mark.parametrize("name", ["pipe", "link"])
def test_a_pipe_is_not_replaced(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with pytest.raises(WriteError, match=r": is a pipe or a device, expected a file\."):
        files.publish_bytes(str(tmp_path / name), b"a page")
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("path", ["/dev/null", "/dev/stdout", "/dev/../dev/null", "/dev/none"])
def test_nor_is_a_device(path):
    with pytest.raises(WriteError, match=f"{path}: is a pipe or a device"):
        _refuse_device(path)  # not the function that writes: root would lose the device if this failed
    _refuse_device("/dev/shm/page.html")


def test_a_name_with_a_nul_byte_is_an_error_of_the_file():
    for read in (files.read_bytes, files.size):
        with pytest.raises(OSError, match=r"null byte|embedded"):
            read("a\0b")


@pytest.mark.parametrize("url", ["nosuch://x", "zip://a::memory://b", "http://[::1"])
def test_a_url_that_cannot_be_read_is_one_line(url):
    with pytest.raises(CallError, match=r"text\.inputs: ") as raised:
        files.expand([url], key="text.inputs")
    assert "\n" not in str(raised.value)


def test_a_file_of_one_hole_is_not_read(tmp_path):
    path = tmp_path / "hole"
    path.write_bytes(b"a")
    os.truncate(path, 1 << 40)
    for read in (files.read_bytes, files.sha256):
        with pytest.raises(OSError, match="1,099,511,627,776 bytes, nearly all of them a hole"):
            read(str(path))


def test_a_name_with_a_nul_byte_has_no_stamp():
    assert files.stamp("a\0b") == ""
