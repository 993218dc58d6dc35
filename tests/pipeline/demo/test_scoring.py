"""Mean average precision, on cases small enough to work out by hand."""

import numpy as np
import pytest

from vlmixer.artifacts.boxes import box_iou
from vlmixer.pipeline.demo.scoring import average_precision, mean_average_precision

A, B, C = [0, 0, 10, 10], [20, 20, 40, 40], [50, 0, 60, 10]


def _gold(*boxes: list[int], labels: list[int] | None = None) -> tuple[np.ndarray, np.ndarray]:
    return np.array(boxes, float).reshape(-1, 4), np.array(labels or [0] * len(boxes))


def _found(
    *boxes: list[int], scores: list[float], labels: list[int] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    placed, numbers = _gold(*boxes, labels=labels)
    return placed, np.array(scores), numbers


def test_box_iou() -> None:
    boxes, others = np.array([[0, 0, 10, 10]]), np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 10, 20, 20]])
    assert box_iou(boxes, others).tolist() == [[1.0, pytest.approx(1 / 3), 0.0]]


@pytest.mark.parametrize(
    ("hits", "gold", "expected"),
    [
        ([], 3, 0.0),
        ([1, 1], 2, 1.0),
        ([1, 0], 1, 1.0),
        ([0, 1], 1, 0.5),
        ([1], 2, 0.5),
        # Precisions at the hits are 1, 2/3 and 3/4; interpolation lifts the second to 3/4.
        ([1, 0, 1, 1], 4, (1 + 3 / 4 + 3 / 4) / 4),
    ],
)
def test_average_precision(hits: list[int], gold: int, expected: float) -> None:
    assert average_precision(np.array(hits, bool), gold) == pytest.approx(expected)


def test_perfect_detections_score_one() -> None:
    gold = [_gold(A, B, labels=[0, 3]), _gold(C, labels=[3])]
    found = [_found(A, B, scores=[0.9, 0.6], labels=[0, 3]), _found(C, scores=[0.7], labels=[3])]
    assert mean_average_precision(found, gold) == (1.0, {0: 1.0, 3: 1.0})


def test_a_wrong_label_is_no_find() -> None:
    score, by_label = mean_average_precision(
        [_found(A, B, scores=[0.9, 0.8], labels=[1, 1])], [_gold(A, B, labels=[0, 1])]
    )
    assert by_label == {0: 0.0, 1: 0.5}
    assert score == 0.25


def test_a_thing_is_found_once() -> None:
    score, _ = mean_average_precision([_found(A, A, B, scores=[0.9, 0.8, 0.7])], [_gold(A, B)])
    assert score == pytest.approx((1 + 2 / 3) / 2)


def test_a_box_must_share_half_of_the_union() -> None:
    gold = [_gold(A)]
    assert mean_average_precision([_found([0, 0, 10, 6], scores=[0.9])], gold)[0] == 1.0
    assert mean_average_precision([_found([0, 0, 10, 4], scores=[0.9])], gold)[0] == 0.0


def test_scores_are_ranked_over_all_images() -> None:
    gold = [_gold(A), _gold(B)]
    sure_and_wrong_first = [_found(C, A, scores=[0.9, 0.5]), _found(B, scores=[0.7])]
    # In order of score: wrong, right, right; both finds stand at precision 2/3.
    assert mean_average_precision(sure_and_wrong_first, gold)[0] == pytest.approx(2 / 3)


def test_empty_images_count_against_wrong_finds_only() -> None:
    nothing = (np.zeros((0, 4)), np.zeros(0, int))
    no_finds = (np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert mean_average_precision([no_finds], [nothing]) == (0.0, {})
    assert mean_average_precision([no_finds, _found(A, scores=[0.5])], [nothing, _gold(A)])[0] == 1.0
    assert mean_average_precision([_found(A, scores=[0.8]), _found(A, scores=[0.5])], [nothing, _gold(A)])[0] == 0.5
