"""The places of the drawn world: painted once a process, a little larger than a scene, and cropped by it.

Whatever is painted here is scenery and belongs to no category.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlmixer.pipeline.demo.sprites import Colour, shade

VARIANTS = 6
SIDE = 288
"""Pixels a side; a scene shows a part of it."""


@dataclass(frozen=True)
class Background:
    """A painted place.

    `image` is RGB, SIDE × SIDE; things on the ground have their lower edge between `ground[0]` and `ground[1]`, things
    on water between `water[0]` and `water[1]` (None where there is no water), all in its pixels from the top.
    Everything above `horizon` is sky, or wall.
    """

    image: Image.Image
    horizon: float
    ground: tuple[float, float]
    water: tuple[float, float] | None
    light: tuple[float, float, float]
    """What the light does to red, green and blue of the things in it."""


class _Canvas:
    """Paints in background pixels on an image of twice the size, which is reduced at the end."""

    def __init__(self) -> None:
        self.image = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        self._draw = ImageDraw.Draw(self.image)

    def fade(self, top: float, bottom: float, first: Colour, last: Colour) -> None:
        """A band over the whole width whose colour goes from `first` to `last`."""
        for y in range(round(2 * top), round(2 * bottom) + 1):
            mix = (y / 2 - top) / (bottom - top)
            red, green, blue = (round(a + (b - a) * mix) for a, b in zip(first, last, strict=True))
            self._draw.line([(0, y), (2 * SIDE, y)], fill=(red, green, blue))

    def box(self, x0: float, y0: float, x1: float, y1: float, fill: Colour, radius: float = 0) -> None:
        self._draw.rounded_rectangle([2 * x0, 2 * y0, 2 * x1, 2 * y1], 2 * radius, fill=fill)

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Colour) -> None:
        self._draw.ellipse([2 * (x - rx), 2 * (y - ry), 2 * (x + rx), 2 * (y + ry)], fill=fill)

    def polygon(self, points: list[tuple[float, float]], fill: Colour) -> None:
        self._draw.polygon([(2 * x, 2 * y) for x, y in points], fill=fill)

    def line(self, points: list[tuple[float, float]], width: float, fill: Colour) -> None:
        self._draw.line([(2 * x, 2 * y) for x, y in points], fill=fill, width=round(2 * width), joint="curve")

    def waves(self, top: float, height: float, r: np.random.Generator, fill: Colour, ups: float = 2.0) -> None:
        """Hills: everything from a wavy line around `top` down to the lower edge."""
        x = np.linspace(0, SIDE, 60)
        phase = r.uniform(0, 6.3, 2)
        y = top + height * (np.sin(x / SIDE * ups * 3.1 + phase[0]) + 0.4 * np.sin(x / SIDE * ups * 8 + phase[1]))
        self.polygon([*zip(x.tolist(), y.tolist(), strict=True), (SIDE, SIDE), (0, SIDE)], fill)

    def blur(self, radius: float) -> None:
        """Takes the sharpness out of everything painted so far, as if it were far away."""
        self.image = self.image.filter(ImageFilter.GaussianBlur(2 * radius))
        self._draw = ImageDraw.Draw(self.image)


def _sky(canvas: _Canvas, r: np.random.Generator, bottom: float) -> None:
    """A sky for daytime, sometimes an orange one."""
    tops: list[tuple[Colour, Colour]] = [
        ((92, 160, 222), (200, 228, 244)),
        ((118, 182, 232), (226, 240, 248)),
        ((150, 190, 214), (232, 234, 230)),
        ((236, 158, 104), (252, 222, 178)),
    ]
    first, last = tops[int(r.choice(4, p=(0.35, 0.3, 0.2, 0.15)))]
    canvas.fade(0, bottom, first, last)
    if r.random() < 0.5:
        x, y = r.uniform(30, SIDE - 30), r.uniform(30, 70)
        canvas.ellipse(x, y, 20, 20, shade(last, 0.4))
        canvas.ellipse(x, y, 14, 14, (255, 244, 196))
    for _ in range(int(r.integers(0, 4))):
        x, y = r.uniform(20, SIDE - 20), r.uniform(24, bottom * 0.6)
        for _ in range(4):
            canvas.ellipse(x + r.uniform(-18, 18), y + r.uniform(-3, 3), r.uniform(9, 16), 6, shade(last, 0.55))


def _field(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(136, 160)
    _sky(canvas, r, horizon + 12)
    canvas.waves(horizon - 14, 8, r, (142, 182, 142))
    canvas.waves(horizon - 4, 5, r, (124, 172, 104), 3)
    canvas.blur(0.8)
    canvas.fade(horizon + 4, SIDE, (132, 186, 92), (92, 152, 66))
    for _ in range(220):
        x, y = r.uniform(0, SIDE), r.uniform(horizon + 10, SIDE)
        tone = shade((100, 160, 70), r.uniform(-0.15, 0.25))
        canvas.line([(x, y), (x + r.uniform(-2, 2), y - r.uniform(2, 6))], 1, tone)
    for _ in range(int(r.integers(0, 24))):
        x, y = r.uniform(0, SIDE), r.uniform(horizon + 14, SIDE)
        petal: Colour = [(250, 248, 240), (250, 222, 90), (232, 140, 170)][int(r.integers(3))]
        canvas.ellipse(x, y, 1.7, 1.7, petal)
    return _place(canvas, horizon, (horizon + 22, SIDE))


def _forest(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(150, 170)
    canvas.fade(0, horizon + 10, (178, 206, 170), (206, 222, 180))
    for depth in range(3):
        bark = shade((112, 86, 62), 0.42 - 0.16 * depth)
        leaf = shade((62, 118, 66), 0.34 - 0.15 * depth)
        for x in r.uniform(-10, SIDE + 10, 5 - depth):
            width = 4 + 4 * depth
            canvas.polygon(
                [
                    (x - width, horizon + 4 + 6 * depth),
                    (x - width * 0.6, 0),
                    (x + width * 0.6, 0),
                    (x + width, horizon + 4 + 6 * depth),
                ],
                bark,
            )
        for x in np.arange(-10, SIDE + 20, 22):
            canvas.ellipse(
                x + r.uniform(-8, 8), r.uniform(0, 34 - 8 * depth), 26, 22, shade(leaf, r.uniform(-0.08, 0.08))
            )
        canvas.blur(1.2 - 0.4 * depth)
    canvas.fade(horizon, SIDE, (108, 138, 74), (84, 100, 54))
    canvas.waves(horizon, 2.5, r, (104, 134, 72), 4)
    canvas.fade(horizon + 8, SIDE, (104, 134, 72), (82, 98, 54))
    for _ in range(150):
        x, y = r.uniform(0, SIDE), r.uniform(horizon + 8, SIDE)
        tone = [(150, 112, 60), (122, 92, 52), (128, 156, 82)][int(r.integers(3))]
        canvas.ellipse(x, y, r.uniform(1, 3), 1, shade(tone, r.uniform(-0.1, 0.15)))
    return _place(canvas, horizon, (horizon + 20, SIDE))


def _water(canvas: _Canvas, r: np.random.Generator, top: float, bottom: float) -> None:
    blue: Colour = [(64, 138, 190), (50, 120, 168), (72, 156, 178)][int(r.integers(3))]
    canvas.fade(top, bottom, shade(blue, 0.28), shade(blue, -0.12))
    for _ in range(int((bottom - top) * 0.7)):
        x, y = r.uniform(0, SIDE), r.uniform(top + 3, bottom)
        length = r.uniform(4, 16)
        canvas.line([(x, y), (x + length / 2, y - 1.2), (x + length, y)], 0.8, shade(blue, r.uniform(0.2, 0.5)))


def _sea(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(120, 150)
    _sky(canvas, r, horizon)
    if r.random() < 0.5:
        x, width = r.uniform(20, SIDE - 20), r.uniform(24, 60)
        canvas.polygon(
            [(x - width, horizon), (x - width * 0.3, horizon - 16), (x + 8, horizon - 9), (x + width, horizon)],
            (120, 142, 140),
        )
        canvas.blur(0.8)
    _water(canvas, r, horizon, SIDE)
    return _place(canvas, horizon, (horizon + 24, SIDE), (horizon + 20, SIDE))


def _beach(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon, shore = r.uniform(108, 126), r.uniform(168, 184)
    _sky(canvas, r, horizon)
    _water(canvas, r, horizon, shore + 8)
    canvas.waves(shore - 4, 3, r, (240, 244, 240), 2)
    canvas.waves(shore, 3, r, (214, 190, 142), 2)
    canvas.fade(shore + 10, SIDE, (226, 204, 158), (238, 216, 170))
    for _ in range(160):
        x, y = r.uniform(0, SIDE), r.uniform(shore + 12, SIDE)
        canvas.ellipse(x, y, 1, 0.7, shade((212, 186, 138), r.uniform(-0.12, 0.3)))
    return _place(canvas, horizon, (shore + 22, SIDE), (horizon + 14, shore - 2))


def _town(canvas: _Canvas, r: np.random.Generator, night: bool) -> Background:
    horizon = r.uniform(168, 184)
    if night:
        canvas.fade(0, horizon, (18, 22, 52), (58, 58, 102))
        for _ in range(50):
            canvas.ellipse(r.uniform(0, SIDE), r.uniform(0, horizon * 0.7), 0.7, 0.7, (226, 226, 240))
        x, y = r.uniform(40, SIDE - 40), r.uniform(34, 60)
        canvas.ellipse(x, y, 15, 15, (244, 240, 214))
        canvas.ellipse(x + 6, y - 4, 13, 13, (24, 28, 60))
    else:
        _sky(canvas, r, horizon)
    x = -20.0
    walls: list[Colour] = [(186, 148, 124), (168, 172, 178), (204, 184, 150), (150, 132, 130), (188, 196, 190)]
    while x < SIDE:
        width, height = r.uniform(34, 60), r.uniform(44, 112)
        wall = shade(walls[int(r.integers(len(walls)))], -0.68 if night else r.uniform(0.05, 0.25))
        canvas.box(x, horizon - height, x + width, horizon, wall)
        for row in np.arange(horizon - height + 8, horizon - 14, 15):
            for column in np.arange(x + 6, x + width - 9, 13):
                lit = r.random() < 0.45
                pane = ((246, 210, 120) if lit else (44, 48, 70)) if night else shade((138, 168, 190), 0.25 * lit)
                canvas.box(column, row, column + 7, row + 9, pane)
        x += width + (r.uniform(4, 20) if r.random() < 0.3 else 0)
    canvas.blur(0.7)
    dim = -0.55 if night else 0.0
    canvas.box(0, horizon, SIDE, horizon + 22, shade((190, 186, 180), dim))
    for x in np.arange(r.uniform(-20, 0), SIDE, 24):
        canvas.line([(x, horizon), (x - 6, horizon + 22)], 0.8, shade((168, 164, 158), dim))
    canvas.box(0, horizon + 22, SIDE, horizon + 26, shade((150, 148, 146), dim))
    canvas.fade(horizon + 26, SIDE, shade((116, 118, 124), dim), shade((98, 100, 106), dim))
    for x in np.arange(r.uniform(-40, 0), SIDE, 52):
        canvas.polygon(
            [(x, horizon + 62), (x + 28, horizon + 62), (x + 26, horizon + 67), (x - 3, horizon + 67)],
            shade((236, 232, 214), dim * 0.6),
        )
    light = (0.76, 0.78, 0.94) if night else (1.0, 1.0, 1.0)
    return _place(canvas, horizon, (horizon + 14, SIDE), light=light)


def _street(canvas: _Canvas, r: np.random.Generator) -> Background:
    return _town(canvas, r, night=False)


def _night(canvas: _Canvas, r: np.random.Generator) -> Background:
    return _town(canvas, r, night=True)


def _room(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(164, 184)
    wall: Colour = [(214, 200, 178), (178, 196, 190), (200, 186, 204), (226, 214, 190)][int(r.integers(4))]
    canvas.box(0, 0, SIDE, horizon, wall)
    for x in np.arange(r.uniform(0, 24), SIDE, 24):
        canvas.box(x, 0, x + 12, horizon, shade(wall, 0.14))
    x = r.uniform(24, SIDE - 110)
    canvas.box(x, 26, x + 78, 112, (250, 248, 242), 2)
    canvas.box(x + 5, 31, x + 73, 107, (176, 214, 236))
    canvas.box(x + 37, 26, x + 41, 112, (250, 248, 242))
    canvas.box(x + 5, 67, x + 73, 71, (250, 248, 242))
    for side in (x - 10, x + 72):
        canvas.box(side, 20, side + 16, 130, shade(wall, -0.3), 4)
    frame = (x + 130) % (SIDE - 50)
    canvas.box(frame, 44, frame + 44, 78, (130, 92, 60), 1)
    canvas.box(frame + 4, 48, frame + 40, 74, shade(wall, 0.55))
    canvas.box(0, horizon - 6, SIDE, horizon, (246, 242, 234))
    canvas.blur(0.6)
    floor: Colour = [(180, 132, 88), (150, 108, 76), (196, 158, 112)][int(r.integers(3))]
    canvas.fade(horizon, SIDE, shade(floor, -0.08), shade(floor, 0.08))
    for y in np.cumsum(np.linspace(9, 26, 8)) + horizon:
        canvas.line([(0, y), (SIDE, y)], 0.9, shade(floor, -0.2))
    for _ in range(14):
        x, y = r.uniform(0, SIDE), r.uniform(horizon, SIDE)
        canvas.line([(x, y), (x + 1, y + 8)], 0.9, shade(floor, -0.2))
    if r.random() < 0.6:
        rug: Colour = [(166, 74, 70), (80, 110, 146), (120, 140, 96)][int(r.integers(3))]
        x = r.uniform(90, SIDE - 90)
        canvas.ellipse(x, horizon + 62, 96, 28, shade(rug, 0.3))
        canvas.ellipse(x, horizon + 62, 86, 23, shade(rug, 0.1))
    return _place(canvas, horizon, (horizon + 16, SIDE))


def _kitchen(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(146, 166)
    tile: Colour = [(222, 232, 230), (236, 226, 206), (206, 222, 206), (226, 214, 222)][int(r.integers(4))]
    canvas.box(0, 0, SIDE, horizon, shade(tile, -0.12))
    for x in np.arange(r.uniform(-22, 0), SIDE, 22):
        for y in np.arange(0, horizon, 22):
            canvas.box(x + 1, y + 1, x + 21, y + 21, shade(tile, r.uniform(0, 0.25)), 1)
    cupboard: Colour = [(150, 110, 76), (104, 132, 140), (188, 172, 150)][int(r.integers(3))]
    for x in range(-10, SIDE, 62):
        canvas.box(x, -4, x + 60, 40, cupboard, 2)
        canvas.box(x + 6, 2, x + 54, 34, shade(cupboard, 0.12), 2)
        canvas.box(x + 26, 29, x + 34, 32, (226, 220, 206), 1)
    canvas.blur(0.8)
    table: Colour = [(196, 148, 98), (226, 222, 214), (128, 92, 68)][int(r.integers(3))]
    canvas.fade(horizon, SIDE, shade(table, -0.05), shade(table, 0.12))
    canvas.line([(0, horizon), (SIDE, horizon)], 3, shade(table, -0.3))
    for _ in range(26):
        x, y = r.uniform(-20, SIDE), r.uniform(horizon + 6, SIDE)
        canvas.line([(x, y), (x + r.uniform(20, 70), y + r.uniform(-1, 1))], 0.8, shade(table, -0.1))
    return _place(canvas, horizon, (horizon + 24, SIDE))


def _snow(canvas: _Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(144, 166)
    canvas.fade(0, horizon + 14, (160, 186, 214), (226, 234, 242))
    for x in (r.uniform(0, 90), r.uniform(110, 180), r.uniform(200, SIDE)):
        height, width = r.uniform(50, 84), r.uniform(70, 100)
        canvas.polygon([(x - width, horizon + 14), (x, horizon - height), (x + width, horizon + 14)], (134, 150, 174))
        canvas.polygon(
            [
                (x - width * 0.32, horizon - height * 0.68),
                (x, horizon - height),
                (x + width * 0.32, horizon - height * 0.68),
                (x + width * 0.12, horizon - height * 0.6),
                (x, horizon - height * 0.72),
                (x - width * 0.14, horizon - height * 0.58),
            ],
            (244, 247, 252),
        )
    canvas.blur(0.9)
    for x in r.uniform(0, SIDE, int(r.integers(3, 8))):
        height = r.uniform(22, 40)
        for step in range(3):
            y = horizon + 4 - step * height * 0.28
            canvas.polygon(
                [(x - height * (0.34 - 0.07 * step), y), (x, y - height * 0.5), (x + height * (0.34 - 0.07 * step), y)],
                shade((62, 96, 88), 0.1 * step),
            )
    canvas.blur(0.5)
    canvas.waves(horizon + 2, 4, r, (236, 241, 248))
    canvas.fade(horizon + 8, SIDE, (236, 241, 248), (214, 224, 238))
    for _ in range(70):
        canvas.ellipse(r.uniform(0, SIDE), r.uniform(0, SIDE), 1.1, 1.1, (252, 253, 255))
    return _place(canvas, horizon, (horizon + 22, SIDE))


def _place(
    canvas: _Canvas,
    horizon: float,
    ground: tuple[float, float],
    water: tuple[float, float] | None = None,
    light: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Background:
    return Background(canvas.image.reduce(2), horizon, ground, water, light)


_PAINTERS: dict[str, Callable[[_Canvas, np.random.Generator], Background]] = {
    "field": _field,
    "forest": _forest,
    "sea": _sea,
    "beach": _beach,
    "street": _street,
    "night": _night,
    "room": _room,
    "kitchen": _kitchen,
    "snow": _snow,
}


@cache
def background(name: str, variant: int) -> Background:
    """One of the painted places; `name` is in `categories.BACKGROUNDS`, `variant` in 0 .. VARIANTS - 1.

    Shared by all callers: do not change its image in place.
    """
    # As with sprites, a fixed seed: the places are part of the program, not of one world.
    random = np.random.default_rng([variant, *name.encode()])
    return _PAINTERS[name](_Canvas(), random)
