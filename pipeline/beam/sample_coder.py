"""How samples travel between workers: the members of their tars, one after the other. Nothing is pickled."""

import struct

import apache_beam as beam

from vlmixer.artifacts.samples import ImageSample, MixedSample, Sample, decode, encode

_SIZES = struct.Struct("<HQ")


class SampleCoder(beam.coders.Coder):
    """Beam's coder of MixedSample and ImageSample."""

    def encode(self, value: Sample) -> bytes:
        return b"".join(_SIZES.pack(len(name), len(data)) + name.encode() + data for name, data in encode(value))

    def decode(self, encoded: bytes) -> Sample:
        members: dict[str, bytes] = {}
        key, at = "", 0
        while at < len(encoded):
            length, size = _SIZES.unpack_from(encoded, at)
            at += _SIZES.size
            key, _, extension = encoded[at : at + length].decode().rpartition(".")
            members[extension] = encoded[at + length : at + length + size]
            at += length + size
        return decode(key, members)

    def is_deterministic(self) -> bool:
        return True

    def to_type_hint(self) -> type:
        return MixedSample


def register() -> None:
    """Let Beam use the coder for both kinds of samples."""
    for kind in (MixedSample, ImageSample):
        beam.coders.registry.register_coder(kind, SampleCoder)
