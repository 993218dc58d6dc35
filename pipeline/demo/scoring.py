"""Mean average precision of detections against gold boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vlmixer.artifacts.boxes import box_iou


def average_precision(hits: np.ndarray, gold: int) -> float:
    """The area under the interpolated precision-recall curve, all points.

    hits: (n,) bool, best-scored detection first, True if it found a gold box. gold: number of gold boxes.
    """
    if not len(hits):
        return 0.0
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    # Interpolated: the precision at a recall is the best one at this or any higher recall.
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(precision[hits]) / gold)


def mean_average_precision(
    detected: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    gold: Sequence[tuple[np.ndarray, np.ndarray]],
    iou: float = 0.5,
) -> tuple[float, dict[int, float]]:
    """The average precision of each class that has a gold box, and the mean over these classes.

    Args:
        detected: for each image boxes (n, 4) xyxy, scores (n,) and labels (n,).
        gold: for each image boxes (m, 4) xyxy and labels (m,).
        iou: the least intersection over union with a gold box of the same label that makes a detection a hit. Each gold
            box is found once, by the detection with the best score; further ones are misses, as in PASCAL VOC.

    Returns:
        The mean (0 if there is no gold box) and the average precision by label.
    """
    precisions: dict[int, float] = {}
    for label in sorted({int(value) for _, labels in gold for value in labels}):
        scores, hits, total = [], [], 0
        for (boxes, box_scores, labels), (gold_boxes, gold_labels) in zip(detected, gold, strict=True):
            targets = gold_boxes[gold_labels == label]
            total += len(targets)
            mine = np.flatnonzero(labels == label)
            mine = mine[np.argsort(-box_scores[mine], kind="stable")]
            shared = box_iou(boxes[mine], targets)
            free = np.ones(len(targets), bool)
            for row, index in enumerate(mine):
                best = int(np.argmax(shared[row])) if len(targets) else -1
                hit = best >= 0 and shared[row, best] >= iou and bool(free[best])
                if hit:
                    free[best] = False
                scores.append(box_scores[index])
                hits.append(hit)
        order = np.argsort(-np.array(scores), kind="stable") if scores else np.zeros(0, np.int64)
        precisions[label] = average_precision(np.array(hits, bool)[order], total)
    return (float(np.mean(list(precisions.values()))) if precisions else 0.0), precisions
