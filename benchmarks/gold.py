"""Gold boxes of COCO128 and Pascal VOC photos, and whether they confirm a region's label.

Expected in the folder: coco128/{images,labels} (class indices in COCO's order) and voc/{images,boxes.jsonl}.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from examples.yolox_onnx import COCO_CLASSES

from vlmixer.artifacts.boxes import box_iou

VOC_LABELS = ("car", "person", "cat", "train", "bus")
"""The labels that are boxed in these VOC photos."""

CONFIRMING_IOU = 0.5


@dataclass(frozen=True)
class GoldBoxes:
    """(label, box) pairs by "coco128/NAME", relative to the photo's size, and by "voc/NAME", in pixels; xyxy."""

    by_photo: dict[str, list[tuple[str, list[float]]]]

    def confirm(self, source: str, concept: str, box: Sequence[float], width: int, height: int) -> bool | None:
        """Whether a region overlaps a gold box of its concept; None if the photo's gold boxes cannot tell.

        source: the photo's path. box: xyxy, pixels of a photo of `width` × `height`.
        """
        path = Path(source)
        key = f"{path.parts[-3]}/{path.name}" if len(path.parts) > 2 else ""
        in_pixels = key.startswith("voc")
        if key not in self.by_photo or (in_pixels and concept not in VOC_LABELS):
            return None
        scale = [1.0] * 4 if in_pixels else [width, height] * 2
        boxes = np.array([gold for label, gold in self.by_photo[key] if label == concept], float).reshape(-1, 4) * scale
        return bool(len(boxes) and box_iou(np.array([box]), boxes).max() >= CONFIRMING_IOU)


def read_gold(images: Path) -> GoldBoxes:
    """All gold boxes below the folder `images`."""
    found: dict[str, list[tuple[str, list[float]]]] = {}
    for line in (images / "voc" / "boxes.jsonl").read_text().splitlines():
        record = json.loads(line)
        found[f"voc/{record['image']}"] = [(box["label"], box["xyxy"]) for box in record["boxes"]]
    for path in (images / "coco128" / "images").glob("*.jpg"):
        labels = images / "coco128" / "labels" / f"{path.stem}.txt"
        lines = [line.split() for line in labels.read_text().splitlines()] if labels.exists() else []
        boxes = []
        for label, *numbers in lines:
            x, y, w, h = map(float, numbers)
            boxes.append((COCO_CLASSES[int(label)], [x - w / 2, y - h / 2, x + w / 2, y + h / 2]))
        found[f"coco128/{path.name}"] = boxes
    return GoldBoxes(found)
