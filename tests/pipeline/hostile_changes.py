"""Every way in which a file of a finished output folder can be changed by accident or in malice.

`changes` lists them for a file: another kind of file in its place, cut and flipped bytes, other values in each field,
column, member or tensor. hostile_calls.py has the commands that must take them well.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vlmixer.artifacts import manifest

SPARSE = 1 << 40
VALUES: tuple[Any, ...] = (None, [], {}, "x", -1, 10**9, 10**400, 1.5, True, [[["deep"]]], "\ud800")
"""What each field is replaced by."""


@dataclass(frozen=True)
class Change:
    """What is done to a file. signed: whether the manifest is rewritten to match, as somebody who forges it would."""

    name: str
    make: Callable[[Path], None]
    signed: bool = False


def written(data: bytes) -> Callable[[Path], None]:
    """Replaces the file by another."""

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(0, len(data), max(len(data) // 40, 1)):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _instead(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        path.unlink()
        make(path)

    return change


def _sparse(path: Path) -> None:
    os.truncate(path, SPARSE)


ANY = (
    Change("gone", Path.unlink),
    Change("folder", _instead(Path.mkdir)),
    Change("broken link", _instead(lambda path: path.symlink_to("nowhere"))),
    Change("link to itself", _instead(lambda path: path.symlink_to(path.name))),
    Change("pipe", _instead(os.mkfifo)),
    Change("device", _instead(lambda path: path.symlink_to("/dev/zero"))),
    Change("a terabyte", _sparse),
)
CONTENT = (
    ("empty", written(b"")),
    ("cut", _cut),
    ("flipped", _flip),
    ("noise", written(bytes(range(256)) * 40)),
    ("null", written(b"null")),
    ("deep", written(b"[" * 100_000)),
    ("pickle", written(b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00N.")),
)


def changes(path: Path) -> Iterator[Change]:
    """All changes of a file."""
    yield from ANY
    parts = [*CONTENT]
    kind = path.name.rpartition(".")[2]
    if kind in ("json", "yaml"):
        parts += _fields(path, json if kind == "json" else yaml)
    elif kind == "parquet":
        parts += _columns(path)
    elif kind == "npy":
        parts += [
            ("objects", written(_npy("|O"))),
            ("other shape", written(_npy("<f4"))),
            ("huge", written(_npy(None))),
        ]
    elif kind == "tar":
        parts += _members(path)
    elif kind == "safetensors":
        parts += _tensors()
    for name, make in parts:
        yield Change(name, make)
        if path.name != manifest.NAME:
            yield Change(name, make, signed=True)


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values; of a list or a long mapping, of the first entries."""
    yield at
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, each in inner[: 20 if isinstance(value, dict) else 1]:
        yield from _places(each, (*at, key))


def _set(value: Any, at: Sequence[Any], new: Any) -> Any:
    if not at:
        return new
    copy = list(value) if isinstance(value, list) else dict(value)
    copy[at[0]] = _set(copy[at[0]], at[1:], new)
    return copy


def _fields(path: Path, module: Any) -> Iterator[tuple[str, Callable[[Path], None]]]:
    whole = json.loads(path.read_bytes()) if module is json else yaml.safe_load(path.read_bytes())
    for at in _places(whole):
        for new in VALUES:
            changed = _set(whole, at, new)
            if module is json:
                data = resigned(changed) if path.name == manifest.NAME else json.dumps(changed).encode()
            elif new == "\ud800" or new == 10**400:
                continue
            else:
                data = yaml.safe_dump(changed).encode()
            yield f"{'.'.join(map(str, at))} = {str(new)[:12]!r}", written(data)


def resigned(content: Any) -> bytes:
    """A manifest with the hash of its new content."""
    try:
        plain = {key: value for key, value in content.items() if key != "content_hash"}
        return manifest.canonical({**plain, "content_hash": manifest.digest(plain)}, indent=1)
    except (AttributeError, ValueError):
        return json.dumps(content).encode()


def _columns(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    table = pq.read_table(path)

    def rewritten(changed: pa.Table) -> Callable[[Path], None]:
        return lambda place: pq.write_table(changed, place)

    yield "no rows", rewritten(table.slice(0, 0))
    yield "one row group", rewritten(table)
    yield "other names", rewritten(table.rename_columns([f"{name}x" for name in table.column_names]))
    for place, name in enumerate(table.column_names):
        rows = len(table)
        yield f"no {name}", rewritten(table.drop_columns([name]))
        for new in (pa.nulls(rows), pa.array(["x"] * rows), pa.array([-1] * rows), pa.array([[1.5]] * rows),
                    pa.array([2**40] * rows), pa.nulls(rows, table.schema.field(name).type)):  # fmt: skip
            yield f"{name}: {new.type}", rewritten(table.set_column(place, name, new))
        reversed_rows = table[name].take(pa.array(range(rows - 1, -1, -1), pa.int64()))
        yield f"{name} reversed", rewritten(table.set_column(place, table.schema.field(name), reversed_rows))


def _npy(dtype: str | None) -> bytes:
    shape = "(1000000000000, 8)" if dtype is None else "(3,)"
    head = f"{{'descr': '{dtype or '<f2'}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head += b" " * (117 - len(head)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head + bytes(64)


def _members(path: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    with tarfile.open(path) as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]

    def rewritten(changed: list[tuple[str, bytes]]) -> Callable[[Path], None]:
        def write(place: Path) -> None:
            with tarfile.open(place, "w") as tar:
                for name, data in changed:
                    info = tarfile.TarInfo(name)
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))

        return write

    first = json.loads(members[0][1])
    for at in _places(first):
        for new in VALUES:
            record = json.dumps(_set(first, at, new)).encode()
            yield f"{'.'.join(map(str, at))} = {str(new)[:12]!r}", rewritten([(members[0][0], record), *members[1:]])
    yield "no features", rewritten([(name, data if name[-3:] != "npy" else _npy("<f2")) for name, data in members])
    yield "no members", rewritten([])
    yield "long name", rewritten([("a" * 10_000 + ".json", b"{}")])


def _tensors() -> Iterator[tuple[str, Callable[[Path], None]]]:
    import numpy as np
    from safetensors.numpy import save

    yield "other tensors", written(save({"other": np.zeros((2, 3), np.float32)}))
    yield "no tensors", written(save({}))
    yield "long header", written((1 << 50).to_bytes(8, "little") + b"{}")


def sign(out: Path, path: Path) -> None:
    """Rewrite the manifest that lists the file, as it is now, if one does."""
    for place in out.glob(f"*/{manifest.NAME}"):
        content = json.loads(place.read_bytes())
        folder = {"rejects": out / "rejects"}
        for part in ("outputs", "rejects"):
            for entry in content[part] or []:
                if folder.get(part, place.parent) / entry["name"] == path:
                    entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
                    place.write_bytes(resigned(content))
