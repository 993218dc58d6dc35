"""Where the labels of boxes go on a photo, so that none covers another, however large the photo is drawn.

Everything is in percent of the photo's width and height. A label keeps its size in pixels, so in a larger photo it is
smaller in percent: places that are free in the smallest drawing are free in all.
"""

from collections.abc import Iterator, Sequence

Box = tuple[float, float, float, float]
"""left, top, right, bottom."""
Place = tuple[float, float]
"""The upper left corner of a label."""


def place_labels(boxes: Sequence[Box], sizes: Sequence[tuple[float, float]], *, inside: bool) -> list[Place | None]:
    """The places of the boxes' labels; None where there is no room at the box. Earlier boxes choose first.

    sizes: (width, height) of the labels in the smallest drawing of the photo. inside: whether labels are within their
    box rather than above it, if they can.
    """
    taken: list[Box] = []
    places: list[Place | None] = []
    for box, (width, height) in zip(boxes, sizes, strict=True):
        places.append(None)
        for x, y in _candidates(box, width, height, inside):
            left, top = min(max(x, 0.0), 100 - width), min(max(y, 0.0), 100 - height)
            label = left, top, left + width, top + height
            if left >= 0 <= top and not any(_overlap(label, other) for other in taken):
                taken.append(label)
                places[-1] = left, top
                break
    return places


def _candidates(box: Box, width: float, height: float, inside: bool) -> Iterator[Place]:
    """Places of a label at the box, best first: the corners, then along the edges, then in the middle."""
    left, top, right, bottom = box
    inner, outer = (top, bottom - height), (top - height, bottom)
    for rows in (inner, outer) if inside else (outer, inner):
        for share in (0.0, 1.0, 0.5, 0.25, 0.75):
            for y in rows:
                yield left + share * (right - width - left), y
    for down in (0.5, 0.25, 0.75):
        for across in (0.0, 1.0, 0.5, 0.25, 0.75):
            yield left + across * (right - width - left), top + down * (bottom - height - top)
    for y in (*inner, *outer):  # beside the box
        yield left - width, y
        yield right, y


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
