"""Tars of WebDataset samples: members that share a name up to their extensions are one sample.

Extensions begin at the first dot before a letter, in any case: "000.TXT" is the text of 000, "img.0001.txt" that of
img.0001, and "000.meta.json" belongs to 000 but is not its .json member.
"""

import codecs
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Literal

from vlmixer.artifacts.tars import open_tar
from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable, decode_text
from vlmixer.pipeline.text.readers.fields import text_of_json
from vlmixer.pipeline.text.readers.packing import ERRORS, is_packed, unpack

_SIDE = (".ds_store", "thumbs.db", "desktop.ini")
"""What file managers leave in folders."""
_NAME = re.compile(r"(.+?)((?:\.[a-zA-Z_][^./]*)+)", re.DOTALL)
_BLOCK = 1 << 16
MAX_SHOWN = 200
"""Characters of a name, which may have a megabyte."""
MAX_WITHOUT_TEXT = 100_000
"""Samples before the first with text. A packed tar of a megabyte can have millions."""
MAX_PADDING = 1 << 26
"""Bytes of zeros after the archive's end."""


class TarSamples:
    """A record per sample: the text of its .txt member, else the field of its .json member. A sample without either
    is unusable, and a tar without any is so as a whole. The position is the byte at which a member's content begins."""

    splits = False
    is_text = False
    errors: tuple[type[Exception], ...] = (tarfile.TarError,)

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        # Samples without text are held until the first one with text: without any, the tar is one reject.
        held: list[Record] | None = []
        empty = True
        # A plain file goes past members by seeking: a header may say any size, and the file may be mostly a hole.
        mode: Literal["r:", "r|"] = "r|" if is_packed(text_slice.name) else "r:"
        with open_tar(unpack(text_slice.name, file), mode) as tar:
            for sample in _samples(tar, options):
                empty = False
                if held is None:
                    yield sample.record
                elif not sample.has_text and len(held) == MAX_WITHOUT_TEXT:
                    detail = f"no .txt or .json member in its first {MAX_WITHOUT_TEXT:,} samples"
                    yield Record(-1, Unusable("missing_field", detail))
                    return
                elif not sample.has_text:
                    held.append(sample.record)
                else:
                    yield from held
                    held = None
                    yield sample.record
            follows = _follows(tar)
        if held is not None:
            detail = "the archive has no members" if empty else "no .txt or .json member"
            yield Record(-1, Unusable("missing_field", detail))
        if follows:
            detail = (
                "more data follows the end of the archive and was not read; if these are tars one after the other, "
            )
            yield Record(-1, Unusable("unreadable_file", detail + "give them as separate files"))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("tars are not split")


@dataclass
class _Sample:
    """The members of one sample as far as they were read."""

    key: str
    position: int
    found: Record | None = None
    is_text: bool = False

    @property
    def has_text(self) -> bool:
        """Whether it has a .txt or .json member, usable or not."""
        return self.found is not None

    @property
    def record(self) -> Record:
        """Its text, or that it has none."""
        if self.found is not None:
            return self.found
        return Record(
            self.position, Unusable("missing_field", f"sample {self.key[:MAX_SHOWN]}: no .txt or .json member")
        )


def _samples(tar: tarfile.TarFile, options: ReadOptions) -> Iterator[_Sample]:
    sample: _Sample | None = None
    try:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile would remember all of them
            folder, slash, base = member.name.rpartition("/")
            if member.isdir() or base.startswith("._") or base.lower() in _SIDE or "__MACOSX" in folder.split("/"):
                continue
            found = _NAME.fullmatch(base)
            stem, ending = (found[1], found[2][1:].lower()) if found else (base, "")
            if sample is None or sample.key != folder + slash + stem:
                if sample is not None:
                    yield sample
                sample = _Sample(folder + slash + stem, member.offset_data)
            if ending == "txt" and not sample.is_text:
                sample.found, sample.is_text = _text(tar, member, options, is_json=False), True
            elif ending == "json" and not sample.has_text:
                sample.found = _text(tar, member, options, is_json=True)
    except (*ERRORS, tarfile.TarError):
        # What was read of the last sample may be whole.
        if sample is not None and sample.has_text:
            yield sample
        raise
    if sample is not None:
        yield sample


def _text(tar: tarfile.TarFile, member: tarfile.TarInfo, options: ReadOptions, *, is_json: bool) -> Record:
    if not member.isfile() or member.islnk():
        detail = f"{member.name} is a link to {member.linkname}; links in tars are not followed"
        return Record(member.offset_data, Unusable("missing_field", detail))
    inner = tar.extractfile(member) if member.size <= options.max_line_bytes else None
    data = inner.read().removeprefix(codecs.BOM_UTF8) if inner is not None else None
    text = decode_text(data, options)
    if is_json and isinstance(text, str):
        return Record(member.offset_data, text_of_json(text, options.field))
    return Record(member.offset_data, text)


def _follows(tar: tarfile.TarFile) -> bool:
    """Whether anything but zeros follows the end of the archive, or more zeros than tar programs write."""
    for _ in range(0, MAX_PADDING, _BLOCK):
        block = tar.fileobj.read(_BLOCK)
        if block.strip(b"\0"):
            return True
        if not block:
            return False
    return True
