"""YAML becomes plain data of bounded size, or one line that says what is wrong."""

import datetime

import pytest

from vlmixer.artifacts import yaml_files


def chain(line: str, length: int = 40) -> str:
    """Lines that each use the anchor of the line before."""
    return "a0: &a0 {x: 1, y: 2}\n" + "".join(
        f"a{n}: &a{n} {line.format(before=f'*a{n - 1}')}\n" for n in range(1, length)
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: [x, 'y', null]", {"a": 1, "b": ["x", "y", None]}),
        ("a: &a [1]\nb: *a\nc: *a", {"a": [1], "b": [1], "c": [1]}),
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}", {"a": {"x": 1}, "b": {"x": 1, "y": 2}}),
        ("a: 2024-05-06", {"a": datetime.date(2024, 5, 6)}),
        ("a: 1\na: 2", {"a": 2}),
    ],
)
def test_plain_data(text: str, value: object) -> None:
    assert yaml_files.parse(text) == value


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (chain("[{before}, {before}]"), "more than 1,000,000 values, with the aliases copied, in line 1[89]"),
        (chain("{{<<: [{before}, {before}]}}"), "more than 1,000,000 values"),
        (chain("{{k: {before}, l: {before}}}"), "more than 1,000,000 values"),
        (chain("[{before}]", 100), "nested more than 64 deep, with the aliases copied, in line 64"),
        ("a: 1" + 60 * ":1", "a number of 121 digits, expected at most 100, in line 1, column 4"),
        ("{a: !!int '" + 101 * "1" + "'}", "a number of 101 digits"),
        ("a: &a [*a]", "an alias inside its own anchor, in line 1, column 4"),
        ("&a [{b: [*a]}]", "an alias inside its own anchor"),
        ("[" * 100_000, "nested more than 64 deep, in line 1, column 65"),
        ("- " * 5_000, "nested more than 64 deep"),
        ("? " * 5_000, "nested more than 64 deep"),
        ("a: 2024-99-99", "month must be in"),
        ("a: !!int x", "does not fit its tag"),
        ("a: !!float ''", "does not fit its tag"),
        ("a: !!timestamp x", "does not fit its tag"),
        ("a: " + "9" * 5_000, "a number of 5,000 digits"),
        ("? {a: b}\n: c", "unhashable key"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: \x00", "control characters"),
        ('a: "\\ud800"', "surrogate|unicode|escape"),
        ("a: *b", "undefined alias"),
        ("a: 1\n---\nb: 2", "expected a single document"),
    ],
)
def test_what_cannot_be_plain_data_is_one_line(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as raised:
        yaml_files.parse(text)
    assert "\n" not in str(raised.value)


def test_the_length_is_limited() -> None:
    assert yaml_files.parse("a: bc", max_characters=5) == {"a": "bc"}
    with pytest.raises(ValueError, match="6 characters, expected at most 5"):
        yaml_files.parse("a: bcd", max_characters=5)


def test_keys_that_must_be_unique() -> None:
    with pytest.raises(ValueError, match="the key 'dog' occurs twice, in line 3, column 1"):
        yaml_files.parse("dog: a\ncat: b\ndog: c", unique_keys=True)


def test_more_values_than_allowed_are_refused_before_they_are_made() -> None:
    assert yaml_files.parse("[1, 2]", max_values=3) == [1, 2]
    with pytest.raises(ValueError, match="more than 3 values, in line 1, column 8"):
        yaml_files.parse("[1, 2, 3]", max_values=3)
