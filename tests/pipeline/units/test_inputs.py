"""The input files of a stage: what tells that one of them changed, without a second list of many."""

import os

import pytest

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.units.inputs import InputFiles, KnownInput, leave_out
from vlmixer.pipeline.units.stage import Stage


@pytest.fixture
def stage(tmp_path):
    (tmp_path / "out" / "work").mkdir(parents=True)
    return Stage(DETECT, str(tmp_path / "out"))


@pytest.fixture
def photos(tmp_path):
    """The pattern of three files, a, b and c."""
    (tmp_path / "in").mkdir()
    for name in "abc":
        (tmp_path / "in" / name).write_text(name)
    return [str(tmp_path / "in")]


def found(photos, look_again=None):
    return InputFiles(
        files.expand(photos, key="k"), look_again or (lambda: files.expand(photos, key="k")), lambda *_: None
    )


def test_local_files_that_did_not_change_are_not_listed_again(stage, photos):
    def look_again():
        raise AssertionError("listed again")

    inputs = found(photos, look_again)
    (first, second, _) = inputs.found
    inputs.finish(stage, [KnownInput(second.name, second.stamp, b"digest")])
    assert inputs.changed(stage) == []
    os.utime(first.name, ns=(0, 0))
    os.utime(second.name, ns=(0, 0))
    # What was known comes first, then the rest.
    assert found(photos).changed(stage) == [second.name, first.name]


@pytest.mark.parametrize("change", [os.unlink, lambda name: os.utime(name, ns=(0, 0))])
def test_a_file_that_changed_or_is_gone(stage, photos, change):
    inputs = found(photos)
    change(inputs.found[1].name)
    with pytest.raises(UserError, match=f"^{inputs.found[1].name}: changed while the stage was running"):
        inputs.finish(stage)


def test_a_link_without_a_target_is_unchanged_until_it_is_gone(stage, photos, tmp_path):
    link = tmp_path / "in" / "d"
    link.symlink_to("nothing")
    inputs = found(photos)
    assert inputs.found[3].stamp == ""
    inputs.finish(stage)
    link.unlink()
    with pytest.raises(UserError, match=f"^{link}: changed"):
        inputs.finish(stage)


def test_other_files_that_were_read_are_compared_too(stage, photos, tmp_path):
    other = tmp_path / "listed"
    other.write_text("x")
    known = KnownInput(str(other), files.stamp(str(other)))
    inputs = found(photos)
    inputs.finish(stage, [known])
    other.unlink()
    with pytest.raises(UserError, match=f"^{other}: changed"):
        inputs.finish(stage, [known])


def test_files_that_are_left_out_do_not_count(stage, photos):
    inputs = found(photos)
    inputs.keep(stage)
    leave_out(stage, lambda name: name.endswith("/a"))
    os.utime(inputs.found[0].name, ns=(0, 0))
    assert found(photos).changed(stage) == []
