"""The small index files that other WebDataset readers expect: open_clip, timm and energon."""

import json
from collections.abc import Sequence
from typing import Any

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.manifest import Output

ENERGON_VERSION = "7.4.1"
"""The version whose layout of .nv-meta/ this is."""
ENERGON_FOLDER, VERSION = ".nv-meta/", "energon_version"
ENERGON_SPLITS = {"train": "mixed", "val": "none", "test": "none", "images": "images"}
OTHERS = "samples"
"""Samples that are not vlmixer's, which the transform WriteShards writes."""
ENERGON_TEXT = {
    "sample_type": {"__module__": "megatron.energon", "__class__": "TextSample"},
    "field_map": {"text": "txt"},
}


def is_others(tar: str) -> bool:
    """Whether the tar of this name holds samples that are not vlmixer's."""
    return tar.rpartition("/")[2].startswith(f"{OTHERS}-")


def own_tars(folder: str) -> list[str]:
    """The names of all tars with samples of vlmixer in a folder and below it, sorted."""
    return [name for name in files.list_files(folder) if name.endswith(".tar") and not is_others(name)]


def write_reader_indexes(folder: str, shards: Sequence[Output], pictures: bool) -> list[Output]:
    """Write the files of `reader_indexes` for the shards of `folder`."""
    contents = reader_indexes(shards, pictures)
    for name, content in contents.items():
        files.publish_bytes(files.join(folder, name), json.dumps(content, indent=1, sort_keys=True).encode() + b"\n")
    return [manifest.output_of(folder, name, len(shards)) for name in sorted(contents)]


def reader_indexes(shards: Sequence[Output], pictures: bool) -> dict[str, dict[str, Any]]:
    """The contents of .nv-meta/ (energon) for these shards, by name; of sizes.json (open_clip) and _info.json (timm)
    with pictures.

    Without pictures these two can use no sample, and open_clip would wait for one for ever.
    """
    splits = {}
    for split in ("mixed", "images", OTHERS):
        of_split = [shard for shard in sorted(shards, key=lambda shard: shard.name) if shard.name.startswith(split)]
        if of_split:
            splits[split] = {
                "name": split,
                "filenames": [shard.name for shard in of_split],
                "shard_lengths": [shard.rows for shard in of_split],
                "num_samples": sum(shard.rows for shard in of_split),
            }
    sizes = {shard.name: shard.rows for shard in shards}
    energon_splits = ENERGON_SPLITS
    if OTHERS in splits:
        energon_splits = ENERGON_SPLITS | ({OTHERS: OTHERS} if "mixed" in splits else {"train": OTHERS})
    parts = {split: splits[name]["filenames"] if name in splits else [] for split, name in energon_splits.items()}
    contents: dict[str, dict[str, Any]] = {
        ".nv-meta/.info.json": {VERSION: ENERGON_VERSION, "shard_counts": sizes},
        # JSON is YAML.
        ".nv-meta/split.yaml": {"split_parts": parts, "exclude": []},
        ".nv-meta/crude.yaml": {"__module__": "megatron.energon", "__class__": "CrudeWebdataset"},
    }
    if splits.keys() != {OTHERS}:
        contents[".nv-meta/dataset.yaml"] = ENERGON_TEXT
    if pictures:
        contents |= {"sizes.json": sizes, "_info.json": {"splits": splits}}
    return contents
