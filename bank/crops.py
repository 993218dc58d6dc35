"""Reading the crops of a bank: memory-mapped where the file is local, by ranges of bytes where it is not."""

import mmap
from collections.abc import Callable
from functools import cached_property

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.snapshot import unchecked


class CropFile:
    """The JPEGs of all patches, one after the other, in a file at a path or URL."""

    def __init__(self, path: str, check: Callable[[], None] = unchecked) -> None:
        """check: called after a local file was opened, and after each reading from a URL; raises if it was replaced."""
        self.path = path
        self._check = check

    def read(self, patch_id: str, start: int, size: int) -> bytes:
        """The JPEG of a patch: `size` bytes from `start` on. Raises UserError if the file ends before that."""
        if files.is_url(self.path):
            data = files.read_ranges(self.path, [(start, start + size)])[0]
            self._check()
        else:
            data = self._mapped[start : start + size]
        if len(data) != size or start < 0:
            raise UserError(
                f"{self.path}: ends before the crop of patch {patch_id}. Run `vlmixer verify` on the bank's folder, "
                "then build the bank again."
            )
        return data

    @cached_property
    def _mapped(self) -> mmap.mmap | bytes:
        with open(self.path, "rb") as file:
            # An empty file cannot be mapped.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if files.size(self.path) else b""
        self._check()
        return mapped

    def __getstate__(self) -> dict[str, object]:
        """For pickling: without the mapped file, which is opened again when it is first used."""
        return {name: value for name, value in vars(self).items() if name != "_mapped"}
