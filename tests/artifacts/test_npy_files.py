"""Arrays that this program wrote are read back, and anything else is one message before it takes memory."""

import io

import numpy as np
import pytest

from vlmixer.artifacts import npy_files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.npy_files import Kind

PAIRS, NUMBERS = np.array([[1, 2], [3, 4]], np.int64), np.arange(5.0)
KINDS = Kind(np.int64, 2), Kind(np.float64)


def written(*arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    for array in arrays:
        np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def test_arrays_are_read_one_after_the_other(tmp_path):
    (tmp_path / "a").write_bytes(written(PAIRS, NUMBERS))
    pairs, numbers = npy_files.read(str(tmp_path / "a"), *KINDS, advice="Make it again.")
    assert (pairs.tolist(), numbers.tolist()) == (PAIRS.tolist(), NUMBERS.tolist())
    places = np.zeros(3, [("rank", "<f8"), ("part", "<i4"), ("row", "<i4")])  # whose header is longer
    (tmp_path / "a").write_bytes(written(places))
    assert npy_files.read(str(tmp_path / "a"), Kind(places.dtype), advice="")[0].tolist() == places.tolist()
    (tmp_path / "a").write_bytes(written(np.zeros((0, 2), np.int64), np.zeros(0)))
    assert [len(found) for found in npy_files.read(str(tmp_path / "a"), *KINDS, advice="")] == [0, 0]


SOUND = written(PAIRS, NUMBERS)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "not a .npy file"),
        (b"\x80\x04N.", "not a .npy file"),
        (SOUND[:-1], "ends before the last of its 5 numbers"),
        (SOUND + b"\0", "more bytes than its header says"),
        (written(PAIRS), "not a .npy file"),
        (written(PAIRS.astype(np.int32), NUMBERS), r"int32 of shape \(2, 2\), which is not what"),
        (written(PAIRS[0], NUMBERS), r"int64 of shape \(2,\), which is not what"),
        (written(np.asfortranarray(PAIRS), NUMBERS), "that this program would not write"),
        (SOUND.replace(b"(2, 2)", b"(9, 2)"), "ends before|more bytes|not a .npy file"),
        (SOUND.replace(b"(2, 2), }" + b" " * 20, b"(1000000000000000000, 2), }  "), "ends before the last"),
        (SOUND.replace(b"(2, 2), }  ", b"(-2, -2), }"), "that this program would not write"),
        (SOUND.replace(b"'<i8'", b"'|O' "), "would not write|object"),
    ],
)
def test_anything_else_is_one_message(tmp_path, data, what):
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(UserError, match=rf"a: damaged \((.*)({what}).*\)\. Make it again\.") as error:
        npy_files.read(str(tmp_path / "a"), *KINDS, advice="Make it again.")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_one_message(tmp_path):
    with pytest.raises(UserError, match=r"b: damaged \(.*\)\. Make it again\."):
        npy_files.read(str(tmp_path / "b"), *KINDS, advice="Make it again.")
