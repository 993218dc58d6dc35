"""Exporting the results of a search with their provenance: crops as files, or a small WebDataset."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence

from vlmixer.artifacts import files, manifest
from vlmixer.bank.records import Hit

CROPS_PER_SHARD = 10_000


def save_hits(hits: Sequence[Hit], folder: str) -> None:
    """Write PATCH_ID.jpg for each hit, and patches.jsonl with one line per hit, in order, into `folder`."""
    lines = []
    for hit in hits:
        name = f"{hit.patch.patch_id}.jpg"
        files.publish_bytes(files.join(folder, name), hit.patch.crop)
        lines.append(manifest.canonical({**hit.to_json(), "file": name}))
    files.publish_bytes(files.join(folder, "patches.jsonl"), b"".join(lines))


def write_webdataset(hits: Sequence[Hit], folder: str, *, per_shard: int = CROPS_PER_SHARD) -> dict[str, int]:
    """Write the hits as shards, patches-000000.tar …, and sizes.json, the number of samples in each shard.

    A sample is KEY.jpg, the crop; KEY.json, its record; KEY.txt, the concept. KEY is the patch id. Returns the sizes.
    Equal hits give equal bytes.
    """
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
    files.publish_bytes(files.join(folder, "sizes.json"), json.dumps(sizes, indent=1).encode() + b"\n")
    return sizes


def _members(hit: Hit) -> Iterable[tuple[str, bytes]]:
    yield "jpg", hit.patch.crop
    yield "json", json.dumps(hit.to_json(), ensure_ascii=False).encode()
    yield "txt", hit.patch.concept.encode()
