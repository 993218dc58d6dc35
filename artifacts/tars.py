"""Opening tars so that a damaged or truncated one is noticed.

Python's tarfile takes a broken header, and a file that stops, for the end of the archive. The true end is a block of
zeros.
"""

import tarfile
from typing import IO, Literal, Self

MAX_HEADER_BYTES = 1 << 20
"""Of the long names and extra fields of a member, which tarfile reads into memory."""
_EXTRA = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
"""Types of members that only describe the next one."""


class _StrictMember(tarfile.TarInfo):
    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        found = super().frombuf(buf, encoding, errors)
        if found.type in _EXTRA and found.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a member with {found.size:,} bytes of names and fields")
        return found

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except RecursionError:
            raise tarfile.ReadError(f"hundreds of headers in a row at byte {archive.offset}") from None
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # the block of zeros
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"the archive is damaged or breaks off at byte {archive.offset}: {error}") from None


def open_tar(file: IO[bytes], mode: Literal["r:", "r|"] = "r:") -> tarfile.TarFile:
    """An open file as a tar. mode: "r:" for files that can seek, "r|" for streams.

    Iterating over it raises tarfile.ReadError where the archive is damaged or breaks off; so does opening it.
    """
    return tarfile.open(fileobj=file, mode=mode, tarinfo=_StrictMember)
