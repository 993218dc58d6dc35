"""Pictures of single things on a transparent ground, drawn with Pillow and kept in memory.

`sprite` gives one category in one colour; `CLUTTER` and `clutter` are things that belong to no category. A scene
resizes, flips and tilts them; nothing here depends on a seed, so every process draws the same sprites.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from functools import cache
from math import cos, pi, sin

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

VARIANTS = 3
SPRITE_SIDE = 160
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
_INK = (44, 42, 50)
_GLASS = (186, 222, 240)


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
        """A filled rectangle, with rounded corners where `radius` is given."""
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


def _eye(pen: Pen, x: float, y: float, radius: float = 2.2) -> None:
    pen.ellipse(x, y, radius, radius, _INK)
    pen.ellipse(x + radius * 0.3, y - radius * 0.35, radius * 0.35, radius * 0.35, (255, 255, 255))


def _wheel(pen: Pen, x: float, y: float, radius: float) -> None:
    pen.ellipse(x, y, radius, radius, _INK)
    pen.ellipse(x, y, radius * 0.55, radius * 0.55, (196, 200, 206))
    pen.ellipse(x, y, radius * 0.2, radius * 0.2, _INK)


def _dog(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.3) if sum(c) > 250 else shade(c, 0.25)
    pen.line([(14, 52), (6, 42), (4, 30 + r.uniform(-4, 6))], 6, c)
    for x, tone in ((25, dark), (64, dark), (19, c), (58, c)):
        pen.line([(x, 60), (x, 84)], 8, tone)
        pen.ellipse(x + 2, 86, 6, 4, tone)
    pen.blob([(8, 44), (30, 40), (72, 40), (76, 62), (60, 72), (30, 68), (8, 70)], c)
    pen.blob([(58, 52), (60, 24), (76, 14), (86, 24), (78, 50), (70, 62)], c)
    pen.blob([(66, 16), (84, 12), (90, 26), (102, 28), (100, 42), (84, 42), (68, 38)], c)
    pen.ellipse(97, 30, 3.6, 3, _INK)
    pen.blob([(62, 14), (74, 14), (76, 34), (68, 46), (60, 36)], dark)
    pen.line([(64, 49), (78, 47)], 4.5, (206, 60, 52) if c[0] < 190 or c[1] > 120 else (58, 120, 200))
    _eye(pen, 83, 24, 2.6)


def _cat(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.25) if sum(c) > 250 else shade(c, 0.22)
    pen.line([(64, 86), (82, 86), (90, 74), (86, 58), (90, 46 + r.uniform(-4, 4))], 7.5, c)
    pen.blob([(34, 44), (62, 44), (76, 76), (72, 96), (28, 96), (26, 74)], c)
    pen.blob([(40, 56), (56, 56), (58, 84), (48, 90), (38, 84)], shade(c, 0.35))
    for x in (40, 56):
        pen.line([(x, 70), (x, 92)], 7, c)
        pen.ellipse(x, 93, 6.5, 4, shade(c, 0.2))
    for side in (-1, 1):
        pen.polygon([(48 + side * 22, 2), (48 + side * 24, 26), (48 + side * 5, 14)], c)
        pen.polygon([(48 + side * 19, 8), (48 + side * 20, 20), (48 + side * 10, 14)], (236, 160, 160))
    pen.ellipse(48, 29, 25, 20, c)
    for x in (40, 48, 56):
        pen.line([(x, 11), (48 + (x - 48) * 0.6, 18)], 2.6, dark)
    for side in (-1, 1):
        pen.ellipse(48 + side * 10, 27, 4.6, 5.2, (150, 206, 92))
        pen.ellipse(48 + side * 10, 27, 1.7, 4.6, _INK)
        pen.line([(48 + side * 10, 37), (48 + side * 28, 34)], 0.9, dark)
        pen.line([(48 + side * 10, 39), (48 + side * 28, 41)], 0.9, dark)
    pen.polygon([(45, 34), (51, 34), (48, 38)], (226, 110, 120))


def _bear(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark, snout = shade(c, -0.22), shade(c, 0.3)
    for x in (18, 60):
        pen.box(x + 6, 50, x + 20, 80, dark, 6)
    pen.blob([(2, 34), (22, 20), (56, 10 + r.uniform(-3, 3)), (78, 22), (78, 58), (52, 70), (10, 68)], c)
    for x in (8, 52):
        pen.box(x, 50, x + 17, 83, c, 7)
        pen.ellipse(x + 9, 82, 10, 4.5, c)
    for x in (68, 86):
        pen.ellipse(x, 15, 6.5, 6.5, c)
        pen.ellipse(x, 15, 3.4, 3.4, snout)
    pen.ellipse(78, 30, 17, 17, c)
    pen.ellipse(88, 37, 11, 9, snout)
    pen.ellipse(95, 33, 4, 3.4, _INK)
    pen.line([(90, 42), (96, 41)], 1.4, _INK)
    _eye(pen, 79, 25, 2.5)


def _sheep(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    face = (70, 62, 64)
    for x in (26, 38, 58, 68):
        pen.box(x, 56, x + 6, 84, face, 2)
    for angle in np.arange(0, 2 * pi, pi / 6):
        pen.ellipse(46 + 31 * cos(angle), 44 + 18 * sin(angle), 13, 13, shade(c, -0.1))
    for angle in np.arange(0.2, 2 * pi, pi / 6):
        pen.ellipse(46 + 27 * cos(angle), 42 + 16 * sin(angle), 12, 12, c)
    pen.ellipse(46, 42, 30, 20, c)
    for _ in range(5):
        pen.ring(r.uniform(26, 62), r.uniform(32, 52), 4, 1.2, shade(c, -0.12))
    pen.blob([(72, 22), (90, 24), (98, 46), (92, 56), (78, 48)], face)
    pen.blob([(64, 28), (76, 28), (76, 38), (62, 42)], face)
    pen.ellipse(78, 24, 11, 8, c)
    _eye(pen, 85, 35, 2.4)


def _goose(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    beak = (240, 146, 40)
    for x in (38, 50):
        pen.line([(x, 74), (x + 2, 94)], 3.4, beak)
        pen.polygon([(x - 2, 97), (x + 12, 97), (x + 3, 90)], beak)
    pen.blob([(0, 46), (24, 50), (56, 44), (74, 56), (66, 78), (34, 84), (14, 72)], c)
    pen.line([(64, 64), (71, 44), (68, 26), (72, 15 + r.uniform(-2, 2))], 11, c)
    pen.ellipse(74, 13, 10, 8.5, c)
    pen.polygon([(82, 8), (98, 15), (82, 19)], beak)
    pen.blob([(12, 52), (48, 48), (58, 58), (44, 72), (24, 68)], shade(c, -0.17))
    for y in (58, 63):
        pen.line([(24, y), (46, y - 1)], 1.6, shade(c, -0.32))
    _eye(pen, 77, 11, 2.1)


def _mouse(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pink = (238, 160, 168)
    pen.line([(22, 62), (8, 66), (2, 54), (10, 42 + r.uniform(-6, 4)), (4, 32)], 3, pink)
    pen.blob([(12, 62), (24, 34), (56, 26), (80, 42), (100, 62), (84, 72), (24, 72)], c)
    for x in (32, 66):
        pen.ellipse(x, 72, 8, 3.4, pink)
    for x, y in ((74, 26), (55, 25)):
        pen.ellipse(x, y, 15, 16, shade(c, -0.12))
        pen.ellipse(x, y, 10, 11, pink)
    pen.ellipse(97, 61, 4, 3.6, pink)
    for dy in (-5, 0, 5):
        pen.line([(88, 64), (76, 66 + dy)], 0.9, shade(c, -0.4))
    _eye(pen, 83, 51, 3)


def _fish(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    fin = shade(c, -0.22)
    pen.polygon([(30, 40), (4, 18), (10, 40), (4, 62)], fin)
    pen.blob([(38, 26), (58, 4 + r.uniform(0, 5)), (76, 26)], fin)
    pen.polygon([(48, 54), (56, 70), (66, 54)], fin)
    pen.blob([(22, 40), (44, 18), (80, 18), (104, 40), (80, 60), (44, 60)], c)
    pen.blob([(30, 46), (60, 50), (94, 44), (78, 58), (46, 58)], shade(c, 0.45))
    for x in (46, 55, 64):
        pen.line([(x, 30), (x + 3, 37), (x, 44)], 1.8, fin)
    pen.line([(75, 27), (71, 38), (75, 48)], 2.2, fin)
    pen.ellipse(84, 35, 5, 5, (255, 255, 255))
    _eye(pen, 85, 35, 3)


def _owl(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark, pale = shade(c, -0.3), shade(c, 0.45)
    for side in (-1, 1):
        pen.polygon([(40 + side * 30, 2), (40 + side * 26, 30), (40 + side * 6, 14)], c)
    pen.blob([(14, 10), (66, 10), (76, 50), (62, 98), (18, 98), (4, 50)], c)
    pen.blob([(26, 46), (54, 46), (58, 72), (46, 94), (34, 94), (22, 72)], pale)
    for row, y in enumerate((58, 66, 74, 82)):
        for x in range(32 - row % 2 * 3, 50, 7):
            pen.line([(x, y), (x + 2, y + 3), (x + 4, y)], 1.4, dark)
    for side in (-1, 1):
        pen.blob([(40 + side * 26, 38), (40 + side * 40, 60), (40 + side * 26, 92), (40 + side * 21, 64)], dark)
        pen.ellipse(40 + side * 14, 30, 14, 14, pale)
        pen.ellipse(40 + side * 13, 30, 9, 9, (250, 204, 60))
        pen.ellipse(40 + side * 13, 30, 5, 5, _INK)
        pen.ellipse(40 + side * 13 + 2, 28, 1.6, 1.6, (255, 255, 255))
        pen.box(40 + side * 9 - 4, 93, 40 + side * 9 + 4, 99, (232, 150, 50), 2)
    pen.polygon([(35, 36), (45, 36), (40, 47 + r.uniform(-1, 2))], (232, 150, 50))


def _butterfly(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    edge, spot = shade(c, -0.45), shade(c, 0.5)
    droop = r.uniform(-4, 4)
    for side in (-1, 1):

        def at(x: float, y: float, side: int = side) -> Point:
            return 50 + side * x, y

        pen.blob([at(2, 40), at(18, 4), at(52, 0 + droop), at(50, 36), at(24, 52)], edge)
        pen.blob([at(2, 48), at(32, 46), at(44, 66), at(28, 92), at(6, 66)], edge)
        pen.blob([at(5, 40), at(21, 10), at(46, 7 + droop), at(44, 33), at(22, 46)], c)
        pen.blob([at(4, 52), at(30, 51), at(37, 66), at(25, 83), at(8, 64)], shade(c, 0.2))
        pen.ellipse(*at(32, 22), 5.5, 5.5, spot)
        pen.ellipse(*at(23, 66), 4.5, 4.5, spot)
        pen.line([at(1, 26), at(8, 12), at(13, 7)], 1.6, _INK)
    pen.ellipse(50, 50, 4, 26, _INK)


def _train(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark, brass = shade(c, -0.3), (222, 176, 70)
    pen.box(2, 12, 36, 52, c, 2)
    pen.box(0, 8, 40, 14, dark, 2)
    pen.box(8, 20, 20, 34, _GLASS, 1.5)
    pen.box(23, 20, 32, 34, _GLASS, 1.5)
    pen.box(34, 26, 90, 52, c, 9)
    for x in (48, 62, 76):
        pen.box(x, 26, x + 2.6, 52, brass)
    pen.polygon([(72, 6), (86, 6), (83, 28), (75, 28)], dark)
    pen.box(70, 2, 88, 8, brass, 2)
    pen.pie(55, 27, 7, 180, 360, brass)
    pen.ellipse(92, 34, 4, 5, (250, 232, 150))
    pen.box(0, 50, 92, 57, dark, 1)
    pen.polygon([(88, 52), (100, 68), (82, 68)], (206, 62, 52))
    for x in (14, 35):
        _wheel(pen, x, 60, 10.5)
    for x in (56, 74):
        _wheel(pen, x, 63, 7.5)
    pen.line([(14, 61), (56, 63)], 2.4, (206, 208, 212))


def _car(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    roof = 8 + r.uniform(-3, 3)
    pen.blob([(14, 34), (26, roof), (38, roof - 4), (64, roof - 4), (74, roof), (90, 34)], c)
    pen.polygon([(26, 28), (33, 12), (48, 11), (48, 28)], _GLASS)
    pen.polygon([(52, 28), (52, 11), (64, 11), (76, 28)], _GLASS)
    pen.polygon([(56, 28), (62, 11), (66, 12), (60, 28)], shade(_GLASS, 0.5))
    pen.box(0, 26, 100, 50, c, 9)
    pen.box(0, 42, 100, 50, shade(c, -0.28), 3)
    pen.line([(50, 29), (50, 42)], 1, shade(c, -0.35))
    pen.line([(54, 33), (60, 33)], 1.8, shade(c, -0.45))
    pen.ellipse(95, 34, 4, 4, (255, 240, 170))
    pen.box(0, 31, 4, 38, (188, 36, 40), 1)
    for x in (23, 77):
        _wheel(pen, x, 50, 11)


def _bus(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.box(0, 0, 100, 54, c, 6)
    pen.box(0, 32, 100, 38, shade(c, 0.55))
    pen.box(0, 46, 100, 54, shade(c, -0.3), 3)
    pen.box(3, 1.5, 97, 5, shade(c, 0.3), 2)
    for x in (5, 20, 35, 50):
        pen.box(x, 9, x + 12, 28, _GLASS, 2)
        pen.polygon([(x + 3, 28), (x + 7, 9), (x + 9, 9), (x + 5, 28)], shade(_GLASS, 0.5))
    pen.box(66, 9, 79, 50, shade(_GLASS, -0.12), 1.5)
    pen.line([(72.5, 9), (72.5, 50)], 1.2, shade(c, -0.4))
    pen.box(83, 9, 99, 30, _GLASS, 3)
    pen.ellipse(96, 42, 3, 3, (255, 240, 170))
    for axle in (22.0, 74 + r.uniform(-2, 2)):
        _wheel(pen, axle, 54, 9)


def _bicycle(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    for x in (22, 78):
        pen.ring(x, 48, 21, 3.4, _INK)
        for angle in np.arange(0, pi, pi / 4):
            dx, dy = 18 * cos(angle), 18 * sin(angle)
            pen.line([(x - dx, 48 - dy), (x + dx, 48 + dy)], 0.7, (150, 154, 160))
    pen.line([(22, 48), (38, 22), (70, 22), (48, 48), (22, 48)], 4.4, c)
    pen.line([(48, 48), (34, 14)], 4.4, c)
    pen.line([(78, 48), (68, 12)], 4.4, c)
    pen.line([(26, 13), (42, 12)], 5.5, _INK)
    pen.line([(80, 6 + r.uniform(-2, 2)), (68, 10), (62, 8)], 3.4, _INK)
    pen.ellipse(48, 48, 5.5, 5.5, (96, 98, 106))
    pen.line([(44, 42), (52, 55)], 2.2, _INK)


def _sailboat(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    hull = shade(c, -0.25) if sum(c) < 600 else (150, 92, 54)
    pen.line([(46, 4), (46, 78)], 3, (110, 80, 56))
    pen.blob([(42, 2), (42, 68), (42, 68), (2, 68), (2, 68), (24, 40 + r.uniform(-4, 4))], shade(c, -0.08))
    pen.blob([(50, 8), (72, 34), (88, 66), (88, 66), (50, 68), (50, 68)], c)
    pen.line([(56, 40), (72, 40)], 1.6, shade(c, -0.3))
    pen.line([(56, 52), (79, 52)], 1.6, shade(c, -0.3))
    pen.polygon([(46, 0), (62, 5), (46, 10)], (214, 60, 52))
    pen.blob([(0, 74), (0, 74), (98, 72), (98, 72), (86, 94), (80, 96), (18, 96), (12, 94)], hull)
    pen.line([(5, 79), (93, 78)], 2.4, shade(hull, 0.5))


def _hot_air_balloon(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    stripe = shade(c, 0.6)
    outline = [(36, 74), (10, 50), (4, 22), (20, 0), (40, -4), (60, 0), (76, 22), (70, 50), (44, 74)]
    pen.blob(outline, c)
    for inner, tone in ((0.66, stripe), (0.34, c)):
        pen.blob([(40 + (x - 40) * inner, y) for x, y in outline], tone)
    pen.blob([(14, 44), (66, 44), (60, 54), (40, 57), (20, 54)], shade(c, -0.25))
    pen.box(33, 67, 47, 71, shade(c, -0.4), 1)
    for x in (33, 40, 47):
        pen.line([(x, 70), (40 + (x - 40) * 0.8, 84)], 1, _INK)
    pen.box(32, 83, 48, 98, (164, 112, 62), 3)
    pen.box(31, 82, 49, 86, (122, 80, 44), 2)
    for x in (37, 43):
        pen.line([(x, 87), (x, 96)], 1, (122, 80, 44))


def _traffic_light(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.box(17, 60, 23, 100, (88, 90, 98), 1)
    pen.box(10, 96, 30, 100, (70, 72, 80), 1.5)
    pen.box(4, 0, 36, 66, shade(c, -0.25), 6)
    pen.box(6, 2, 34, 64, c, 5)
    lit = int(r.integers(3))
    for row, lamp in enumerate(((226, 50, 44), (248, 196, 48), (70, 196, 92))):
        y = 13 + 20 * row
        pen.ellipse(20, y, 9.4, 9.4, (30, 30, 34))
        pen.ellipse(20, y, 8, 8, lamp if row == lit else shade(lamp, -0.35))
        if row == lit:
            pen.ellipse(17.5, y - 2.5, 2.6, 2.6, shade(lamp, 0.6))


def _kite(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    other = shade(c, 0.55)
    sway = r.uniform(-3, 3)
    tail = [(30, 62), (38 + sway, 72), (26, 82 + sway), (36, 90), (28, 98)]
    pen.line(tail, 1.5, _INK)
    for x, y in tail[1:4]:
        pen.polygon([(x, y), (x - 7, y - 4), (x - 7, y + 4)], c)
        pen.polygon([(x, y), (x + 7, y - 4), (x + 7, y + 4)], shade(c, -0.25))
    pen.polygon([(30, 0), (4, 24), (30, 24)], c)
    pen.polygon([(30, 0), (56, 24), (30, 24)], other)
    pen.polygon([(30, 64), (4, 24), (30, 24)], other)
    pen.polygon([(30, 64), (56, 24), (30, 24)], shade(c, -0.2))
    pen.line([(30, 0), (30, 64)], 1.4, _INK)
    pen.line([(4, 24), (56, 24)], 1.4, _INK)


def _airplane(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    wing = shade(c, -0.22)
    pen.polygon([(40, 24), (30, 4), (38, 4), (58, 24)], wing)
    pen.polygon([(4, 26), (0, 2), (10, 2), (24, 24)], wing)
    pen.blob([(2, 24), (20, 20), (82, 18), (96, 22), (102, 30), (92, 38), (60, 40), (16, 36)], c)
    pen.blob([(10, 34), (60, 38), (98, 32), (88, 40), (56, 41)], shade(c, -0.1))
    pen.polygon([(84, 20), (93, 23), (95, 27), (85, 27)], (70, 110, 150))
    for x in range(26, 80, 8):
        pen.box(x, 24, x + 4, 29, (96, 150, 190), 1.5)
    pen.polygon([(40, 33), (62, 33), (36, 58 + r.uniform(-3, 2)), (26, 58)], wing)
    pen.box(42, 43, 55, 50, (92, 96, 104), 3)
    pen.polygon([(6, 28), (20, 28), (4, 38), (-2, 38)], wing)


def _house(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    roof = (172, 76, 58) if c[0] < 190 or c[1] > 150 else (92, 84, 92)
    pen.box(70, 6, 80, 30, (150, 96, 80))
    pen.box(10, 38, 90, 92, c)
    pen.box(10, 84, 90, 92, shade(c, -0.25))
    pen.polygon([(50, 0), (100, 42), (0, 42)], roof)
    pen.polygon([(50, 8), (84, 37), (16, 37)], shade(roof, 0.14))
    pen.ellipse(50, 27, 6, 6, shade(roof, -0.3))
    door = 44 + r.uniform(-4, 4)
    pen.box(door, 58, door + 16, 92, (108, 68, 44), 2)
    pen.ellipse(door + 13, 76, 1.5, 1.5, (236, 200, 90))
    for x in (17, 69):
        pen.box(x, 52, x + 16, 70, (250, 250, 246), 1)
        pen.box(x + 2, 54, x + 14, 68, (150, 200, 228))
        pen.line([(x + 8, 54), (x + 8, 68)], 1.4, (250, 250, 246))
        pen.line([(x + 2, 61), (x + 14, 61)], 1.4, (250, 250, 246))


def _palm_tree(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    lean = r.uniform(-6, 6)
    trunk = [(36, 100), (34 + lean / 2, 66), (40 + lean, 30)]
    pen.line(trunk, 7.5, (150, 106, 66))
    for step in np.linspace(0.05, 0.95, 9):
        y = 100 - 68 * step
        x = 36 + (lean + 3) * step**1.5 - 2 * sin(pi * step)
        pen.line([(x - 3, y), (x + 3, y - 1)], 1.3, (112, 76, 46))
    top_x, top_y = 40 + lean, 28
    for index, angle in enumerate((200, 335, 170, 10, 235, 305)):
        dx, dy = cos(angle * pi / 180), sin(angle * pi / 180)
        tip = (top_x + 38 * dx, top_y + 20 * dy + 18 * abs(dx))
        middle = (top_x + 22 * dx, top_y + 26 * dy - 4)
        tone = shade(c, (-0.25, 0.0, 0.18)[index % 3])
        pen.blob([(top_x, top_y), middle, tip, tip, (middle[0], middle[1] + 12)], tone)
    for dx in (-4, 3):
        pen.ellipse(top_x + dx, top_y + 5, 4, 4, (112, 72, 44))


def _umbrella(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.line([(50, 8), (50, 88), (54, 94), (61, 93), (63, 86)], 3.4, (110, 78, 56))
    pen.pie(50, 50, 48, 180, 360, c)
    inner = r.uniform(15, 19)
    for x0, x1, tone in ((2, 50 - inner, c), (50 - inner, 50 + inner, shade(c, 0.6)), (50 + inner, 98, c)):
        pen.blob([(50, 0), (50, 4), (x0, 44), (x0, 52), (x1, 52), (x1, 44)], tone)
    pen.box(49, -1, 51, 5, (110, 78, 56))


def _orange(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.ellipse(50, 56, 43, 41, shade(c, -0.18))
    pen.ellipse(48, 54, 41, 39, c)
    pen.ellipse(34, 40, 13, 10, shade(c, 0.4))
    for _ in range(22):
        angle, radius = r.uniform(0, 2 * pi), 34 * r.uniform(0, 1) ** 0.5
        pen.ellipse(50 + radius * cos(angle), 56 + radius * sin(angle), 1.3, 1.3, shade(c, -0.22))
    pen.line([(50, 18), (53, 6)], 4.4, (106, 78, 46))
    pen.blob([(52, 14), (66, 0), (88, 6), (80, 20), (62, 22)], (82, 158, 70))


def _book(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.3)
    pen.polygon([(6, 58), (62, 72), (98, 44), (98, 56), (62, 86), (6, 72)], (240, 234, 216))
    for offset in (3, 6, 9):
        pen.line([(8, 59 + offset), (62, 73 + offset), (97, 45 + offset)], 0.8, (196, 186, 160))
    pen.polygon([(4, 70), (62, 84), (100, 54), (100, 60), (62, 91), (4, 76)], dark)
    pen.polygon([(4, 54), (40, 26), (100, 40), (62, 72)], c)
    pen.polygon([(2, 54), (8, 55), (8, 77), (2, 76)], dark)
    pen.polygon([(28, 51), (46, 37), (78, 44), (60, 59)], shade(c, 0.55))
    pen.line([(43, 48), (62, 52)], 2 + r.uniform(-0.5, 0.5), dark)


def _chair(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.3)
    back = 4 + r.uniform(-3, 3)
    pen.line([(54, 56), (58, 92)], 5, dark)
    pen.line([(22, 54), (20, 86)], 5, dark)
    for x0, x1 in ((10, 12), (44, 46)):
        pen.line([(x0, back + 2), (x1, 56)], 5.5, c)
    for y in (back + 4, back + 18, back + 32):
        pen.line([(11, y), (45, y)], 6, c)
    pen.polygon([(8, 52), (46, 52), (66, 62), (22, 62)], shade(c, 0.22))
    pen.polygon([(22, 62), (66, 62), (66, 68), (22, 68), (8, 58), (8, 52)], dark)
    pen.line([(24, 66), (24, 97)], 5.5, c)
    pen.line([(63, 66), (65, 97)], 5.5, c)


def _clock(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.3)
    for side in (-1, 1):
        pen.line([(50 + side * 24, 82), (50 + side * 34, 96)], 7, dark)
        pen.pie(50 + side * 24, 17, 16, 180 + side * 30, 360 + side * 30, dark)
    pen.box(47, 2, 53, 12, dark, 2)
    pen.ellipse(50, 54, 42, 42, dark)
    pen.ellipse(50, 53, 40, 40, c)
    pen.ellipse(50, 53, 31, 31, (252, 251, 246))
    for hour in range(12):
        dx, dy = cos(hour * pi / 6), sin(hour * pi / 6)
        pen.line([(50 + 24 * dx, 53 + 24 * dy), (50 + 28 * dx, 53 + 28 * dy)], 2.4, _INK)
    hand = r.uniform(0, 2 * pi)
    pen.line([(50, 53), (50 + 13 * cos(hand), 53 + 13 * sin(hand))], 4, _INK)
    pen.line([(50, 53), (50 + 22 * cos(hand * 12), 53 + 22 * sin(hand * 12))], 2.6, _INK)


def _lamp(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    brass = (186, 146, 80)
    pen.box(36, 44, 40, 90, brass)
    pen.blob([(30, 62), (46, 62), (48, 76), (38, 84), (28, 76)], shade(brass, -0.15))
    pen.ellipse(38, 93, 20, 6, shade(brass, -0.25))
    pen.ellipse(38, 91, 20, 5, brass)
    top = 18 + r.uniform(-3, 3)
    pen.polygon([(38 - top, 2), (38 + top, 2), (74, 48), (2, 48)], c)
    pen.polygon([(38 - top * 0.4, 2), (38 + top * 0.4, 2), (54, 48), (22, 48)], shade(c, 0.4))
    pen.box(2, 45, 74, 49, shade(c, -0.25), 1)
    pen.line([(56, 49), (56, 60)], 1, _INK)
    pen.ellipse(56, 61, 2, 2, brass)


def _cup(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.ring(74, 46, 21, 7.5, shade(c, -0.18))
    pen.blob([(4, 10), (4, 14), (10, 78), (18, 92), (62, 92), (70, 78), (76, 14), (76, 10)], c)
    pen.blob([(54, 16), (74, 14), (68, 78), (60, 90), (48, 92)], shade(c, -0.13))
    pen.ellipse(40, 14, 36, 9, shade(c, 0.35))
    pen.ellipse(40, 15, 31, 6.5, (106, 66, 40))
    y = 48 + r.uniform(-5, 5)
    pen.box(8, y, 71, y + 7, shade(c, 0.6) if sum(c) < 620 else (90, 140, 200))


def _mushroom(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.blob([(36, 44), (64, 44), (64, 70), (72, 98), (28, 98), (36, 70)], (240, 230, 208))
    pen.blob([(52, 50), (64, 46), (64, 70), (72, 97), (56, 97)], (214, 200, 174))
    pen.blob([(-4, 58), (4, 22), (34, 0), (66, 0), (96, 22), (104, 58), (70, 52), (30, 52)], c)
    pen.blob([(4, 54), (30, 48), (70, 48), (96, 54), (70, 62), (30, 62)], shade(c, -0.3))
    dot = (250, 246, 236) if sum(c) < 620 else (186, 150, 116)
    for x, y, radius in ((30, 24, 7), (54, 14, 6), (72, 30, 8), (50, 36, 5), (16, 40, 5)):
        pen.ellipse(x + r.uniform(-2, 2), y, radius, radius * 0.85, dot)


_DRAWINGS: dict[str, Callable[[Pen, Colour, np.random.Generator], None]] = {
    "dog": _dog,
    "cat": _cat,
    "bear": _bear,
    "sheep": _sheep,
    "goose": _goose,
    "mouse": _mouse,
    "fish": _fish,
    "owl": _owl,
    "butterfly": _butterfly,
    "train": _train,
    "car": _car,
    "bus": _bus,
    "bicycle": _bicycle,
    "sailboat": _sailboat,
    "hot air balloon": _hot_air_balloon,
    "traffic light": _traffic_light,
    "kite": _kite,
    "airplane": _airplane,
    "house": _house,
    "palm tree": _palm_tree,
    "umbrella": _umbrella,
    "orange": _orange,
    "book": _book,
    "chair": _chair,
    "clock": _clock,
    "lamp": _lamp,
    "cup": _cup,
    "mushroom": _mushroom,
}


def _bush(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    for _ in range(16):
        pen.ellipse(r.uniform(18, 82), r.uniform(34, 58), 15, 13, shade(c, r.uniform(-0.3, 0.1)))


def _rock(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.blob([(4, 60), (12, 24), (44, 8 + r.uniform(-6, 6)), (80, 20), (98, 60), (60, 66)], c)
    pen.blob([(14, 40), (30, 20), (60, 16), (56, 34), (30, 44)], shade(c, 0.2))


def _crate(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.box(4, 4, 92, 84, shade(c, -0.3), 3)
    for y in (8, 34, 60):
        pen.box(8, y, 88, y + 21, shade(c, r.uniform(-0.05, 0.15)), 1)
    pen.line([(12, 12), (84, 78)], 6, shade(c, -0.18))


def _ball(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    turn = r.uniform(0, 60)
    for sector in range(6):
        tone = (c, (244, 244, 240), shade(c, -0.3))[sector % 3]
        pen.pie(50, 50, 44, turn + 60 * sector, turn + 60 * sector + 60, tone)
    pen.ellipse(50, 50, 8, 8, (244, 244, 240))


def _cloud(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    for x, y, radius in ((24, 44, 16), (44, 32, 22), (68, 38, 18), (82, 48, 12)):
        pen.ellipse(x + r.uniform(-4, 4), y, radius, radius, c)
    pen.box(14, 44, 92, 60, c, 8)


def _post(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    for x in (10, 46, 82):
        pen.polygon([(x, 20), (x + 5, 12), (x + 10, 20), (x + 10, 76), (x, 76)], c)
    for y in (30, 54):
        pen.box(0, y, 100, y + 8, shade(c, -0.15), 1)


CLUTTER: dict[str, tuple[Callable[[Pen, Colour, np.random.Generator], None], tuple[Colour, ...]]] = {
    "bush": (_bush, ((70, 132, 66), (104, 138, 60))),
    "rock": (_rock, ((138, 136, 134), (120, 108, 98))),
    "crate": (_crate, ((176, 128, 78), (150, 118, 96))),
    "ball": (_ball, ((212, 70, 62), (64, 130, 196), (90, 166, 96))),
    "cloud": (_cloud, ((250, 250, 252), (232, 236, 242))),
    "fence": (_post, ((198, 176, 140), (236, 234, 228))),
}
"""Things that are in pictures but belong to no category: how they are drawn, and in which colours."""


def _jittered(colour: Colour, random: np.random.Generator) -> Colour:
    """The same colour name in a slightly other hue, saturation and brightness."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in colour))
    hue = (hue + random.uniform(-0.015, 0.015)) % 1
    lightness = min(max(lightness + random.uniform(-0.05, 0.04), 0), 1)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation * random.uniform(0.85, 1))
    return round(red * 255), round(green * 255), round(blue * 255)


@cache
def sprite(category: str, colour: str, variant: int) -> Image.Image:
    """A picture of one category, RGBA, at most SPRITE_SIDE pixels a side; `variant` is in 0 .. VARIANTS - 1.

    The picture is shared by all callers: do not change it in place.
    """
    # Sprites are part of the program, not of a world: a fixed seed keeps them the same for every world's seed.
    random = np.random.default_rng([variant, *category.encode(), *colour.encode()])
    pen = Pen()
    _DRAWINGS[category](pen, _jittered(COLOURS[colour], random), random)
    return pen.sprite()


@cache
def clutter(kind: str, variant: int) -> Image.Image:
    """A picture of something that belongs to no category, as `sprite` gives them."""
    drawing, colours = CLUTTER[kind]
    random = np.random.default_rng([variant, *kind.encode()])
    pen = Pen()
    drawing(pen, colours[variant % len(colours)], random)
    return pen.sprite()
