"""How fast a bank opens and finds the nearest patches of a concept, compared with other ways to do the same.

    pip install lancedb
    python benchmarks/bank_speed.py --out DIR [--patches 100000 1000000] [--dim 256] [--queries 300]

Makes a bank of random patches of 1,600 concepts in DIR and searches the 16 patches of a concept nearest to a feature.
One feature at a time, all ways in turn, one thread:

- bank: `PatchBank.search_rows`, and `search`, which also returns records (read once per concept)
- flat + selector: a flat FAISS index over everything, in float16 like ours; an IDSelector chooses the concept's ids, by
  range (the cheapest) or by batch (for any set of ids)
- numpy: the product of the feature with the concept's vectors, float32 in memory
- LanceDB: vector search with a filter on the concept, which has a scalar index; no index on the vectors, so it is
  exact; returns row numbers only

All search the same vectors. Recall is measured against numpy.
"""

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything that computes is imported
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlmixer.artifacts import files, manifest, schemas
from vlmixer.artifacts.details import BankDetails, BankSelection, DetectorIdentity
from vlmixer.artifacts.manifest import Counts, Manifest
from vlmixer.bank.building import ConceptCounts, chosen_schema, feature_column, write_bank
from vlmixer.bank.concepts import make_vocabulary
from vlmixer.bank.selection import normalised
from vlmixer.bank.store import PatchBank

CONCEPTS = 1600
K = 16
CROP = b"\xff\xd8 no image, only bytes" * 100

Way = Callable[[np.ndarray, int], np.ndarray]
"""(feature, concept number) → rows of the concept's K nearest patches, nearest first."""

OPEN = """
import sys, time
began = time.perf_counter()
from vlmixer.bank.store import PatchBank
imported = time.perf_counter()
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4 / 1024
before = resident()
bank = PatchBank.open(sys.argv[1])
opened = time.perf_counter()
used = resident() - before
bank.search("thing 0800", like="0000000000000320-000", k=16)
print(imported - began, opened - imported, used, time.perf_counter() - opened)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patches", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    for count in options.patches:
        folder = options.out / f"bank-{count}-{options.dim}"
        if not files.exists(str(folder / manifest.NAME)):
            make_bank(folder, count, options.dim)
        print(f"\n{count:,} patches of {CONCEPTS:,} concepts, {options.dim}-d")
        opening(folder)
        searching(PatchBank.open(str(folder)), options.out / f"lance-{count}-{options.dim}", options.queries)


def make_bank(folder: Path, patches: int, dim: int) -> None:
    """Make a bank of random patches, equally many of each concept."""
    vocabulary = make_vocabulary("things", [[f"thing {number:04d}"] for number in range(CONCEPTS)])
    sizes = [patches // CONCEPTS + (number < patches % CONCEPTS) for number in range(CONCEPTS)]
    starts = np.cumsum([0, *sizes])

    def tables() -> Iterator[pa.Table]:
        for number, (start, size) in enumerate(zip(starts, sizes, strict=False)):
            rng = np.random.default_rng([0, number])
            features = rng.normal(size=dim) + rng.normal(size=(size, dim))
            ids = [f"{start + row:016x}" for row in range(size)]
            columns = {
                "patch_id": [f"{image}-000" for image in ids],
                "image_id": ids,
                "concept_id": [number] * size,
                "score": rng.uniform(0.3, 1, size),
                "box": [[10.0, 20.0, 110.0, 100.0]] * size,
                "width": [640] * size,
                "height": [480] * size,
                **{name: [""] * size for name in schemas.PROVENANCE},
                "source": [f"photos/{image}.jpg" for image in ids],
                "context": [[(number + 1) % CONCEPTS]] * size,
                "feature": feature_column(features.astype(np.float16)),
                "crop": [CROP] * size,
            }
            yield pa.table(columns, schema=chosen_schema(dim))

    counts = [ConceptCounts(size, size) for size in sizes]
    outputs = write_bank(str(folder), vocabulary.concepts, dim, counts, tables())
    details = BankDetails(
        detector=DetectorIdentity("random", weights="none", device="cpu", options={}),
        feature_dim=dim,
        vocabulary="things",
        vocabulary_hash=vocabulary.hash,
        selection=BankSelection(
            max_patches_per_concept=max(sizes), selection="score", duplicate_similarity=1.0, seed=0
        ),
    )
    total = {"regions": Counts(patches, patches)}
    manifest.publish(str(folder), Manifest("index", "", "", {}, [], outputs, [], total, details))


def opening(folder: Path) -> None:
    """Print time and memory of opening the bank in new processes."""
    rows = []
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True,
            cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
        rows.append([float(value) for value in done.stdout.split()])
    imported, opened, used, first = np.median(rows, axis=0)
    print(
        f"new process, median of {len(rows)}: import {1000 * imported:.0f} ms, open {1000 * opened:.1f} ms "
        f"({used:.1f} MiB), first search with a patch id {1000 * first:.0f} ms"
    )


def searching(bank: PatchBank, lance: Path, queries: int) -> None:
    """Print the table of ways."""
    blocks = np.array_split(np.arange(len(bank)), max(1, len(bank) // 50_000))
    unit = np.concatenate([normalised(bank.features(rows)) for rows in blocks])
    unit = unit.astype(np.float16).astype(np.float32)  # as the index stores them
    firsts = np.array([bank.patches(concept.name).first for concept in bank.concepts])
    names = [concept.name for concept in bank.concepts]
    ends = np.append(firsts[1:], len(bank))
    flat = faiss.IndexScalarQuantizer(bank.feature_dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    flat.train(unit[:256])
    flat.add(unit)
    batches = {}

    def by_bank(query: np.ndarray, concept: int) -> np.ndarray:
        return bank.search_rows(query[None], names[concept], k=K)[0][0]

    def by_records(query: np.ndarray, concept: int) -> np.ndarray:
        return bank.search(names[concept], like=query, k=K).rows

    def by_range(query: np.ndarray, concept: int) -> np.ndarray:
        selector = faiss.IDSelectorRange(int(firsts[concept]), int(ends[concept]))
        return flat.search(query[None], K, params=chosen_by(selector))[1][0]

    def by_batch(query: np.ndarray, concept: int) -> np.ndarray:
        if concept not in batches:
            batches[concept] = faiss.IDSelectorBatch(np.arange(firsts[concept], ends[concept]))
        return flat.search(query[None], K, params=chosen_by(batches[concept]))[1][0]

    def by_numpy(query: np.ndarray, concept: int) -> np.ndarray:
        similar = unit[firsts[concept] : ends[concept]] @ query
        best = np.argpartition(-similar, K - 1)[:K]
        return firsts[concept] + best[np.argsort(-similar[best], kind="stable")]

    ways: dict[str, Way] = {
        "bank: search_rows": by_bank,
        "bank: search": by_records,
        "flat + selector: range": by_range,
        "flat + selector: batch": by_batch,
        "numpy, in memory": by_numpy,
        "LanceDB, filtered": lance_way(lance, unit, np.repeat(np.arange(len(names)), ends - firsts)),
    }
    # Warm up the bank: search each concept once. (`opening` prints the time of a first search.)
    for concept in range(len(names)):
        by_records(unit[0], concept)
    rng = np.random.default_rng(1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    recalls: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(queries + 20):
        concept = int(rng.integers(len(names)))
        query = normalised(rng.normal(size=(1, bank.feature_dim)).astype(np.float32))[0]
        right = set(by_numpy(query, concept).tolist())
        for name, way in ways.items():
            began = time.perf_counter()
            found = way(query, concept)
            took = time.perf_counter() - began
            if number >= 20:  # the first ones warm up the other ways
                times[name].append(1000 * took)
                recalls[name].append(len(right & set(found.tolist())) / len(right))
    ours = np.median(times["bank: search_rows"])
    print(f"{'':<26}{'p50 ms':>9}{'p95 ms':>9}{'times ours':>12}{'recall':>9}{'worst':>8}")
    for name, taken in times.items():
        p50, p95 = np.percentile(taken, [50, 95])
        recall = f"{np.mean(recalls[name]):>9.4f}{min(recalls[name]):>8.2f}"
        print(f"{name:<26}{p50:>9.3f}{p95:>9.3f}{p50 / ours:>12.1f}{recall}")


def chosen_by(selector: faiss.IDSelector) -> faiss.SearchParameters:
    """Parameters of a search among the selector's ids."""
    return faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]  # the stub knows no keywords


def lance_way(folder: Path, unit: np.ndarray, concepts: np.ndarray) -> Way:
    """Search of a LanceDB table of the vectors, with a filter."""
    import lancedb
    import lancedb.index

    database = lancedb.connect(str(folder))
    if "patches" not in database.list_tables().tables:
        columns = {"row": np.arange(len(unit)), "concept": concepts, "vector": feature_column(unit)}
        table = database.create_table("patches", pa.table(columns))
        table.create_index("concept", config=lancedb.index.BTree())
    table = database.open_table("patches")

    def search(query: np.ndarray, concept: int) -> np.ndarray:
        asked = table.search(query).distance_type("dot").where(f"concept = {concept}", prefilter=True)
        return asked.select(["row", "_distance"]).limit(K).to_arrow()["row"].to_numpy()

    return search


if __name__ == "__main__":
    main()
