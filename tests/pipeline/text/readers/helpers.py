"""What reading some slices gave, and files made on the fly, for the tests of the text readers."""

import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from vlmixer.artifacts import files
from vlmixer.artifacts.files import FileStat
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.pipeline.text.readers.base import TextSlice
from vlmixer.pipeline.text.readers.reader import SentenceReader
from vlmixer.pipeline.text.readers.slices import plan_slices


class Result:
    """Sentences as (key, text), rejects as (key, reason). Checks that the counts add up and ids are unique."""

    def __init__(self, slices: Sequence[TextSlice], **options: Any) -> None:
        log = RejectLog("tag")
        reader = SentenceReader(log, **options)
        found = list(reader.sentences(slices))
        self.sentences = [(sentence.key, sentence.text) for sentence in found]
        self.texts = [sentence.text for sentence in found]
        self.ids = [sentence.sentence_id for sentence in found]
        self.rejects = [(reject.key, reject.reason) for reject in log.rejects]
        self.reasons = [reject.reason for reject in log.rejects]
        self.details = [reject.detail for reject in log.rejects]
        self.inputs = reader.inputs
        self.read = reader.read
        assert reader.read == len(found) + len(log.rejects)
        assert len(set(self.ids)) == len(self.ids)


def write(path: Path, content: bytes) -> TextSlice:
    """The file, as one slice."""
    files.publish_bytes(str(path), content)
    return TextSlice(str(path), len(content))


def in_units(text_slice: TextSlice, unit_bytes: int, **options: Any) -> list[Result]:
    """What each unit gives when the slice's file is divided into units of that size."""
    return [Result(unit, **options) for unit in plan_slices([FileStat(text_slice.name, text_slice.size)], unit_bytes)]


def together(parts: Sequence[Result], name: str) -> list:
    """The lists of all parts, one after the other."""
    return [entry for part in parts for entry in getattr(part, name)]


def zst(data: bytes) -> bytes:
    """A Zstandard frame."""
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


def parquet(columns: Mapping[str, Any], rows_per_group: int = 2) -> bytes:
    """A Parquet file of these columns."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, row_group_size=rows_per_group)
    return buffer.getvalue()
