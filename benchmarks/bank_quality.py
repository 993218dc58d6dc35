"""What selection does to a bank's quality, on real photos with gold boxes. The defaults of `bank` rest on this.

    vlmixer detect examples/real-photos.yaml --out OUT
    python benchmarks/bank_quality.py --data ../shared/data --regions OUT/regions [--other OUT2/regions …]

1. The share of patches with the right label (they overlap a gold box of their concept, IoU ≥ 0.5), and the distance of
   a concept's regions to the nearest kept one, before and after selection: means over concepts with 30 judged regions.
2. Near-duplicates: photos are saved again as small JPEGs, at half their size, and with the margin cut off. For each
   threshold, the share of their patches that is recognised, and the share of patches of different photos that is lost.
   The detector is YOLOX from DIR.
3. The share of regions that each threshold drops, also in --other folders: other detectors, other pictures.

Expected in DIR: images/coco128/{images,labels}, images/voc/{images,boxes.jsonl}, and
detectors/yolox_nano_with_fpn_feats.onnx.
"""

import argparse
import io
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks` and `examples`

from benchmarks.gold import GoldBoxes, read_gold
from examples.yolox_onnx import YoloxOnnx

from vlmixer.artifacts.boxes import box_iou
from vlmixer.bank.building import feature_rows
from vlmixer.bank.selection import candidate_limit, choose, normalised, particular

SHARES = (0.1, 0.25, 0.5)
WEIGHTS = (0.0, 0.5, 0.75, 0.9, 1.0)
THRESHOLDS = (0.9, 0.95, 0.97, 0.98, 0.99)
REMADE: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 50": lambda image: _as_jpeg(image, 50),
    "half the size": lambda image: image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC),
    "4 % cut off": lambda image: image.crop((_rim(image)[0], _rim(image)[1], image.width, image.height)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--regions", type=Path, required=True)
    parser.add_argument("--other", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    concepts = judged_regions(options.regions, read_gold(options.data / "images"))
    right_labels(concepts)
    near_duplicates(options.data, concepts)
    for folder in [options.regions, *options.other]:
        dropped(folder)


def right_labels(concepts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Table 1."""
    rng = np.random.default_rng(0)
    print(f"{'kept of the judged regions':<38}" + "".join(f"{share:>24.0%}" for share in SHARES))
    print(f"{'':<38}" + f"{'right':>8}{'far':>7}{'best 10':>9}" * len(SHARES))
    rows: dict[str, list[list[tuple[float, float, float]]]] = {}
    for share in SHARES:
        for right, features in concepts.values():
            count = max(5, int(share * len(right)))
            reach = min(len(right), candidate_limit("diverse", count))
            kept = {
                "before selection": np.arange(len(right)),
                "score": np.arange(count),
                "random": rng.permutation(len(right))[:count],
            }
            for name, scaled in (("as they are", normalised), ("less their mean", particular)):
                unit = scaled(features[:reach])
                for weight in WEIGHTS:
                    kept[f"diverse, {name}, weight {weight:g}"] = spread(unit, count, weight)
            chosen = np.array(choose("diverse", features[:reach], count, 1.0).kept)
            if not np.array_equal(chosen, kept["diverse, less their mean, weight 1"]):
                raise SystemExit("this script's `spread` differs from bank.selection")
            unit = normalised(features)
            for name, rows_kept in kept.items():
                far = float((1 - (unit @ unit[rows_kept].T).max(axis=1)).mean())
                figures = (float(right[rows_kept].mean()), far, float(right[rows_kept[:10]].mean()))
                rows.setdefault(name, [[] for _ in SHARES])[SHARES.index(share)].append(figures)
    for name, by_share in rows.items():
        means = [np.mean(found, axis=0) for found in by_share]
        print(f"{name:<38}" + "".join(f"{right:>8.3f}{far:>7.3f}{first:>9.2f}" for right, far, first in means))
    print(f"concepts: {', '.join(f'{name} {len(right)}' for name, (right, _) in concepts.items())}\n")


def spread(unit: np.ndarray, count: int, weight: float) -> np.ndarray:
    """Rows in the order in which `diverse` takes them, with rank weights from 1 for the first row to 1 - `weight`."""
    weights = 1 - weight * np.arange(len(unit)) / len(unit)
    distance = np.full(len(unit), 2.0, np.float32)
    kept: list[int] = []
    for _ in range(min(count, len(unit))):
        pick = int(np.argmax(distance * weights))
        kept.append(pick)
        distance = np.minimum(distance, 1 - unit @ unit[pick])
        distance[pick] = -np.inf
    return np.array(kept)


def near_duplicates(data: Path, concepts: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Table 2."""
    detector = YoloxOnnx(data / "detectors" / "yolox_nano_with_fpn_feats.onnx", score_threshold=0.3)
    means = {name: features.astype(np.float32).mean(axis=0) for name, (_, features) in concepts.items()}
    pairs: dict[str, list[tuple[float, float]]] = {name: [] for name in REMADE}
    for path in sorted((data / "images" / "voc" / "images").glob("*.jpg"))[:200]:
        image = Image.open(path).convert("RGB")
        before = detector.detect([np.asarray(image)])[0]
        for name, remake in REMADE.items():
            after = detector.detect([np.asarray(remake(image))])[0]
            boxes = after.boxes * (2 if name.startswith("half") else 1)
            boxes = boxes + (_rim(image) * 2 if name.startswith("4") else [0] * 4)
            overlap = box_iou(before.boxes, boxes)
            for row in range(len(before.boxes) if len(boxes) else 0):
                other = int(overlap[row].argmax())
                concept = detector.labels[before.labels[row]]
                if overlap[row, other] > 0.75 and before.labels[row] == after.labels[other] and concept in means:
                    both = np.stack([before.features[row], after.features[other]])
                    raw, own = normalised(both), normalised(both - means[concept])
                    pairs[name].append((float(raw[0] @ raw[1]), float(own[0] @ own[1])))
    nearest: list[tuple[float, float]] = []
    for _, features in concepts.values():
        similar = [unit @ unit.T - 2 * np.eye(len(unit)) for unit in (normalised(features), particular(features))]
        nearest += zip(*(found.max(axis=1).tolist() for found in similar), strict=True)
    for place, name in enumerate(("features as they are", "features less the concept's mean")):
        print(f"near-duplicates, {name:<38}" + "".join(f"{threshold:>8}" for threshold in THRESHOLDS))
        for what, found in (*pairs.items(), ("of different photos or regions", nearest)):
            values = np.array(found)[:, place]
            print(
                f"  {what:<32}{len(values):>6} pairs{'':>11}"
                + "".join(f"{(values > t).mean():>8.1%}" for t in THRESHOLDS)
            )
    print()


def dropped(folder: Path) -> None:
    """Table 3 for one folder."""
    table = _read(folder, ["concept", "score", "patch_id", "feature"])
    names = np.array(table["concept"].to_pylist())
    features = feature_rows(table["feature"])
    print(f"{folder}: {len(names):,} regions; dropped as near-duplicates" + "".join(f"{t:>8}" for t in THRESHOLDS))
    groups = [features[names == name][:4000] for name in np.unique(names)]
    for what in ("as they are", "less their mean"):
        shares = []
        for threshold in THRESHOLDS:
            count = 0
            for group in groups:
                # With the opposite of each feature added, the mean is zero, and subtracting it changes nothing.
                rows = np.concatenate([group, -group]) if what == "as they are" else group
                count += sum(row < len(group) for row in choose("diverse", rows, 0, threshold).duplicates)
            shares.append(count / sum(map(len, groups)))
        print(f"  features {what:<40}" + "".join(f"{share:>8.1%}" for share in shares))


def judged_regions(folder: Path, gold: GoldBoxes) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The regions of each concept that gold boxes can judge, best score first.

    right: (n,) bool; features: (n, D) float16. Concepts with fewer than 30 regions are left out.
    """
    table = _read(folder, ["patch_id", "box", "concept", "score", "feature", "width", "height", "source"])
    rows = table.drop_columns(["feature"]).to_pylist()
    right: list[bool] = []
    kept: list[int] = []
    for number, row in enumerate(rows):
        verdict = gold.confirm(row["source"], row["concept"], row["box"], row["width"], row["height"])
        if verdict is not None:
            right.append(verdict)
            kept.append(number)
    names = np.array([rows[number]["concept"] for number in kept])
    features = feature_rows(table["feature"])[kept]
    groups = {str(name): names == name for name in np.unique(names)}
    return {name: (np.array(right)[mask], features[mask]) for name, mask in groups.items() if mask.sum() >= 30}


def _read(folder: Path, columns: list[str]) -> pa.Table:
    table = pq.read_table(sorted(map(str, folder.glob("*.parquet"))), columns=columns)
    return table.sort_by([("score", "descending"), ("patch_id", "ascending")])


def _rim(image: Image.Image) -> list[int]:
    return [image.width // 25, image.height // 25]


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    main()
