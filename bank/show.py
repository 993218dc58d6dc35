"""Patches as HTML for a notebook: small figures in a row."""

import base64
import html
from collections.abc import Iterable, Sequence


def figure(crop: bytes, captions: Sequence[str], title: str) -> str:
    """A picture (JPEG) with captions below it. `title` is shown on hover."""
    lines = "<br>".join(html.escape(caption) for caption in captions)
    return (
        f'<figure style="display:inline-block;margin:4px;vertical-align:top" title="{html.escape(title)}">'
        f'<img style="height:72px;max-width:160px" src="data:image/jpeg;base64,{base64.b64encode(crop).decode()}">'
        f'<figcaption style="font-size:.75em">{lines}</figcaption></figure>'
    )


def figures(parts: Iterable[str]) -> str:
    """Figures in a row that wraps."""
    inner = "".join(parts)
    return f"<div>{inner}</div>" if inner else ""
