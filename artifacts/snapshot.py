"""Whether a stage's folder is still the one that was opened: readers that open files later must not mix two results."""

import hashlib

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.manifest import Manifest


class Snapshot:
    """A finished stage's folder, as its manifest described it when it was opened.

    A stage that writes its folder anew removes the manifest first. So a file that was opened, or read, before `check`
    returns is one of those that the manifest describes.
    """

    def __init__(self, folder: str, description: Manifest) -> None:
        self.folder = folder
        self._digest = hashlib.sha256(description.to_bytes()).digest()

    def check(self) -> None:
        """Raises UserError if the folder has been replaced, or removed, since it was opened."""
        path = files.join(self.folder, manifest.NAME)
        try:
            now = hashlib.sha256(files.read_bytes(path)).digest()
        except (FileNotFoundError, NotADirectoryError):
            now = b""
        if now != self._digest:
            raise UserError(f"{self.folder}: was replaced after it was opened. Open it again when it is complete.")


def unchecked() -> None:
    """Replaces `Snapshot.check` for files outside the stages' folders."""
