"""Whether a region's neighbours know better than its score if its label is right, on photos with gold boxes.

    vlmixer detect CONFIG.yaml --out OUT        # of coco128's photos and others; features: [detector, an encoder]
    python benchmarks/second_opinion.py --data ../shared/data --regions OUT/regions --own 448

Agreement is the share of a region's ten nearest neighbours in other photos that have its label. A label is right if the
region overlaps a gold box of its concept (IoU 0.5). Printed for concepts with 15 regions: the share of right labels in
the half with the best scores, and in the half with the most agreement; and how many concepts each half still has.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks` and `examples`

from benchmarks.gold import read_gold

from vlmixer.pipeline.image.encoders.regions import unit

NEIGHBOURS = 10
MIN_REGIONS = 15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--own", type=int, required=True, help="width of the detector's own part of the features")
    options = parser.parse_args()
    gold = read_gold(options.data / "images")
    rows = [row for part in sorted(options.regions.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]
    features = np.stack([_feature(row["feature"]) for row in rows])
    concepts, photos = (np.array([row[key] for row in rows]) for key in ("concept", "image_id"))
    scores = np.array([row["score"] for row in rows])
    verdicts = [gold.confirm(row["source"], row["concept"], row["box"], row["width"], row["height"]) for row in rows]
    common = np.array([(concepts == concept).sum() >= MIN_REGIONS for concept in concepts])
    judged = common & np.array([verdict is not None for verdict in verdicts])
    right = np.array([bool(verdict) for verdict in verdicts])
    print(f"{judged.sum()} judged regions of {len(set(concepts[judged]))} concepts, {right[judged].mean():.3f} right")
    ways = {"own": features[:, : options.own], "encoder": features[:, options.own :], "both": features}
    orders = {"score": scores} | {way: _agreement(part, concepts, photos) + 1e-6 * scores for way, part in ways.items()}
    for way, order in orders.items():
        best = np.argsort(-order[judged], kind="stable")[: judged.sum() // 2]
        kept = len(set(concepts[judged][best]))
        print(f"best half by {way:<8} {right[judged][best].mean():.3f} right, {kept} concepts left")


def _feature(value: bytes | list[float]) -> np.ndarray:
    if isinstance(value, bytes):
        return np.frombuffer(value, np.float16).astype(np.float32)
    return np.array(value, np.float32)


def _agreement(features: np.ndarray, concepts: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """(n,): the share of each region's neighbours in other photos that have its label."""
    vectors = unit(features)
    similar = vectors @ vectors.T
    similar[photos[:, None] == photos[None]] = -np.inf
    nearest = np.argsort(-similar, axis=1)[:, :NEIGHBOURS]
    share: np.ndarray = (concepts[nearest] == concepts[:, None]).mean(axis=1)
    return share


if __name__ == "__main__":
    main()
