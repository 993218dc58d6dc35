"""Samples that are not vlmixer's: dicts of WebDataset, with the key and the bytes of each member."""

import re
from collections.abc import Mapping
from typing import Any

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import MEMBERS

KEY = "__key__"
LONGEST = 100
"""Bytes of a name in a tar of the plain format."""
_KEY = re.compile(r"[ -\-0-~]+")
"""Printable ASCII without a dot, which ends a key, and a slash."""
_EXTENSION = re.compile(r"\.?([A-Za-z0-9_-][A-Za-z0-9_.-]*)")


def checked_key(key: Any, longest_extension: int = max(map(len, MEMBERS))) -> str:
    """The key, if it can be a name in a tar. Raises UserError."""
    most = LONGEST - 1 - longest_extension
    if isinstance(key, str) and len(key) <= most and _KEY.fullmatch(key):
        return key
    raise UserError(
        f"WriteShards: a sample has the key {repr(key)[:120]}. It becomes a name in a tar, so it needs to be a str of "
        f"1 to {most} printable ASCII characters without dot and slash. `plain_key` of vlmixer.pipeline.beam makes one."
    )


def members_of(sample: Mapping[str, Any]) -> tuple[str, list[tuple[str, bytes]]]:
    """The key of a sample, and names and contents of its members in the order of their names. Raises UserError.

    sample: `__key__`, and bytes, or a str that becomes UTF-8, by extension with or without its dot. None is left out,
    and so are other names with two underscores in front, in which readers put where a sample is from.
    """
    contents: dict[str, bytes] = {}
    for name, value in sample.items():
        if (isinstance(name, str) and name.startswith("__")) or value is None:
            continue
        extension = _EXTENSION.fullmatch(name) if isinstance(name, str) else None
        if extension is None or extension[1] in contents or not isinstance(value, bytes | bytearray | memoryview | str):
            raise UserError(
                f"WriteShards: the sample {repr(sample.get(KEY))[:120]} has {type(value).__name__} as its member "
                f"{repr(name)[:100]}, expected bytes or str by extension, such as jpg or json, each once. Encode it."
            )
        contents[extension[1]] = value.encode() if isinstance(value, str) else bytes(value)
    key = checked_key(sample.get(KEY), max(map(len, contents), default=0))
    if not contents:
        raise UserError(f"WriteShards: the sample {key!r} has no member, expected at least one, such as jpg or json.")
    return key, [(f"{key}.{extension}", contents[extension]) for extension in sorted(contents)]
