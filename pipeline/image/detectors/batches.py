"""Which images go through a network together."""

from collections.abc import Sequence


def group_by_size(shapes: Sequence[tuple[int, ...]], device: str) -> list[list[int]]:
    """Rows of the images, given by their shapes, that go through the network together.

    On a CPU each image goes alone. More would not be faster, and the last digits of a result would depend on the number
    of images.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for row, shape in enumerate(shapes):
        groups.setdefault((row,) if device == "cpu" else shape, []).append(row)
    return list(groups.values())
