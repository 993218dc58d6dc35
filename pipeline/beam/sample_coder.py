"""How samples travel between workers: the members of their tars, one after the other. Nothing is pickled."""

import struct
from collections.abc import Iterable, Iterator

import apache_beam as beam

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, decode, encode

_SIZES = struct.Struct("<HQ")


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """Names and contents of members as bytes."""
    named = ((name.encode(), data) for name, data in members)
    return b"".join(_SIZES.pack(len(name), len(data)) + name + data for name, data in named)


def unpack(packed: bytes) -> Iterator[tuple[str, bytes]]:
    """What was packed."""
    at = 0
    while at < len(packed):
        length, size = _SIZES.unpack_from(packed, at)
        at += _SIZES.size
        yield packed[at : at + length].decode(), packed[at + length : at + length + size]
        at += length + size


class SampleCoder(beam.coders.Coder):
    """Beam's coder of MixedSample and ImageSample."""

    def encode(self, value: Sample) -> bytes:
        return pack(encode(value))

    def decode(self, encoded: bytes) -> Sample:
        """The sample. Raises UserError for one that was made with features or a key of a wrong type."""
        members: dict[str, bytes] = {}
        key = ""
        for name, data in unpack(encoded):
            key, _, extension = name.rpartition(".")
            members[extension] = data
        try:
            return decode(key, members)
        except ValueError as error:
            raise UserError(f"a sample with the key {key[:100]!r} cannot be written: {error}") from error

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return MixedSample


def register() -> None:
    """Let Beam use the coder for both kinds of samples."""
    for kind in (MixedSample, ImageSample):
        beam.coders.registry.register_coder(kind, SampleCoder)
