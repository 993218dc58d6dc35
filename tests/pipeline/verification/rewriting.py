"""Ways to damage a finished run: flipped bits, and changed contents whose hashes are right."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vlmixer.artifacts import contents, manifest, schemas
from vlmixer.artifacts.details import ShardsDetails


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    bit = chance.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def rewrite_manifest(folder: Path, **changes: Any) -> None:
    """Give a stage folder a manifest with its files' present sizes and hashes."""
    before = manifest.read(str(folder))
    outputs = [manifest.output_of(str(folder), entry.name, entry.rows) for entry in before.outputs]
    (folder / "manifest.json").write_bytes(replace(before, **({"outputs": outputs} | changes)).to_bytes())


def reseal(out: Path) -> None:
    """Write all manifests and the record anew, as somebody would who hides a change of the files."""
    hashes: dict[str, str] = {}
    for folder in ("tagged", "regions", "bank", "shards"):
        before = manifest.read(str(out / folder))
        inputs = [replace(entry, sha256=hashes.get(entry.name, entry.sha256)) for entry in before.inputs]
        details = before.details
        if isinstance(details, ShardsDetails):
            details = replace(details, bank=hashes["bank"])
        rewrite_manifest(out / folder, inputs=inputs, details=details)
        hashes[folder] = manifest.read(str(out / folder)).content_hash
    contents.put(str(out), hashes)


def rewrite_rows(path: Path, change: Callable[[list[dict]], None], folder: Path | None = None) -> None:
    """Change the rows of a Parquet file of one row group or many, and describe its stage's folder again."""
    before = pq.ParquetFile(path)
    groups = [before.read_row_group(number).to_pylist() for number in range(before.num_row_groups)]
    change(groups[0])
    with schemas.writing_parquet(str(path), before.schema_arrow) as writer:
        for rows in groups:
            writer.write_table(pa.Table.from_pylist(rows, schema=before.schema_arrow))
    rewrite_manifest(folder or path.parent)
