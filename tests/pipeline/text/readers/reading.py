"""What reading some slices gave, for the tests of sources, lines and slices."""

import io
import tarfile
from collections.abc import Sequence

import zstandard

from vlmixer.artifacts import files
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.text.readers.slices import Slice, plan_slices
from vlmixer.pipeline.text.readers.sources import Reading


class Result:
    """Lines as (key, text), rejects as (key, reason); the counts are checked in passing."""

    def __init__(self, slices: Sequence[Slice], **options):
        log = RejectLog("tag")
        reading = Reading(log, **options)
        found = list(reading.lines(slices))
        self.lines = [(line.key, line.text) for line in found]
        self.texts = [line.text for line in found]
        self.ids = [line.sentence_id for line in found]
        self.rejects = [(reject.key, reject.reason) for reject in log.rejects]
        self.details = [reject.detail for reject in log.rejects]
        self.inputs = reading.inputs
        self.read = reading.read
        assert reading.read == len(found) + len(log.rejects)
        assert len(set(self.ids)) == len(self.ids)


def write(path, content: bytes) -> Slice:
    """The file, as one slice."""
    files.publish_bytes(str(path), content)
    return Slice(str(path), len(content))


def in_units(piece: Slice, unit_bytes: int, **options) -> list[Result]:
    """What each unit gives where the slice's file is divided."""
    return [Result(unit, **options) for unit in plan_slices([FileStat(piece.name, piece.size)], unit_bytes)]


def together(parts: Sequence[Result], name: str) -> list:
    """A list of all parts, one after the other."""
    return [entry for part in parts for entry in getattr(part, name)]


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def tar(members: Sequence[tuple[str, bytes | None]]) -> bytes:
    """An archive of these members; None is a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            if content is None:
                member.type = tarfile.DIRTYPE
            member.size = len(content or b"")
            archive.addfile(member, io.BytesIO(content or b""))
    return buffer.getvalue()
