"""Lines of region features that somebody made to be trouble."""

import base64
import json

import numpy as np
import pytest

from vlmixer.artifacts.errors import CallError
from vlmixer.pipeline.image.known_regions import FeatureLines, KnownRegions, read_sizes
from vlmixer.pipeline.image.readers.base import ImageRef, Unreadable
from vlmixer.pipeline.image.readers.tsv_lines import PART_BYTES, lines_by_id

INFINITE = float("inf")


def line(**changes):
    feature = base64.b64encode(np.linspace(0.5, 1, 16).astype("<f4").tobytes()).decode()
    one = {"rect": [0, 0, 9, 9], "class": "dog", "conf": 0.9, "feature": feature}
    record = {"image_w": 10, "image_h": 10, "objects": [one]}
    for name, value in changes.items():
        (record if name in record else one)[name] = value
    return b"a\t" + json.dumps(record).encode()


def rejected(lines, bad):
    found = lines.parse(ImageRef("a.tsv", size=len(bad)), bad)
    assert isinstance(found, Unreadable)
    return found.detail


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"image_w": INFINITE}, "cannot convert float infinity"),
        ({"image_h": 10**400}, "an image of 10×1000"),
        ({"image_w": 1 << 31}, "an image of 2147483648×10"),
        ({"rect": [10**400] * 4}, "int too large to convert to float"),
        ({"conf": 10**400}, "int too large to convert to float"),
        ({"class": INFINITE}, "cannot convert float infinity"),
    ],
)
def test_numbers_that_nothing_can_hold_spoil_their_line_alone(tmp_path, changes, detail):
    path = tmp_path / "a.tsv"
    path.write_bytes(line() + b"\n")
    lines = FeatureLines(str(path), classes=["dog"])
    assert isinstance(lines.parse(ImageRef(str(path), size=len(line())), line()), KnownRegions)
    assert detail in rejected(lines, line(**changes))


def test_a_number_of_boxes_that_nothing_can_hold(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(line() + b"\n")
    bad = b"\t".join([b"a", b"10", b"10", b"1e999", b"", b""])
    assert rejected(FeatureLines(str(path)), bad) == "OverflowError: cannot convert float infinity to integer"


@pytest.mark.parametrize("text", ['[{"height": 1e999, "width": 5}]', "x" * (1 << 20)])
def test_sizes_that_cannot_be_right_are_one_message(tmp_path, text):
    (tmp_path / "hw.tsv").write_text(f"a\t{text}\n")
    with pytest.raises(CallError, match=r"hw.tsv, line 1: .*Expected an id"):
        read_sizes(str(tmp_path / "hw.tsv"))


def test_lines_of_any_length_and_many_blank_ones(tmp_path):
    path = tmp_path / "a.tsv"
    lines = [b"a\t1\n", b"\n \n" * 50_000, b"b\t" + b"x" * 3 * PART_BYTES + b"\n", b"\n", b"c"]
    path.write_bytes(b"".join(lines))
    starts = np.cumsum([0, *map(len, lines)]).tolist()
    assert list(lines_by_id(str(path))) == [
        (name, (starts[row], len(lines[row]))) for name, row in (("a", 0), ("b", 2), ("c", 4))
    ]
