"""Forging results: other contents in a finished output folder, and manifests that were written to fit them.

`seal` writes all hashes and sizes anew, so only the contents can give a forgery away. forgeries.py has a list of them.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tests.pipeline.hostile_changes import resigned

from vlmixer.artifacts import contents

Make = Callable[[Path], None]
"""Changes what is in an output folder, and what its manifests say besides sizes and hashes."""
FOLDERS = ("tagged", "regions", "bank", "shards", "run", "vqa")
NAN, INFINITY, HUGE = float("nan"), float("inf"), 3e38
LONG = "a" * (1 << 20)
"""A text of a megabyte."""


@dataclass(frozen=True)
class Forgery:
    """A folder of the output that was forged. seen: whether `vlmixer verify` can know it from a true one."""

    folder: str
    name: str
    make: Make
    seen: bool = True


def seal(out: Path) -> None:
    """Write the sizes, hashes and numbers of rows in all manifests, and the record, as the files are now."""
    hashes: dict[str, str] = {}
    for folder in FOLDERS:
        path = out / folder / "manifest.json"
        if not path.exists():
            continue
        content = json.loads(path.read_bytes())
        for entry in content["outputs"]:
            file = out / folder / entry["name"]
            entry |= {"bytes": file.stat().st_size, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        for entry in content["inputs"]:
            entry["sha256"] = hashes.get(entry["name"], entry["sha256"])
        if folder == "shards":
            content["details"]["bank"] = hashes["bank"]
        path.write_bytes(resigned(content))
        hashes[folder] = json.loads(path.read_bytes())["content_hash"]
    hashes.pop("vqa", None)  # fine-tuned runs are not recorded
    contents.put(str(out), hashes)


def edited(folder: str, *at: str | int, value: Any) -> Make:
    """Another value at a place in the folder's manifest."""

    def make(out: Path) -> None:
        path = out / folder / "manifest.json"
        whole = json.loads(path.read_bytes())
        inner = whole
        for key in at[:-1]:
            inner = inner[key]
        inner[at[-1]] = value
        path.write_text(json.dumps(whole))

    return make


def tables(folder: str, file: str, change: Callable[[pa.Table], pa.Table], counted: bool = True) -> Make:
    """Another first row group in a Parquet file. counted: whether the manifest has the new number of rows."""

    def make(out: Path) -> None:
        path = out / folder / file
        before = pq.ParquetFile(path)
        groups = [before.read_row_group(number) for number in range(before.num_row_groups)]
        groups[0] = change(groups[0])
        with pq.ParquetWriter(path, groups[0].schema, compression="zstd") as writer:
            for group in groups if groups[0].schema.equals(groups[-1].schema) else groups[:1]:
                writer.write_table(group, row_group_size=max(len(group), 1))
        rows = pq.read_metadata(path).num_rows
        outputs = json.loads((out / folder / "manifest.json").read_bytes())["outputs"]
        if counted:
            place = next(place for place, output in enumerate(outputs) if output["name"] == file)
            edited(folder, "outputs", place, "rows", value=rows)(out)

    return make


def first(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """The first row has another value."""

    def change(table: pa.Table) -> pa.Table:
        values = [value, *table[column].to_pylist()[1:]]
        place, kind = table.column_names.index(column), table.schema.field(column)
        return table.set_column(place, kind, pa.array(_halves(values, kind.type), kind.type))

    return change


def every(column: str, value: Any) -> Callable[[pa.Table], pa.Table]:
    """All rows have another value."""

    def change(table: pa.Table) -> pa.Table:
        place, kind = table.column_names.index(column), table.schema.field(column)
        return table.set_column(place, kind, pa.array(_halves([value] * len(table), kind.type), kind.type))

    return change


def _halves(values: list[Any], kind: pa.DataType) -> list[Any]:
    """The oldest pyarrow makes float16 of numpy's alone."""
    if pa.types.is_fixed_size_list(kind) and pa.types.is_float16(kind.value_type):
        return [None if value is None else [np.float16(number) for number in value] for value in values]
    return values


def retyped(column: str, values: Callable[[int], pa.Array]) -> Callable[[pa.Table], pa.Table]:
    """A column of another type. values: for a number of rows."""
    return lambda table: table.set_column(table.column_names.index(column), column, values(len(table)))


def repeated(times: int) -> Callable[[pa.Table], pa.Table]:
    """The first row again and again."""
    return lambda table: table.take(pa.array(np.zeros(times, np.int64)))


def without(column: str) -> Callable[[pa.Table], pa.Table]:
    """A column less."""
    return lambda table: table.drop_columns([column])


def jpeg(width: int, height: int) -> bytes:
    """A small file with a picture of this size."""
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "JPEG", quality=1)
    return file.getvalue()


def bytes_of(folder: str, file: str, change: Callable[[bytes], bytes]) -> Make:
    """Other bytes in the folder's file."""

    def make(out: Path) -> None:
        path = out / folder / file
        path.write_bytes(change(path.read_bytes()))

    return make


def more(folder: str, file: str, data: bytes) -> Make:
    """A file more, which the manifest lists."""

    def make(out: Path) -> None:
        (out / folder / file).write_bytes(data)
        path = out / folder / "manifest.json"
        content = json.loads(path.read_bytes())
        content["outputs"] = sorted(
            [*content["outputs"], {**content["outputs"][0], "name": file}], key=lambda output: str(output["name"])
        )
        path.write_text(json.dumps(content))

    return make


def npy(array: np.ndarray, header: bytes | None = None) -> bytes:
    """A .npy file, with what another header says if that is given."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=array.dtype.hasobject)
    data = file.getvalue()
    return data if header is None else data.replace(str(array.shape).encode(), header, 1)


def members(change: Callable[[dict[str, bytes]], dict[str, bytes]], file: str = "mixed-000000.tar") -> Make:
    """Another first sample in a shard: its members by their endings, which with dots are whole names."""

    def make(out: Path) -> None:
        path = out / "shards" / file
        with tarfile.open(path) as tar:
            found = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
        key = found[0][0].partition(".")[0]
        own = change({name.partition(".")[2]: data for name, data in found if name.startswith(f"{key}.")})
        new = [(name if "." in name else f"{key}.{name}", data) for name, data in own.items()]
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
            for name, data in [*new, *((name, data) for name, data in found if not name.startswith(f"{key}."))]:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))

    return make


def record(change: Callable[[dict[str, Any]], None], file: str = "mixed-000000.tar") -> Make:
    """Another record in the first sample of a shard, and what the sample's text must be then."""

    def changed(sample: dict[str, bytes]) -> dict[str, bytes]:
        content = json.loads(sample["json"])
        change(content)
        text = content["text"] if "text" in content else ", ".join(content["tags"])
        return {**sample, "json": json.dumps(content).encode(), "txt": text.encode(errors="replace")}

    return members(changed, file)


def both(*makes: Make) -> Make:
    """One after the other."""

    def make(out: Path) -> None:
        for one in makes:
            one(out)

    return make


def forgeries(listed: dict[str, Make], folder: str, *unseen: str) -> Iterator[Forgery]:
    """Those of a folder by name. unseen: names of those that might be true."""
    for name, make in listed.items():
        yield Forgery(folder, name, make, name not in unseen)
