"""What all pages share: rendering a template into one self-contained file, and pictures as data URIs.

A page loads nothing: style, script and pictures are inside it, and its content policy forbids everything else.
"""

import base64
from importlib import resources

from jinja2 import Environment, FunctionLoader, StrictUndefined

from vlmixer.artifacts import files


def _source(name: str) -> str:
    return resources.files("vlmixer.pipeline.report").joinpath(name).read_text(encoding="utf-8")


_ENVIRONMENT = Environment(
    loader=FunctionLoader(_source), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_ENVIRONMENT.filters["thousands"] = lambda number: f"{number:,}"


def write_page(path: str, template: str, **content: object) -> None:
    """Write the page at `path`, whole or not at all. Its pictures need not fit into memory at once."""
    stream = _ENVIRONMENT.get_template(template).stream(content)
    stream.enable_buffering(64)
    with files.publishing(path) as file:
        for piece in stream:
            file.write(piece.encode())


def render_page(template: str, **content: object) -> str:
    """The page as text."""
    return _ENVIRONMENT.get_template(template).render(content)


def data_uri(data: bytes, kind: str = "jpeg") -> str:
    """The picture's bytes as a data URI."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()
