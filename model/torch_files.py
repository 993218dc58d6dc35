"""Looks into files of torch.save without unpickling them: what their pickles would call. Needs no torch.

`torch.load` with weights_only runs no code of a file. But a file of 200 bytes can make it fill the memory.
"""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from typing import IO

from vlmixer.artifacts import files

ALLOWED = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
"""What the pickle of an optimizer's state names: tensors of float32 and their hooks."""
SWELLING = {
    "builtins bytearray", "__builtin__ bytearray", "_codecs encode",
    "torch._utils _rebuild_device_tensor_from_cpu_tensor",
}  # fmt: skip
"""What torch.load may call and what makes any amount of memory of a few bytes. Tensors by name need none of them."""
NAMING = {"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Instructions that name something in a way that torch.save does not write."""
MAX_BYTES = 1 << 26
"""Of an optimizer's pickle. The numbers are elsewhere in the file."""
OLD_PICKLES = 5
"""In a file of the format before zip files: magic number, version, machine, content, and names of the storages."""


def check_optimizer(path: str) -> None:
    """Raises ValueError if the file is none of torch.save, or if its pickle names anything but tensors. Or OSError."""
    with files.open_read(path) as file:
        try:
            _check_unpacked(file)
            with zipfile.ZipFile(file) as packed:
                places = [each for each in packed.infolist() if each.filename.lower().endswith("data.pkl")]
                if len(places) != 1 or places[0].file_size > MAX_BYTES:
                    raise ValueError("expected what torch.save writes, with one pickle")
                data = packed.read(places[0])
        except (zipfile.BadZipFile, RuntimeError, EOFError) as error:
            raise ValueError(f"not a file of torch.save ({error})") from None
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name in NAMING or (instruction.name == "GLOBAL" and argument not in ALLOWED):
            raise ValueError(f"its pickle names {str(argument)[:100]!r}, which is no tensor; nobody should load it")


def check_size(file: IO[bytes]) -> None:
    """Raises ValueError if what torch.load makes of the open file can take much more memory than the file has bytes, or
    what pickletools and zipfile raise."""
    is_zip = file.read(2) == b"PK"
    file.seek(0)
    if is_zip:
        _check_unpacked(file)
    for name in _named_in_zip(file) if is_zip else _named(file, OLD_PICKLES):
        if name in SWELLING:
            raise ValueError(f"its pickle calls {name.replace(' ', '.')}, which could fill the memory")
    file.seek(0)


def _check_unpacked(file: IO[bytes]) -> None:
    """Raises ValueError if members of a zip file are packed, or have more bytes than the file: torch.save packs none,
    and packed ones could fill the memory."""
    members = zipfile.ZipFile(file).infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > file.seek(0, io.SEEK_END) or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError(f"its members would unpack to {unpacked:,} bytes")


def _named_in_zip(file: IO[bytes]) -> Iterator[str]:
    with zipfile.ZipFile(file) as packed:
        for member in packed.infolist():
            if member.filename.lower().endswith("data.pkl"):  # torch finds it in any case
                with packed.open(member) as content:
                    yield from _named(content, 1)


def _named(file: IO[bytes], pickles: int) -> Iterator[str]:
    """The classes and functions that so many pickles in a row name, as "MODULE NAME"."""
    for _ in range(pickles):
        for instruction, argument, _ in pickletools.genops(file):
            if instruction.name == "GLOBAL":
                yield str(argument)
