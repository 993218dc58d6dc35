"""Canonical JSON: the same bytes as the standard library's, whole or in pieces."""

import json
from typing import Any

import pytest

from vlmixer.artifacts.canonical import canonical, pieces
from vlmixer.artifacts.manifest import Output

VALUES: list[Any] = [
    {},
    [],
    None,
    'ä\n"x"',
    [1, 2.5, True, None],
    {"b": [], "a": {}, "c": {"z": [{"k": [1]}], "y": "…"}},
    [[], [[{"a": 1}]], {"a": [1, {"b": 2}], "b": ()}],
]


def _standard(value: Any, indent: int | None) -> bytes:
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=indent) + "\n").encode()


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("value", VALUES)
def test_equals_the_standard_library(value: Any, indent: int | None) -> None:
    assert canonical(value, indent) == _standard(value, indent)
    assert b"".join(pieces({"value": value, "A": [value]}, indent)) == _standard({"value": value, "A": [value]}, indent)


@pytest.mark.parametrize("indent", [None, 1])
def test_lists_may_hold_records(indent: int | None) -> None:
    record = {"bytes": 4, "name": "a", "rows": 3, "sha256": "0"}
    found = list(pieces({"n": 1, "outputs": [Output("a", 3, 4, "0")] * 2}, indent))
    assert b"".join(found) == _standard({"n": 1, "outputs": [record] * 2}, indent)
    assert max(map(len, found)) < 80  # one record at a time


def test_infinite_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical({"a": float("nan")}, 1)
