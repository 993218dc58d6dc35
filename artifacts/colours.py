"""Colours on terminals: errors red, warnings yellow. None elsewhere, nor if NO_COLOR is set (https://no-color.org)."""

import os
from typing import IO

ERROR, WARNING = "31;1", "33"
"""ANSI codes: bold red, yellow."""


def coloured(text: str, code: str, stream: IO[str]) -> str:
    """The text in the colour that `code` means if `stream` is a terminal that shows colours; else as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if _shows_colours(stream) else text


def _shows_colours(stream: IO[str]) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
