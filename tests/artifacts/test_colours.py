"""Colours on terminals, and only there."""

import io

import pytest

from vlmixer.artifacts.colours import ERROR, coloured


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "environment", "expected"),
    [
        (Terminal(), {}, "\x1b[31;1merror:\x1b[0m"),
        (Terminal(), {"NO_COLOR": ""}, "\x1b[31;1merror:\x1b[0m"),  # empty counts as not set
        (Terminal(), {"NO_COLOR": "1"}, "error:"),
        (Terminal(), {"TERM": "dumb"}, "error:"),
        (io.StringIO(), {}, "error:"),
    ],
)
def test_only_terminals_that_show_colours_get_them(monkeypatch, stream, environment, expected) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert coloured("error:", ERROR, stream) == expected
