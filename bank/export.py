"""Exporting the results of a search with their provenance: crops as files, or a small WebDataset.

An export goes into a folder of its own, so that no set mixes the crops of two searches.
"""

import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Sequence

from vlmixer.artifacts import files, json_files, manifest
from vlmixer.artifacts.dataset_cards import CARD, LICENCE_OPEN, Part, dataset_card
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.schemas import PROVENANCE
from vlmixer.bank.records import Hit

CROPS_PER_SHARD = 10_000
LIST, SIZES, SHARD = "patches.jsonl", "sizes.json", re.compile(r"patches-\d{6,}\.tar")

_RECORD = {
    "row": "int64", "patch_id": "string", "image_id": "string", "concept": "string", "score": "float64",
    "box": ["float64"], "width": "int64", "height": "int64", "context": ["string"], "crop_start": "int64",
    "crop_bytes": "int64", **dict.fromkeys(PROVENANCE, "string"), "similarity": "float64",
}  # fmt: skip
_ABOUT = f"""\
# Image patches

Found by `vlmixer bank query`. A sample has `jpg`, the patch; `json`, its record; `txt`, its concept.

## Licence

The licences of the photos hold here, too. {LICENCE_OPEN}
"""


def save_hits(hits: Sequence[Hit], folder: str, *, overwrite: bool = False) -> None:
    """Write PATCH_ID.jpg for each hit, and patches.jsonl with one line per hit, in order, into `folder`.

    overwrite: whether to replace an earlier export there. Raises CallError if the folder is not empty without it.
    """
    claim_folder(folder, overwrite=overwrite)
    names = [f"{hit.patch.patch_id}.jpg" for hit in hits]
    lines = [manifest.canonical({**hit.to_json(), "file": name}) for hit, name in zip(hits, names, strict=True)]
    # Before the crops, so that `overwrite` also finds those of an interrupted export.
    files.publish_bytes(files.join(folder, LIST), b"".join(lines))
    for hit, name in zip(hits, names, strict=True):
        files.publish_bytes(files.join(folder, name), hit.patch.crop)


def claim_folder(folder: str, *, overwrite: bool) -> None:
    """Check that `folder` is empty or missing. overwrite: remove an earlier export first, and leave other files alone.

    Raises CallError.
    """
    if overwrite:
        for name in set(_exported(folder)):
            files.remove(files.join(folder, name))
    elif files.exists(folder) and not files.is_folder(folder):
        raise CallError(f"{folder}: is a file. Give a new folder.")
    elif files.list_files(folder):
        raise CallError(
            f"{folder}: not empty. Give a new folder, or --overwrite to replace what an earlier query wrote there."
        )


def _exported(folder: str) -> Iterator[str]:
    """The names of the files in `folder` that an earlier export wrote."""
    names = {name for name in files.list_files(folder) if "/" not in name}
    yield from (name for name in names if name in (LIST, SIZES, CARD) or SHARD.fullmatch(name))
    if LIST in names:
        for line in files.read_bytes(files.join(folder, LIST)).splitlines():
            try:
                name = json_files.parse(line)["file"]
            except (ValueError, KeyError, TypeError):  # not a list of ours
                continue
            if isinstance(name, str) and name.endswith(".jpg") and name in names:
                yield name


def write_webdataset(
    hits: Sequence[Hit], folder: str, *, per_shard: int = CROPS_PER_SHARD, overwrite: bool = False
) -> dict[str, int]:
    """Write the hits as shards, patches-000000.tar …; sizes.json, the number of samples in each shard; and a card.

    A sample is KEY.jpg, the crop; KEY.json, its record; KEY.txt, the concept. KEY is the patch id. Returns the sizes.
    Equal hits give equal bytes. overwrite: as for `save_hits`. Raises CallError if the folder is not empty without it.
    """
    claim_folder(folder, overwrite=overwrite)
    sizes = {}
    for number, start in enumerate(range(0, len(hits), per_shard)):
        shard = hits[start : start + per_shard]
        name = f"patches-{number:06d}.tar"
        with (
            files.publishing(files.join(folder, name)) as file,
            tarfile.open(fileobj=file, mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for hit in shard:
                for extension, data in _members(hit):
                    # A key ends at its first dot.
                    member = tarfile.TarInfo(f"{hit.patch.patch_id.replace('.', '_')}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        sizes[name] = len(shard)
    files.publish_bytes(files.join(folder, SIZES), json.dumps(sizes, indent=1).encode() + b"\n")
    part = Part("patches-*.tar", {"jpg": "image", "json": _RECORD, "txt": "string"})
    files.publish_bytes(files.join(folder, CARD), dataset_card({"patches": part}, _ABOUT))
    return sizes


def _members(hit: Hit) -> Iterable[tuple[str, bytes]]:
    yield "jpg", hit.patch.crop
    yield "json", json.dumps(hit.to_json(), ensure_ascii=False).encode()
    yield "txt", hit.patch.concept.encode()
