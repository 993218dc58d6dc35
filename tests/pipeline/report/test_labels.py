"""Where labels go on a photo: none covers another, all are on the photo."""

import numpy as np
import pytest

from vlmixer.pipeline.report.labels import Box, Place, place_labels

SIZE = (8.0, 6.0)


def boxes_of(places: list[Place | None]) -> list[Box]:
    found = [place for place in places if place is not None]
    return [(x, y, x + SIZE[0], y + SIZE[1]) for x, y in found]


@pytest.mark.parametrize(
    ("box", "inside", "place"),
    [
        ((10, 20, 60, 80), True, (10, 20)),
        ((10, 20, 60, 80), False, (10, 14)),
        ((10, 2, 60, 80), False, (10, 0)),
        ((97, 20, 99, 80), True, (92, 20)),
        ((10, 98, 60, 99), True, (10, 94)),
    ],
)
def test_one_label_is_at_its_corner_and_on_the_photo(box: Box, inside: bool, place: Place) -> None:
    assert place_labels([box], [SIZE], inside=inside) == [place]


def test_equal_boxes_have_labels_side_by_side() -> None:
    places = place_labels([(10, 10, 60, 60)] * 3, [SIZE] * 3, inside=True)
    assert places == [(10, 10), (10, 54), (52, 10)]


@pytest.mark.parametrize("inside", [True, False])
def test_no_label_covers_another_however_large_the_photo_is_drawn(inside: bool) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        corners = np.sort(random.uniform(0, 100, (12, 2, 2)), axis=1)
        boxes: list[Box] = [(x0, y0, x1, y1) for x0, y0, x1, y1 in corners.reshape(12, 4).tolist()]
        places = place_labels(boxes, [SIZE] * 12, inside=inside)
        assert sum(place is None for place in places) <= 1
        for shrunk in (1.0, 0.3):
            labels = [(x, y, x + (x1 - x) * shrunk, y + (y1 - y) * shrunk) for x, y, x1, y1 in boxes_of(places)]
            for number, (x0, y0, x1, y1) in enumerate(labels):
                assert 0 <= x0 < x1 <= 100
                assert 0 <= y0 < y1 <= 100
                for other in labels[:number]:
                    assert x1 <= other[0] or other[2] <= x0 or y1 <= other[1] or other[3] <= y0


def test_where_there_is_no_room_there_is_no_label() -> None:
    places = place_labels([(0, 0, 9, 7)] * 20, [SIZE] * 20, inside=True)
    assert None in places
    assert places[0] == (0, 0)
    assert place_labels([(0, 0, 100, 100)], [(101, 5)], inside=True) == [None]
