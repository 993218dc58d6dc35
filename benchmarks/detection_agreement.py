"""How well a detector of yours agrees with gold boxes: precision and recall on COCO128 and Pascal VOC photos.

    python benchmarks/detection_agreement.py --data ../shared/data [--detector examples.yolox_onnx:YoloxOnnx]

A detection is right if it overlaps a gold box of its class that no better-scored detection has taken. Expected in DIR:
images/coco128/{images,labels} (class indices in COCO's order), images/voc/{images,boxes.jsonl} (class names).
Any detector that a config can name will do, if its labels include COCO's names.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torchvision.ops import box_iou
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks` and `examples`

from examples.yolox_onnx import COCO_CLASSES

from vlmixer.artifacts.errors import UserError
from vlmixer.pipeline.image.detectors.base import Detector
from vlmixer.pipeline.image.detectors.loading import DetectorSpec, load_detector


@dataclass(frozen=True)
class Gold:
    """A photo and its gold boxes: (n, 4) float32 xyxy pixels; labels: (n,) indices into the detector's labels."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@dataclass
class LabelCounts:
    """Gold boxes, detections, and detections that are right, by label index."""

    gold: Counter[int] = field(default_factory=Counter)
    found: Counter[int] = field(default_factory=Counter)
    right: Counter[int] = field(default_factory=Counter)

    def row(self, name: str, label: int | None = None) -> str:
        """A line of the table: for one label, or for all together."""
        gold, found, right = (c.total() if label is None else c[label] for c in (self.gold, self.found, self.right))
        return f"{name:<16}{gold:>8}{found:>8}{right:>8}{right / max(found, 1):>11.3f}{right / max(gold, 1):>8.3f}"


def coco128(folder: Path, limit: int | None, indices: Mapping[str, int]) -> Iterator[Gold]:
    """COCO128: one label file per photo, with lines `class x y w h` relative to the size; no file means no boxes.

    `indices` maps COCO's class names to the detector's labels.
    """
    labels = np.array([indices[name] for name in COCO_CLASSES])
    for path in sorted((folder / "images").iterdir())[:limit]:
        image = _read(path)
        lines = folder / "labels" / f"{path.stem}.txt"
        rows = np.loadtxt(lines, np.float32, ndmin=2) if lines.exists() else np.zeros((0, 5), np.float32)
        size = np.array(image.shape[1::-1], np.float32)
        centres, halves = rows[:, 1:3] * size, rows[:, 3:5] * size / 2
        yield Gold(
            image, np.concatenate([centres - halves, centres + halves], axis=1), labels[rows[:, 0].astype(np.int64)]
        )


def voc(folder: Path, limit: int | None, indices: Mapping[str, int]) -> Iterator[Gold]:
    """VOC: boxes.jsonl has one line per photo; `indices` maps its class names to the detector's labels."""
    for line in (folder / "boxes.jsonl").read_text(encoding="utf-8").splitlines()[:limit]:
        entry = json.loads(line)
        boxes = np.array([box["xyxy"] for box in entry["boxes"]], np.float32).reshape(-1, 4)
        labels = np.array([indices[box["label"]] for box in entry["boxes"]], np.int64)
        yield Gold(_read(folder / "images" / entry["image"]), boxes, labels)


def right_detections(boxes: np.ndarray, labels: np.ndarray, gold: Gold, iou: float) -> list[int]:
    """Which detections, best first, are right; each takes the free gold box of its class that it overlaps most."""
    overlaps = box_iou(torch.from_numpy(boxes), torch.from_numpy(gold.boxes)).numpy()
    overlaps[labels[:, None] != gold.labels[None, :]] = 0
    right = []
    for i, row in enumerate(overlaps):
        if row.size and row.max() >= iou:
            right.append(i)
            overlaps[:, row.argmax()] = 0
    return right


def measure(
    detector: Detector, photos: Iterator[Gold], total: int, labels: set[int], score: float, iou: float
) -> LabelCounts:
    """Counts over the photos, of detections with `labels` only."""
    counts = LabelCounts()
    for gold in tqdm(photos, total=total, disable=not sys.stderr.isatty()):
        (seen,) = detector.detect([gold.image])
        counted = [
            i for i in np.argsort(-seen.scores, kind="stable") if seen.scores[i] >= score and seen.labels[i] in labels
        ]
        boxes, found = seen.boxes[counted], seen.labels[counted]
        counts.gold.update(gold.labels.tolist())
        counts.found.update(found.tolist())
        counts.right.update(found[right_detections(boxes, found, gold, iou)].tolist())
    return counts


def main() -> None:
    """Print one table per data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--detector", default="examples.yolox_onnx:YoloxOnnx", metavar="MODULE:CLASS")
    parser.add_argument("--weights", help="default: DIR/detectors/yolox_nano_with_fpn_feats.onnx; `none` for none")
    parser.add_argument("--score", type=float, default=0.3)
    parser.add_argument("--iou", type=float, default=0.5)
    parser.add_argument("--limit", type=int, help="use only the first LIMIT photos of each set")
    args = parser.parse_args()

    weights = args.weights or str(args.data / "detectors" / "yolox_nano_with_fpn_feats.onnx")
    try:
        spec = DetectorSpec(args.detector, None if weights == "none" else weights, "cpu", args.score)
        detector = load_detector(spec)
    except UserError as error:
        sys.exit(str(error))
    indices = {name: index for index, name in enumerate(detector.labels)}
    missing = [name for name in COCO_CLASSES if name not in indices]
    if missing:
        sys.exit(f"{args.detector}: its labels lack {', '.join(missing)}; expected all 80 names of COCO.")
    five = ["person", "car", "bus", "train", "cat"]
    folders = args.data / "images" / "coco128", args.data / "images" / "voc"
    sets = [
        ("COCO128 (train2017 photos)", coco128(folders[0], args.limit, indices), folders[0], COCO_CLASSES),
        ("VOC 2007", voc(folders[1], args.limit, indices), folders[1], five),
    ]
    print(
        f"{args.detector}, {Path(weights).name}: score >= {args.score}, boxes of one class agree at IoU >= {args.iou}"
    )
    for title, photos, folder, names in sets:
        total = len(sorted((folder / "images").iterdir())[: args.limit])
        start = time.perf_counter()
        counts = measure(detector, photos, total, {indices[name] for name in names}, args.score, args.iou)
        seconds = time.perf_counter() - start
        print(f"\n{title}: {total} photos, {len(names)} classes, {total / seconds:.1f} photos/s with reading, 1 thread")
        print(f"{'':<16}{'gold':>8}{'found':>8}{'right':>8}{'precision':>11}{'recall':>8}")
        for name in sorted(names, key=lambda name: -counts.gold[indices[name]])[:5]:
            print(counts.row(name, indices[name]))
        print(counts.row(f"all {len(names)}"))


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


if __name__ == "__main__":
    main()
