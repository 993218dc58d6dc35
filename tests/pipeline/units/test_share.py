"""Shares of a stage's units."""

import pytest

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.stages import DETECT
from vlmixer.pipeline.units.failures import any_failed, forget_errors, publish_error, raise_error
from vlmixer.pipeline.units.share import Share
from vlmixer.pipeline.units.stage import Stage


@pytest.mark.parametrize("items", [0, 1, 5, 16, 17])
def test_shares_have_every_item_once_and_are_equal(items):
    taken = [Share(number, 4).take(range(items)) for number in range(1, 5)]
    assert sorted(item for share in taken for item in share) == list(range(items))
    assert max(map(len, taken)) - min(map(len, taken)) <= 1


def test_a_share_is_written_as_it_is_read():
    assert Share.parse("3/16") == Share(3, 16)
    assert str(Share(3, 16)) == "3/16"


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "1/0", "-1/4", "1/4/4", "1 / 4", "a/b", "١/٤"])
def test_what_is_no_share(text):
    with pytest.raises(CallError, match="expected the number of a share, from 1"):
        Share.parse(text)


def test_a_share_heeds_the_errors_of_its_own_units(tmp_path):
    stage = Stage(DETECT, str(tmp_path))
    publish_error(stage, "detect-00000", UserError("bad photo"))
    forget_errors(stage, {"detect-00001"})
    raise_error(stage, {"detect-00001"})
    with pytest.raises(UserError, match="bad photo"):
        raise_error(stage, {"detect-00000"})
    forget_errors(stage, {"detect-00000"})
    assert not any_failed(stage)
