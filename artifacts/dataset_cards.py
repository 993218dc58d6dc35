"""Cards of folders with WebDataset tars: a README.md whose head tells Hugging Face's `datasets` what the tars hold.

Without it, `load_dataset` would take the small JSON files beside the tars for the data. Cards and croissant.json are
for people to complete, so manifests do not list them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

CARD, CROISSANT = "README.md", "croissant.json"
LICENCE_OPEN = "Name them here before you share this folder."
"""What our cards say of licences; the user puts the licences in its place."""

Fields = Mapping[str, Any]
"""Names to types: a dtype of `datasets` such as "int64"; Fields; or a list of one of these."""


@dataclass(frozen=True)
class Part:
    """The tars that match `pattern`, as one split. `fields`: what a sample has; none if `datasets` is to find out."""

    pattern: str
    fields: Fields = field(default_factory=dict)


def dataset_card(parts: Mapping[str, Part], text: str) -> bytes:
    """The card: `parts` by the name under which they are loaded, the first one by default; then `text`, in Markdown."""
    configs: list[dict[str, Any]] = [
        {"config_name": name, "data_files": [{"split": "train", "path": part.pattern}]} for name, part in parts.items()
    ]
    if configs:
        configs[0]["default"] = True
    infos = [
        {"config_name": name, "features": _features({**part.fields, "__key__": "string", "__url__": "string"})}
        for name, part in parts.items()
        if part.fields
    ]
    head = {"configs": configs, "tags": ["webdataset"]} | ({"dataset_info": infos} if infos else {})
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n{text}".encode()


def _features(fields: Fields) -> list[dict[str, Any]]:
    """The fields as `datasets` writes them."""
    return [{"name": name, **_type(kind)} for name, kind in fields.items()]


def _type(kind: Any) -> dict[str, Any]:
    if isinstance(kind, str):
        return {"dtype": kind}
    if isinstance(kind, Mapping):
        return {"struct": _features(kind)}
    (item,) = kind
    if isinstance(item, Mapping):
        return {"list": _features(item)}
    return {"list": item if isinstance(item, str) else _type(item)}


def plain(text: str) -> str:
    """Text that Markdown leaves as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))
