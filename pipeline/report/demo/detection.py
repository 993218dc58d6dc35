"""The demo's detector, measured against the true boxes of the pictures."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vlmixer.artifacts import files, manifest
from vlmixer.artifacts.boxes import box_iou
from vlmixer.artifacts.parquet import read_parquet
from vlmixer.pipeline.report.demo.share import Share

OVERLAP = 0.5
"""Least intersection over union of a right detection."""

Box = tuple[float, float, float, float]
Thing = tuple[str, Box]
"""A label and its box, xyxy in pixels."""


@dataclass(frozen=True)
class DetectionScore:
    """The detector against the scenes' true boxes: detections that are right, and things that were found."""

    correct: Share
    found: Share


def measure_detection(regions: str, world_folder: str) -> DetectionScore:
    """The score over all scenes of regions/."""
    gold = _true_boxes(files.join(world_folder, "boxes.jsonl"))
    detections = right = 0
    for part in manifest.read(regions).parts:
        with files.open_read(files.join(regions, part.name)) as file:
            rows = read_parquet(file, ["box", "concept", "source"]).to_pylist()
        by_scene: dict[str, list[dict[str, Any]]] = {}
        for row in rows:
            by_scene.setdefault(row["source"].rsplit("/", 1)[-1], []).append(row)
        for name, found in by_scene.items():
            detections += len(found)
            right += _count_right(found, gold[name])
    things = sum(len(boxes) for boxes in gold.values())
    return DetectionScore(Share(right, detections), Share(right, things))


def _true_boxes(path: str) -> dict[str, list[Thing]]:
    """The things of each picture."""
    entries = map(json.loads, files.read_bytes(path).decode().splitlines())
    return {entry["image"]: [(thing["label"], tuple(thing["xyxy"])) for thing in entry["boxes"]] for entry in entries}


def _count_right(found: Sequence[Mapping[str, Any]], gold: Sequence[Thing]) -> int:
    """How many detections, best first, are a thing of their label that no better one has found."""
    shared = box_iou(np.array([row["box"] for row in found]), np.array([box for _, box in gold]).reshape(-1, 4))
    free = [True] * len(gold)
    right = 0
    for row, detection in enumerate(found):
        fits = [
            (shared[row, thing], thing)
            for thing, (label, _) in enumerate(gold)
            if free[thing] and label == detection["concept"] and shared[row, thing] >= OVERLAP
        ]
        if fits:
            free[max(fits)[1]] = False
            right += 1
    return right
