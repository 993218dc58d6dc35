"""Tars of WebDataset samples: members that share a name up to its first dot are one sample."""

import codecs
import tarfile
from collections.abc import Iterator
from typing import IO

from vlmixer.artifacts.tars import open_tar
from vlmixer.pipeline.text.readers.base import ReadOptions, Record, TextSlice, Unusable, decode, text_of_json
from vlmixer.pipeline.text.readers.packing import unpack


class TarSamples:
    """A record per sample: the text of its .txt member, else the field of its .json member. Samples without either
    are passed over. The position is the byte at which the member's content begins."""

    splits = False
    errors: tuple[type[Exception], ...] = (tarfile.TarError,)

    def read(self, text_slice: TextSlice, file: IO[bytes], options: ReadOptions) -> Iterator[Record]:
        stream = unpack(text_slice.name, file)
        held: tuple[str, int, bytes | None] | None = None
        done = ""
        found = False
        with open_tar(stream, "r|") as tar:
            for member in tar:
                tar.members = []  # type: ignore[attr-defined]  # tarfile would remember all of them
                folder, slash, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key = folder + slash + stem
                if held is not None and held[0] != key:
                    yield _json_record(*held[1:], options)
                    held = None
                if not member.isfile() or ending not in ("txt", "json") or key == done:
                    continue
                found = True
                inner = tar.extractfile(member) if member.size <= options.max_line_bytes else None
                data = inner.read().removeprefix(codecs.BOM_UTF8) if inner is not None else None
                if ending == "txt":
                    held, done = None, key
                    yield Record(member.offset_data, decode(member.offset_data, data, options))
                else:
                    held = (key, member.offset_data, data)
            if held is not None:
                yield _json_record(*held[1:], options)
        if not found:
            yield Record(-1, Unusable("missing_field", "no .txt or .json member"))

    def bytes_read(self, text_slice: TextSlice, file: IO[bytes], records: int, position: int) -> int:
        raise NotImplementedError("tars are not split")


def _json_record(position: int, data: bytes | None, options: ReadOptions) -> Record:
    text = decode(position, data, options)
    return Record(position, text if isinstance(text, Unusable) else text_of_json(text, options.field))
