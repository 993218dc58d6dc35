"""Images that are files of their own: single files, folders and globs. loose.py has them in order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.files.http import PATIENT, FetchPolicy, NotFetched, fetch, is_web
from vlmixer.pipeline.image.readers.base import (
    FILES,
    ImageRef,
    InputFile,
    InputPiece,
    Unreadable,
    content_digest,
    map_ahead,
    read_errors,
    too_large,
    with_name_digest,
)
from vlmixer.pipeline.image.readers.records import read_provenance

MAX_SURVEYED_BYTES = 1 << 28
"""Of a file behind a URL, at most this much is compared with others."""
FILES_PER_PIECE = 4096
URLS_PER_PIECE = 256
"""Fewer, because each costs a request."""


@dataclass(frozen=True)
class FileReader:
    """Reads images that are files of their own. Takes every file that no other reader takes."""

    files_per_piece: int = FILES_PER_PIECE
    urls_per_piece: int = URLS_PER_PIECE
    fetch: FetchPolicy = PATIENT
    format = FILES
    one_unit_per_piece = False
    holds_images = True

    def takes(self, name: str, *, as_list: bool) -> bool:
        return True

    def plan(self, inputs: Sequence[InputFile]) -> list[InputPiece]:
        size = self.urls_per_piece if any(files.is_url(photo.name) for photo in inputs) else self.files_per_piece
        return [InputPiece(self.format, inputs[at : at + size]) for at in range(0, len(inputs), size)]

    def count(self, piece: InputPiece) -> int:
        return len(piece.files)

    def survey(self, piece: InputPiece, *, contents: bool) -> Iterator[ImageRef]:
        def look(photo: InputFile) -> ImageRef:
            ref = with_digest(ImageRef(photo.name, order=(photo.number, 0)), self.fetch, contents=contents)
            known = read_provenance(photo.companion) if photo.companion else None
            return ref if known is None else replace(ref, url=known[0], license=known[1])

        yield from map_ahead(iter(piece.files), look, piece.files[0].name)

    def read(self, refs: Sequence[ImageRef], max_bytes: float) -> Iterator[bytes | Unreadable]:
        if refs:
            yield from map_ahead(iter(refs), lambda ref: _read(ref.source, max_bytes, self.fetch), refs[0].source)


def with_digest(ref: ImageRef, policy: FetchPolicy = PATIENT, *, contents: bool) -> ImageRef:
    """With a digest of the file's bytes, or of its name if the file is empty or unreadable.

    Reading says why. Of what a web server does not give, the reference says so itself: it is not asked again.
    """
    if ref.reason or not contents:
        return with_name_digest(ref)
    if is_web(ref.source):
        data = fetch(ref.source, MAX_SURVEYED_BYTES, policy)
        if isinstance(data, NotFetched):
            return with_name_digest(replace(ref, reason=data.reason, detail=data.detail))
        return replace(ref, digest=content_digest(iter([data]))[0]) if data else with_name_digest(ref)
    try:
        digest, length = content_digest(files.read_blocks(ref.source))
    except UserError:
        raise
    except read_errors(ref.source):
        return with_name_digest(ref)
    return replace(ref, digest=digest) if length else with_name_digest(ref)


def _read(path: str, max_bytes: float, policy: FetchPolicy) -> bytes | Unreadable:
    if is_web(path):
        found = fetch(path, int(max_bytes) + 1, policy)
        if isinstance(found, NotFetched):
            return Unreadable(found.reason, found.detail)
        return found if len(found) <= max_bytes else too_large(len(found))
    try:
        data = files.read_start(path, int(max_bytes) + 1)
    except UserError:
        raise
    except read_errors(path) as error:
        what = (error.strerror if isinstance(error, OSError) else None) or error
        return Unreadable("unreadable_file", f"{type(error).__name__}: {what}")
    return data if len(data) <= max_bytes else too_large(len(data))
