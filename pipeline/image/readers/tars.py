"""WebDataset tars. Members of one name up to its first dot are one sample; a sample's .json member gives its origin."""

import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import IO

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rng import stable_hash
from vlmixer.artifacts.tars import open_tar
from vlmixer.pipeline.image.formats import ENDINGS, MAGIC_BYTES, is_hidden, looks_like_image
from vlmixer.pipeline.image.readers.base import (
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    content_digest,
    read_errors,
    too_large,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.records import MAX_RECORD_BYTES, failed_download, parse_provenance

PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
BLOCK_BYTES = 1 << 20
MAX_MEMBERS = 1000
"""Of a sample; the rest is not looked at."""
BREAKS_OFF = Unreadable("unreadable_file", "the archive ends within it")


@dataclass(frozen=True)
class TarReader:
    """Reads tars. Each is one piece, since only a pass over it finds its members."""

    format = "tar"
    one_unit_per_piece = False
    holds_images = True

    def takes(self, name: str, *, as_list: bool) -> bool:
        return name.lower().endswith((".tar", *PACKED))

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        for file in inputs:
            if file.name.lower().endswith(PACKED):
                raise CallError(
                    f"images.inputs: {file.name} is a packed tar, which cannot be read from the middle. "
                    "Unpack it to a plain .tar."
                )
        return [InputPiece(self.format, (file,), 0, file.size) for file in inputs]

    def count(self, piece: InputPiece) -> None:
        return None

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        (archive,) = piece.files
        errors: tuple[type[Exception], ...] = (*read_errors(archive.name), tarfile.TarError, EOFError, ValueError)
        try:
            with files.open_read(archive.name) as file, open_tar(file) as tar:
                seen: set[int] = set()
                members = _Members(tar)
                for _, sample in groupby(members, key=lambda member: member_key(member.name)):
                    yield from _images(list(islice(sample, MAX_MEMBERS)), archive, file, seen, contents=contents)
                if members.error is not None:
                    raise members.error
        except UserError:
            raise
        except errors as error:
            whole = ImageRef(archive.name, format=self.format, order=(archive.number, piece.stop))
            detail = str(error) if isinstance(error, tarfile.TarError) else f"{type(error).__name__}: {error}"
            yield with_name_digest(replace(whole, reason="unreadable_file", detail=detail))

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        for source, run in groupby(refs, key=lambda ref: ref.source):
            yield from _read(source, list(run), max_bytes)


class _Members:
    """The members of a tar except folders. They end at a damaged place, and `error` is what tarfile raised, so that
    groupby still gives the sample before it."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        try:
            while (member := self._tar.next()) is not None:
                self._tar.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
                if not member.isdir():
                    yield member
        except (tarfile.TarError, EOFError, ValueError) as error:
            self.error = error


def member_key(name: str) -> str:
    """WebDataset's key of a member: its path up to the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _images(
    members: list[tarfile.TarInfo], archive: InputFile, file: IO[bytes], seen: set[int], *, contents: bool
) -> Iterator[ImageRef]:
    """The images of a sample, or one reference that says that it has none. seen: hashes of the keys given so far."""
    candidates = [member for member in members if not is_hidden(member.name)]
    images = (
        [member for member in candidates if _ending(member, first=True) in ENDINGS]
        or [member for member in candidates if _ending(member, first=False) in ENDINGS]
        or [member for member in candidates if looks_like_image(_start(member, file))]
    )
    blank = ImageRef(archive.name, format=TarReader.format)
    if not images:
        names = ", ".join(_printable(member.name) for member in members)
        ref = replace(blank, key=_printable(members[0].name), order=(archive.number, members[0].offset))
        if failed := _failed_download(members, file):
            yield with_name_digest(replace(ref, reason="not_downloaded", detail=failed))
        else:
            yield with_name_digest(replace(ref, reason="no_image", detail=names))
        return
    url, rights = _provenance(members, file)
    for member in images:
        key = _printable(member.name)
        hashed = stable_hash(key)
        if hashed in seen:
            key = f"{key}@{member.offset}"
        seen.add(hashed)
        ref = replace(
            blank, key=key, position=member.offset_data, size=member.size, url=url, license=rights,
            order=(archive.number, member.offset),
        )  # fmt: skip
        if not member.isfile():
            ref = replace(ref, reason="unreadable_file", detail="a link")
        elif member.offset_data + member.size > archive.size:
            ref = replace(ref, reason=BREAKS_OFF.reason, detail=BREAKS_OFF.detail)
        if ref.reason or not contents or not member.size:
            yield with_name_digest(ref)
        else:
            yield replace(ref, digest=content_digest(_blocks(file, member.offset_data, member.size))[0])


def _failed_download(members: Sequence[tarfile.TarInfo], file: IO[bytes]) -> str:
    """How the download of the sample failed, as img2dataset's record says; "" if it does not."""
    for member in members:
        if _ending(member, first=True) == "json" and member.isfile() and member.size <= MAX_RECORD_BYTES:
            file.seek(member.offset_data)
            with suppress(ValueError, RecursionError):
                return failed_download(json.loads(file.read(member.size)))
    return ""


def _provenance(members: Sequence[tarfile.TarInfo], file: IO[bytes]) -> tuple[str, str]:
    found = "", ""
    for member in members:
        if _ending(member, first=True) == "json" and member.isfile() and member.size <= MAX_RECORD_BYTES:
            file.seek(member.offset_data)
            found = parse_provenance(file.read(member.size)) or found
    return found


def _start(member: tarfile.TarInfo, file: IO[bytes]) -> bytes:
    if not member.isfile():
        return b""
    file.seek(member.offset_data)
    return file.read(min(member.size, MAGIC_BYTES))


def _blocks(file: IO[bytes], start: int, size: int) -> Iterator[bytes]:
    file.seek(start)
    while size > 0 and (block := file.read(min(size, BLOCK_BYTES))):
        yield block
        size -= len(block)


def _ending(member: tarfile.TarInfo, *, first: bool) -> str:
    """The ending of a member's name after its first or last dot, in lower case."""
    base = member.name.rpartition("/")[2]
    return (base.partition(".")[2] if first else base.rpartition(".")[2]).lower()


def _printable(name: str) -> str:
    """tarfile shows bytes that are not valid UTF-8 as lone surrogates, which no output file can hold."""
    return name.encode(errors="backslashreplace").decode()


def _read(source: str, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
    done = 0
    try:
        with files.open_read(source) as file:
            for ref in refs:
                result: bytes | Unreadable
                if ref.size > max_bytes:
                    result = too_large(ref.size)
                else:
                    file.seek(ref.position)
                    result = file.read(ref.size)
                    if len(result) < ref.size:
                        result = BREAKS_OFF
                done += 1
                yield result
    except UserError:
        raise
    except read_errors(source) as error:
        for _ in refs[done:]:
            yield Unreadable("unreadable_file", f"{type(error).__name__}: {error}")
