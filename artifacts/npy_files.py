"""The .npy files that this program writes, and reading them. Whatever a file holds instead is one message.

An array is read into memory only if the file has all of its bytes: the header alone could ask for any size.
`packed` and `unpacked` are for the small arrays in shards.
"""

import io
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, Any, Literal

import numpy as np

from vlmixer.artifacts import files
from vlmixer.artifacts.errors import UserError

PREFIX = 10
"""Bytes before the header proper: magic, version 1.0, and its length in two bytes."""
HEADER = 128
"""Bytes before the first number, as numpy writes them for arrays of plain numbers in few dimensions."""
BROKEN = (OSError, ValueError, OverflowError, EOFError, SyntaxError, TypeError, KeyError, MemoryError, RecursionError)
"""What numpy raises for the header of a file that is not one of ours."""


@dataclass(frozen=True)
class Kind:
    """What an array must be. width: of its rows; None: it has one dimension."""

    dtype: Any
    width: int | None = None


def header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array in C order that follows. Raises what is in BROKEN."""
    head = file.read(PREFIX)
    if head[:-2] != b"\x93NUMPY\x01\x00":
        raise ValueError("not a .npy file of version 1.0")
    head += file.read(int.from_bytes(head[-2:], "little"))
    stream = io.BytesIO(head)
    np.lib.format.read_magic(stream)
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if fortran or dtype.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape} that this program would not write")
    return shape, dtype


def read(path: str, *kinds: Kind, advice: str) -> list[np.ndarray]:
    """The arrays in a file, one after the other. Raises UserError if it has anything else, or is missing.

    advice: what to do then.
    """
    try:
        size = files.size(path)
        with files.open_read(path) as file:
            found = [_next(file, size, kind) for kind in kinds]
            if file.read(1):
                raise ValueError("more bytes than its header says")
            return found
    except UserError:
        raise
    except BROKEN as error:
        raise UserError(f"{path}: damaged ({str(error)[:200]}). {advice}") from None


def _next(file: IO[bytes], size: int, kind: Kind) -> np.ndarray:
    shape, dtype = header(file)
    row = () if kind.width is None else (kind.width,)
    if dtype != np.dtype(kind.dtype) or not shape or shape[1:] != row:
        raise ValueError(f"{dtype} of shape {shape}, which is not what this program writes there")
    length = math.prod(shape) * dtype.itemsize
    if length > size or len(data := file.read(length)) < length:
        raise ValueError(f"ends before the last of its {math.prod(shape):,} numbers")
    return np.frombuffer(data, dtype).reshape(shape)


def packed(array: np.ndarray) -> bytes:
    """The bytes of a .npy file of the array, in C order."""
    return _header_of(array.dtype.str, array.shape) + array.tobytes()


@lru_cache(maxsize=1024)
def _header_of(dtype: str, shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def unpacked(data: bytes) -> np.ndarray:
    """The array in the bytes of a .npy file, whoever wrote it; read-only. Raises what is in BROKEN if it is damaged, or
    has objects, which would be a pickle."""
    end = data.index(b"\n") + 1
    if end != PREFIX + int.from_bytes(data[PREFIX - 2 : PREFIX], "little"):
        raise ValueError("the .npy header's length is wrong")
    dtype, shape, order = _kind_of(data[:end])
    return np.frombuffer(data, dtype, offset=end).reshape(shape, order=order)


@lru_cache(maxsize=1024)
def _kind_of(head: bytes) -> tuple[np.dtype, tuple[int, ...], Literal["C", "F"]]:
    """What a header says. Cached, because parsing is slow and few headers differ."""
    stream = io.BytesIO(head)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("expected a .npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be read")
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    return dtype, shape, "F" if fortran else "C"
