"""Patterns in the config: links, folders matched by globs, literal brackets, the home folder."""

import glob
import os

import pytest

from vlmixer.artifacts import files


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder of one photo next to a linked folder of two."""
    monkeypatch.chdir(tmp_path)
    for name in ("photos/a.jpg", "elsewhere/b.jpg", "elsewhere/c.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    return tmp_path


def names(*patterns):
    return [entry.name for entry in files.expand(list(patterns), key="images.inputs")]


ALL = ["photos/a.jpg", "photos/linked/b.jpg", "photos/linked/c.jpg"]


@pytest.mark.parametrize("pattern", ["photos", "photos/", "photos/*", "phot*"])
def test_links_and_folders_that_a_glob_matches_are_followed(photos, pattern):
    assert names(pattern) == ALL


def test_a_circle_of_links_ends(photos):
    (photos / "photos" / "self").symlink_to(photos / "photos")
    (photos / "elsewhere" / "back").symlink_to(photos / "photos")
    assert names("photos") == ALL


def test_existing_folders_are_taken_literally(photos):
    for folder in ("photos [2019]", "photos 2"):
        (photos / folder).mkdir()
        (photos / folder / "d.jpg").write_bytes(b"x")
    assert names("photos [2019]/*.jpg") == names("photos [2019]") == ["photos [2019]/d.jpg"]
    assert names("photos [2]/*.jpg") == ["photos 2/d.jpg"]


def test_the_home_folder(photos, monkeypatch):
    monkeypatch.setenv("HOME", str(photos))
    assert names("~/photos/*.jpg") == [os.path.join(photos, "photos", "a.jpg")]
    assert files.absolute("~/out") == os.path.join(photos, "out")


@pytest.mark.parametrize(
    "pattern",
    [
        "**/*.jpg",
        "a/**/*.jpg",
        "a/**",
        "**",
        "*/**/*.jpg",
        "a/**/b/**/*.jpg",
        "**/b/*",
        "a/**/[xy].jpg",
        "./**/*.jpg",
        "**/**/*.jpg",
        "**/b/**/c/**",
    ],
)
def test_two_stars_find_what_pythons_glob_finds(tmp_path, monkeypatch, pattern):
    for name in (
        "x.jpg",
        "a/x.jpg",
        "a/b/y.jpg",
        "a/b/c/z.jpg",
        "a/c/b/c/x.jpg",
        "a/.hidden/x.jpg",
        "a/b/.y.jpg",
        "[a]/x.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir(tmp_path)
    for where in (pattern, f"{tmp_path}/{pattern}"):
        expected = sorted({path for path in glob.glob(where, recursive=True) if os.path.isfile(path)})
        assert expected
        assert names(where) == expected


def test_two_stars_enter_a_folder_once_whatever_links_there_are(tmp_path):
    photos = tmp_path / "photos" / "deep"
    photos.mkdir(parents=True)
    (photos / "x.jpg").write_text("")
    (tmp_path / "photos" / "again").symlink_to(photos)
    for number, target in enumerate(["..", ".", str(tmp_path)]):
        (photos / f"up{number}").symlink_to(target)
    assert names(f"{tmp_path}/photos/**/*.jpg") == [f"{tmp_path}/photos/again/x.jpg"]


def test_each_two_stars_enter_a_folder_once(tmp_path, monkeypatch):
    """Not once for each folder of the two stars before, which would be 40 ** 3 times here."""
    deep = tmp_path.joinpath(*["b"] * 40)
    deep.mkdir(parents=True)
    (deep / "x.jpg").write_text("")
    expected = f"{deep}/x.jpg"
    entered: list[object] = []
    scandir = os.scandir

    def counted(path):
        entered.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    assert names(f"{tmp_path}/**/b/**/b/**/*.jpg") == [expected]
    assert len(entered) < 6 * 41  # and once where names are looked up
