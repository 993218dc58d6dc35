"""Texts from files of others."""


def encodable(text: str) -> str:
    """The text, with "?" for half surrogate pairs and bytes that are not valid UTF-8: no output file can hold them."""
    return text if text.isascii() else text.encode(errors="replace").decode()
