"""Small files of boxes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLASSES = {1: "dog", 2: "cat", 9: "zebra crossing"}


def image(number: Any, name: str | None = None, width: Any = 100, height: Any = 50) -> dict[str, Any]:
    """An entry of COCO's images."""
    return {"id": number, "file_name": name or f"{number:012d}.jpg", "width": width, "height": height}


def box(number: Any, bbox: Any = (10, 20, 30, 10), category: Any = 1, **more: Any) -> dict[str, Any]:
    """An entry of COCO's annotations, or with a score of detection results."""
    record = {"image_id": number, "category_id": category, "bbox": list(bbox) if isinstance(bbox, tuple) else bbox}
    return record | more


def write_coco(
    path: Path, boxes: Sequence[Any], images: Sequence[Any] = (image(7), image(8)), classes: Any = None
) -> Path:
    """COCO's annotations; images and categories after the boxes, as some programs write them."""
    categories = [{"id": number, "name": name} for number, name in (CLASSES if classes is None else classes).items()]
    path.write_text(
        json.dumps({"info": {}, "annotations": list(boxes), "images": list(images), "categories": categories})
    )
    return path


def write_results(path: Path, boxes: Sequence[Any]) -> Path:
    """COCO's detection results."""
    path.write_text(json.dumps(list(boxes)))
    return path


def sample(path: str, *boxes: Any, field: str = "ground_truth", **more: Any) -> dict[str, Any]:
    """A sample of FiftyOne with boxes of (label, bounding_box) or whole detections."""
    detections = [
        one if isinstance(one, dict) else {"_cls": "Detection", "label": one[0], "bounding_box": list(one[1])}
        for one in boxes
    ]
    return {"filepath": path, "tags": [], field: {"_cls": "Detections", "detections": detections}, **more}


def write_samples(path: Path, *samples: Any) -> Path:
    """FiftyOne's samples.json."""
    path.write_text(json.dumps({"samples": list(samples)}))
    return path
