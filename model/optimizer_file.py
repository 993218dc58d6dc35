"""Looks into a checkpoint's optimizer.pt without unpickling it: what its pickle would call. Needs no torch."""

import pickletools
import zipfile

from vlmixer.artifacts import files

ALLOWED = {"torch._utils _rebuild_tensor_v2", "torch FloatStorage", "collections OrderedDict"}
"""What the pickle of an optimizer's state names: tensors of float32 and their hooks."""
NAMING = {"INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4"}
"""Instructions that name something in a way that torch.save does not write."""
MAX_BYTES = 1 << 26
"""Of the pickle. The numbers are elsewhere in the file."""


def check_optimizer(path: str) -> None:
    """Raises ValueError if the file is none of torch.save, or if its pickle names anything but tensors. Or OSError."""
    with files.open_read(path) as file:
        try:
            with zipfile.ZipFile(file) as packed:
                places = [each for each in packed.infolist() if each.filename.endswith("/data.pkl")]
                if len(places) != 1 or places[0].file_size > MAX_BYTES:
                    raise ValueError("expected what torch.save writes, with one pickle")
                data = packed.read(places[0])
        except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            raise ValueError(f"not a file of torch.save ({error})") from None
    for instruction, argument, _ in pickletools.genops(data):
        if instruction.name in NAMING or (instruction.name == "GLOBAL" and argument not in ALLOWED):
            raise ValueError(f"its pickle names {str(argument)[:100]!r}, which is no tensor; nobody should load it")
