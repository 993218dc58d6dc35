import io
import tarfile

import pytest
from tests.tars import member_bytes

from vlmixer.artifacts.tars import plain_header, plain_members

MEMBERS = [("a.json", b"{}"), ("a.txt", b""), ("a.npy", b"x" * 512), ("b.json", b"y" * 1300)]


def tar_of(*named, **fields):
    """A tar of members with these fields of a TarInfo."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, data in named:
            member = tarfile.TarInfo(name)
            for field, value in fields.items():
                setattr(member, field, value)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def plain_tar(*named):
    blocks = [plain_header(name, len(data)) + data + bytes(-len(data) % 512) for name, data in named]
    return b"".join(blocks) + bytes(1024)


def read(data, at_once=1 << 20, start=0):
    """The members, and where reading stopped."""
    file = io.BytesIO(data)
    file.seek(start)
    found, reading = [], plain_members(file, at_once)
    while True:
        try:
            found.append(next(reading))
        except StopIteration as end:
            return found, end.value


@pytest.mark.parametrize("at_once", [1300, 2000, 1 << 20])
def test_plain_members_are_those_that_tarfile_finds(at_once):
    data = plain_tar(*MEMBERS)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(member.name, member_bytes(tar, member)) for member in tar] == MEMBERS
        assert read(data, at_once) == (MEMBERS, tar.offset)


def test_reading_begins_where_the_file_stands():
    data = plain_tar(*MEMBERS)
    assert read(data, start=1024) == (MEMBERS[1:], len(data) - 1024)


@pytest.mark.parametrize(
    "fields",
    [{"mtime": 1}, {"uid": 7}, {"mode": 0o600}, {"uname": "me"}, {"type": tarfile.DIRTYPE}, {"type": tarfile.SYMTYPE}],
)
def test_reading_stops_before_a_member_with_other_fields(fields):
    first, others = plain_tar(*MEMBERS[:2])[:-1024], tar_of(*MEMBERS[2:], **fields)
    assert read(first + others) == (MEMBERS[:2], len(first))


def test_reading_stops_before_a_long_name():
    assert read(tar_of(("x" * 101 + ".json", b"{}"))) == ([], 0)


def test_reading_stops_before_a_header_with_any_flipped_bit():
    data = plain_tar(*MEMBERS)
    for position in range(512):
        damaged = bytearray(data)
        damaged[1024 + position] ^= 1 << position % 8
        assert read(bytes(damaged)) == (MEMBERS[:1], 1024)


def test_reading_stops_before_a_name_with_something_after_its_end():
    header = bytearray(plain_header("a.json", 2))
    header[8] = ord("x")
    header[148:154] = b"%06o" % (int(header[148:154], 8) + ord("x"))
    data = bytes(header) + b"{}" + bytes(510 + 1024)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert tar.getnames() == ["a.json"]
    assert read(data) == ([], 0)


def test_reading_stops_before_a_member_that_is_cut_off():
    data = plain_tar(*MEMBERS)
    begin = len(data) - 1024 - 512 - 1536
    for length in range(begin, len(data) - 1024):
        assert read(data[:length]) == (MEMBERS[:3], begin)


def test_reading_stops_before_a_member_that_is_longer_than_what_is_read_at_once():
    assert read(plain_tar(*MEMBERS), at_once=1299) == (MEMBERS[:3], 512 + 512 + 512 + 512 + 512)
    assert read(plain_header("a.json", 8 << 30 - 1)) == ([], 0)
