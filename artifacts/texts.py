"""Texts from files of others."""

from typing import IO


def encodable(text: str) -> str:
    """The text, with "?" for half surrogate pairs and bytes that are not valid UTF-8: no output file can hold them."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def blank_lines(stream: IO[bytes], limit: int) -> bytes:
    """Read the blank lines that are next in the stream's buffer, if it has one. They have no more than `limit` bytes
    together."""
    ready: bytes = stream.peek(1)[:limit] if hasattr(stream, "peek") else b""
    white = len(ready) - len(ready.lstrip())
    return stream.read(ready.rfind(b"\n", 0, white) + 1)
