"""Reading members of tars in tests."""

import tarfile


def member_bytes(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a regular member."""
    file = tar.extractfile(member)
    assert file is not None, f"{member.name} is not a regular file"
    return file.read()
