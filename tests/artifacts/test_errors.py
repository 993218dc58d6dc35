"""Messages: each on one line, whatever it quotes."""

import pickle

import pytest

from vlmixer.artifacts.errors import LONGEST, CallError, UserError, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a dog, ein Hündchen, 犬\u3000🐕\u00a0!", "a dog, ein Hündchen, 犬\u3000🐕\u00a0!"),
        ("a\nb\r\nc", r"a\nb\r\nc"),
        ("a\u2028b\u2029c\x85d\x0be\x1cf", r"a\u2028b\u2029c\x85d\x0be\x1cf"),
        ("\x1b[2J\x07\x00", r"\x1b[2J\x07\x00"),
        ("txt.\u202egpj", r"txt.\u202egpj"),
        ("half \ud800", r"half \ud800"),
        (r"once \n", r"once \n"),
    ],
)
def test_what_is_not_visible_is_an_escape(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown


def test_an_error_has_as_many_lines_as_arguments_also_in_another_process():
    error = CallError("list.json: the split 'a\nerror: b'", "  a line\r")
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == "list.json: the split 'a\\nerror: b'\n  a line\\r"
    assert str(UserError(f"x: {error}")) == r"x: list.json: the split 'a\nerror: b'\n  a line\r"


def test_a_line_keeps_its_beginning_and_its_advice():
    shown = str(UserError(f"list.json: the split {'a' * 1_000_000}. Set task.split."))
    assert len(shown) == LONGEST + 3
    assert shown.startswith("list.json: the split aaa")
    assert shown.endswith("aaa. Set task.split.")
