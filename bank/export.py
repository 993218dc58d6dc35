"""Taking found patches out of a bank: their crops as files, with where they come from."""

from collections.abc import Sequence

from artifacts import files, manifest
from bank.store import Hit, PatchBank


def save_hits(bank: PatchBank, hits: Sequence[Hit], folder: str) -> None:
    """Write PATCH_ID.jpg for each hit and patches.jsonl, a line a hit in order, into `folder`."""
    lines = []
    for hit in hits:
        name = f"{hit.patch.patch_id}.jpg"
        files.publish_bytes(files.join(folder, name), bank.crop(hit.patch))
        lines.append(manifest.canonical({**vars(hit.patch), "similarity": hit.similarity, "file": name}))
    files.publish_bytes(files.join(folder, "patches.jsonl"), b"".join(lines))
