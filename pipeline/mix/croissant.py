"""croissant.json: the shards of a folder in the vocabulary of MLCommons, for catalogues and search engines.

It names every tar with its hash, and the texts and keys in them. Features have no type there: the members .npy are
named as files. The card in README.md has what people should know.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.dataset_cards import CROISSANT
from vlmixer.artifacts.manifest import Output

VERSION = "http://mlcommons.org/croissant/1.0"
_DESCRIPTION = (
    "Vision-language training data without image-text pairs, made by vlmixer with cross-modal CutMix: words of "
    "sentences are replaced by image patches of the same concept."
)
_CITE = (
    "@inproceedings{wang2022vlmixer, title={VLMixer: Unpaired Vision-Language Pre-training via Cross-Modal CutMix}, "
    "author={Wang, Teng and Jiang, Wenhao and Lu, Zhichao and Zheng, Feng and Cheng, Ran and Yin, Chengguo and Luo, "
    "Ping}, booktitle={ICML}, year={2022}}"
)
_TERMS = (
    "citeAs column conformsTo extract field fileProperty fileObject fileSet format includes isLiveDataset jsonPath key "
    "md5 parentField path recordSet references regex repeated replace separator source subField transform"
).split()
_CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    **{term: f"cr:{term}" for term in _TERMS},
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}
_MEMBERS = {"json": "application/json", "txt": "text/plain", "npy": "application/octet-stream", "jpg": "image/jpeg"}
_TEXT = {"mixed": "the sentence", "images": "the image's tags, joined by commas"}


def write_croissant(folder: str, shards: Sequence[Output], crops: bool) -> None:
    """Write croissant.json for the `shards` of a folder. crops: whether samples have pictures."""
    parts = {name: [shard for shard in shards if shard.name.startswith(name)] for name in _TEXT}
    parts = {name: tars for name, tars in parts.items() if tars}
    members = [member for member in _MEMBERS if crops or member != "jpg"]
    content = {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": "vlmixer-shards",
        "description": _DESCRIPTION,
        "conformsTo": VERSION,
        "citeAs": _CITE,
        "distribution": [
            *(_tar(shard) for tars in parts.values() for shard in tars),
            *(_file_set(name, member, tars) for name, tars in parts.items() for member in members),
        ],
        "recordSet": [_record_set(name) for name in parts],
    }
    files.publish_bytes(files.join(folder, CROISSANT), manifest.canonical(content, indent=1))


def _tar(shard: Output) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": shard.name,
        "name": shard.name,
        "contentUrl": shard.name,
        "contentSize": f"{shard.bytes} B",
        "encodingFormat": "application/x-tar",
        "sha256": shard.sha256,
    }


def _file_set(name: str, member: str, tars: Sequence[Output]) -> dict[str, Any]:
    return {
        "@type": "cr:FileSet",
        "@id": f"{name}-{member}",
        "name": f"{name}-{member}",
        "containedIn": [{"@id": shard.name} for shard in tars],
        "encodingFormat": _MEMBERS[member],
        "includes": f"*.{member}",
    }


def _record_set(name: str) -> dict[str, Any]:
    """Key and text of each sample."""
    key = _field(name, "key", "the sample's key", {"fileProperty": "filename"})
    key["source"]["transform"] = {"regex": r"^(.*)\.txt$"}
    text = _field(name, "text", _TEXT[name], {"fileProperty": "content"})
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "key": {"@id": f"{name}/key"}, "field": [key, text]}


def _field(name: str, field: str, description: str, extract: Mapping[str, str]) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"{name}/{field}",
        "name": f"{name}/{field}",
        "description": description,
        "dataType": "sc:Text",
        "source": {"fileSet": {"@id": f"{name}-txt"}, "extract": dict(extract)},
    }
