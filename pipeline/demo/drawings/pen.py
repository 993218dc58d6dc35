"""Tools for sprites: colours, a pen on a transparent canvas, eyes and wheels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

SPRITE_SIDE = 160
"""Pixels of the longer side of a sprite, at most."""
_SUPERSAMPLING = 3

COLOURS: dict[str, Colour] = {
    "red": (212, 56, 48),
    "blue": (52, 108, 200),
    "green": (64, 150, 78),
    "yellow": (244, 200, 52),
    "orange": (240, 134, 40),
    "purple": (134, 84, 180),
    "pink": (240, 138, 172),
    "white": (244, 242, 236),
    "black": (48, 48, 56),
    "gray": (142, 146, 154),
    "brown": (140, 92, 56),
    "golden": (214, 170, 104),
}
INK = (44, 42, 50)
GLASS = (186, 222, 240)


def shade(colour: Colour, amount: float) -> Colour:
    """`colour` mixed with black (amount < 0) or with white (amount > 0); -1 is black and 1 is white."""
    target = 255 if amount > 0 else 0
    red, green, blue = (round(value + (target - value) * abs(amount)) for value in colour)
    return red, green, blue


class Pen:
    """Draws on a transparent canvas whose longer side is 100 units; y points down."""

    def __init__(self) -> None:
        self._scale = SPRITE_SIDE * _SUPERSAMPLING / 100
        self.image = Image.new("RGBA", (SPRITE_SIDE * _SUPERSAMPLING,) * 2)
        self._draw = ImageDraw.Draw(self.image)

    def _points(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self._scale, y * self._scale) for x, y in points]

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        """A filled ellipse around (x, y)."""
        self._draw.ellipse(self._points([(x - rx, y - ry), (x + rx, y + ry)])[0:2], fill=fill)

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0) -> None:
        """A filled rectangle, with rounded corners if `radius` is given."""
        self._draw.rounded_rectangle(self._points([(x0, y0), (x1, y1)]), radius * self._scale, fill=fill)

    def polygon(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled polygon."""
        self._draw.polygon(self._points(points), fill=fill)

    def blob(self, points: Sequence[Point], fill: Colour) -> None:
        """A filled smooth shape: the polygon with its corners cut three times (Chaikin)."""
        for _ in range(3):
            following = [*points[1:], points[0]]
            points = [
                corner
                for (ax, ay), (bx, by) in zip(points, following, strict=True)
                for corner in (
                    (0.75 * ax + 0.25 * bx, 0.75 * ay + 0.25 * by),
                    (0.25 * ax + 0.75 * bx, 0.25 * ay + 0.75 * by),
                )
            ]
        self.polygon(points, fill)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A line through the points with round joints and ends."""
        self._draw.line(self._points(points), fill=fill, width=round(width * self._scale), joint="curve")
        for x, y in (points[0], points[-1]):
            self.ellipse(x, y, width / 2, width / 2, fill)

    def ring(self, x: float, y: float, radius: float, width: float, fill: Colour) -> None:
        """A circle's outline."""
        box = self._points([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.ellipse(box[0:2], outline=fill, width=round(width * self._scale))

    def pie(self, x: float, y: float, radius: float, start: float, end: float, fill: Colour) -> None:
        """A sector of a circle between two angles in degrees, clockwise from three o'clock."""
        box = self._points([(x - radius, y - radius), (x + radius, y + radius)])
        self._draw.pieslice(box[0:2], start, end, fill=fill)

    def sprite(self) -> Image.Image:
        """What was drawn, reduced to its final size and trimmed to what can be seen."""
        small = self.image.reduce(_SUPERSAMPLING)
        return small.crop(small.getchannel("A").getbbox())


def eye(pen: Pen, x: float, y: float, radius: float = 2.2) -> None:
    """A dark eye with a highlight."""
    pen.ellipse(x, y, radius, radius, INK)
    pen.ellipse(x + radius * 0.3, y - radius * 0.35, radius * 0.35, radius * 0.35, (255, 255, 255))


def wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    """A wheel with a hub."""
    pen.ellipse(x, y, radius, radius, INK)
    pen.ellipse(x, y, radius * 0.55, radius * 0.55, (196, 200, 206))
    pen.ellipse(x, y, radius * 0.2, radius * 0.2, INK)


Drawing = Callable[[Pen, Colour, np.random.Generator], None]
"""Draws one thing, mainly in the given colour. The generator varies details."""
