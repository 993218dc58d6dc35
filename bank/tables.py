"""The tables of a bank, read and checked: whatever a file holds instead of what this program writes is one message.

The checks are of what reading depends on: columns and types, and that the rows of concepts, patches and features are
the same. `vlmixer verify` checks the rest.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vlmixer.artifacts import schemas
from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.parquet import flaw, reading, region_flaw

PATCH_ID = r"\A[0-9A-Za-z_][0-9A-Za-z_. -]{0,199}\z"
"""Ids are names of files where patches are exported: nothing in them leads to another folder."""


def read_concepts(path: str) -> list[dict[str, Any]]:
    """The rows of the bank's concepts, schemas.CONCEPTS. Raises UserError if the file is damaged."""
    with reading(path, schemas.CONCEPTS) as table:
        rows: list[dict[str, Any]] = table.read().to_pylist()
    first = 0
    for number, row in enumerate(rows):
        if row["concept_id"] != number or row["first"] != first:
            raise damaged(path, f"concept {number} does not begin where the one before ends")
        if min(row["count"], row["candidates"], row["near_duplicates"]) < 0:
            raise damaged(path, f"concept {number} has a negative count")
        first += row["count"]
    if len({row["name"] for row in rows}) < len(rows):
        raise damaged(path, "two concepts have the same name")
    return rows


def check_schema(path: str, parquet: pq.ParquetFile, schema: pa.Schema) -> None:
    """Raises UserError if the file does not have exactly these columns."""
    if not parquet.schema_arrow.equals(schema):
        raise damaged(path, "its columns are not a bank's")


def check_patches(path: str, table: pa.Table, count: int, concept: int, concepts: int) -> None:
    """Raises UserError if a row group does not hold the `count` patches of a concept (its id) of so many concepts."""
    numbers = table["concept_id"].to_numpy()
    context = table["context"].combine_chunks()
    named = context.flatten().to_numpy(zero_copy_only=False)
    if (
        len(table) != count
        or any(flaw(chunk) for column in table.columns for chunk in column.chunks)
        or region_flaw(table)
        or (numbers != concept).any()
        or (len(named) and not 0 <= np.min(named) <= np.max(named) < concepts)
        or not pc.all(pc.match_substring_regex(table["patch_id"], PATCH_ID)).as_py()
    ):
        raise damaged(path, f"its rows are not the {count} patches of concept {concept}")


def check_found(
    path: str,
    rows: np.ndarray,
    similarities: np.ndarray,
    there: np.ndarray,
    patches: int,
    bounds: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Raises UserError if an index gave what that of the bank cannot have.

    rows, similarities: (n, k), what n searches found. there: (n,) how many patches each must find. patches: of the
    bank. bounds: the first row, and the last plus 1, of the concept of each search, (n, 1); None without concepts.
    """
    found = rows >= 0
    if rows.max(initial=-1) >= patches:
        raise damaged(path, f"row {rows.max()} of {patches} patches")
    if (found.sum(axis=1) != there).any() or not np.isfinite(similarities[found]).all():
        raise damaged(path, "vectors that are missing or not finite")
    if bounds is not None and (found & ((rows < bounds[0]) | (rows >= bounds[1]))).any():
        raise damaged(path, "rows of another concept")


def damaged(path: str, what: str) -> UserError:
    """The error for a file of a bank."""
    return UserError(f"{path}: damaged ({what}). Run `vlmixer verify` on the bank's folder, then build the bank again.")
