import numpy as np
import pytest

from vlmixer.pipeline.image.detectors.base import Detections, no_detections
from vlmixer.pipeline.image.regions import BadFeature, RegionChoice, choose_regions

CONCEPTS = ["dog", None, "kite"]


def detections(boxes, scores, labels, features=None):
    """Without features given, row i has [2 i, 2 i + 1]."""
    count = len(scores)
    return Detections(
        np.array(boxes, np.float32).reshape(count, 4),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        np.array(np.arange(count * 2) if features is None else features, np.float32).reshape(count, 2),
    )


def chosen(found, **options):
    choice = RegionChoice(**({"score_threshold": 0.3, "max_regions": 10} | options))
    return choose_regions(found, CONCEPTS, width=100, height=50, choice=choice)


BOX = [0, 0, 10, 10]


def test_regions_come_best_first_with_their_own_box_concept_and_feature():
    found = chosen(detections([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], [0.5, 0.9, 0.7], [0, 2, 0]))
    assert [region.box[2] for region in found] == [2, 3, 1]
    assert [region.concept for region in found] == ["kite", "dog", "dog"]
    assert [region.score for region in found] == [pytest.approx(score) for score in (0.9, 0.7, 0.5)]
    assert [region.feature.tolist() for region in found] == [[2, 3], [4, 5], [0, 1]]
    assert {(region.box.dtype.name, region.feature.dtype.name) for region in found} == {("float32", "float16")}


def test_the_threshold_itself_is_kept():
    found = chosen(detections([BOX] * 3, [0.3, 0.29999, 0.30001], [0, 0, 0]))
    assert [region.feature[0] for region in found] == [4, 0]


def test_equal_scores_keep_the_detectors_order():
    found = chosen(detections([BOX] * 20, [0.5] * 20, [0, 2] * 10), max_regions=20)
    assert [region.feature[0] for region in found] == list(range(0, 40, 2))


def test_no_more_than_max_regions_of_known_concepts():
    found = chosen(detections([BOX] * 4, [0.9, 0.8, 0.7, 0.6], [1, 0, 1, 2]), max_regions=2)
    assert [region.concept for region in found] == ["dog", "kite"]
    assert len(chosen(detections([BOX] * 4, [0.9, 0.8, 0.7, 0.6], [0] * 4), max_regions=3)) == 3


def test_boxes_are_clipped_to_the_image():
    (region,) = chosen(detections([[-5, -5, 500, 500]], [0.9], [0]))
    assert region.box.tolist() == [0, 0, 100, 50]


@pytest.mark.parametrize(
    "box",
    [[10, 10, 10.9, 20], [10, 10, 20, 10], [20, 20, 10, 10], [100, 0, 200, 50], [-9, -9, 0.5, 9],
     [np.nan, 0, 10, 10], [0, 0, np.nan, np.nan]],
)  # fmt: skip
def test_what_is_narrower_than_a_pixel_is_left_out(box):
    assert chosen(detections([box], [0.9], [0])) == []


def test_a_pixel_is_wide_enough():
    assert len(chosen(detections([[10, 10, 11, 11]], [0.9], [0]))) == 1


def test_a_score_that_is_no_number_reaches_no_threshold():
    assert [region.feature[0] for region in chosen(detections([BOX] * 2, [np.nan, 0.5], [0, 0]))] == [2]


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 70_000])
def test_features_that_float16_does_not_hold_are_refused(value):
    with pytest.raises(BadFeature):
        chosen(detections([BOX], [0.9], [0], [[0, value]]))


def test_an_infinite_score_is_refused():
    with pytest.raises(BadFeature):
        chosen(detections([BOX], [np.inf], [0]))


def test_bad_features_of_regions_that_are_not_kept_do_not_matter():
    found = chosen(detections([BOX] * 3, [0.9, 0.1, 0.8], [0, 0, 1], [[1, 1], [np.nan, 0], [np.nan, 0]]))
    assert len(found) == 1


def test_no_detections():
    assert chosen(no_detections(2)) == []
    assert chosen(detections([], [], [])) == []


def test_of_one_concept_only_the_better_of_two_that_overlap():
    """The second overlaps the first by 0.5; the third is another concept, the fourth lies apart."""
    boxes = [[0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 10], [50, 0, 60, 10]]
    found = detections(boxes, [0.9, 0.8, 0.7, 0.6], [0, 0, 2, 0])
    assert [region.feature[0] for region in chosen(found, nms_threshold=0.49)] == [0, 4, 6]
    assert [region.feature[0] for region in chosen(found, nms_threshold=0.5)] == [0, 2, 4, 6]


def test_labels_of_one_concept_are_one_class_for_overlap():
    found = detections([BOX] * 2, [0.9, 0.8], [0, 1])
    assert len(choose_regions(found, ["dog", "dog"], width=100, height=50, choice=RegionChoice(nms_threshold=0.5))) == 1
    assert len(choose_regions(found, ["dog", "cat"], width=100, height=50, choice=RegionChoice(nms_threshold=0.5))) == 2


def test_what_overlap_dropped_makes_room_for_others():
    found = detections([BOX, BOX, [50, 0, 60, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    assert [region.feature[0] for region in chosen(found, nms_threshold=0.5, max_regions=2)] == [0, 4]


def test_regions_with_a_shorter_side_below_the_limit_are_left_out():
    boxes = [[0, 0, 8, 40], [0, 0, 40, 7.9], [0, 0, 8, 8], [95, 0, 200, 50]]
    assert [region.feature[0] for region in chosen(detections(boxes, [0.9] * 4, [0] * 4), min_side=8)] == [0, 4]


def test_at_least_so_many_regions_whatever_their_scores():
    found = detections([[n * 10, 0, n * 10 + 10, 10] for n in range(5)], [0.9, 0.2, 0.1, 0.15, 0.05], [0, 0, 1, 0, 0])
    assert [region.feature[0] for region in chosen(found, min_regions=1)] == [0]
    assert [region.feature[0] for region in chosen(found, min_regions=3)] == [0, 2, 6]
    assert len(chosen(found, min_regions=10)) == 4, "there are no more"
