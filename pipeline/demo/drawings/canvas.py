"""Tools for places: a canvas with skies and water, and the finished background."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlmixer.pipeline.demo.drawings.pen import Colour, shade

SIDE = 288
"""Side of a background in pixels; a scene shows a part of it."""


@dataclass(frozen=True)
class Background:
    """A painted place.

    `image` is RGB, SIDE × SIDE; things on the ground have their lower edge between `ground[0]` and `ground[1]`, things
    on water between `water[0]` and `water[1]` (None: no water), all in its pixels from the top. Everything above
    `horizon` is sky or wall.
    """

    image: Image.Image
    horizon: float
    ground: tuple[float, float]
    water: tuple[float, float] | None
    light: tuple[float, float, float]
    """Factors by which the light changes red, green and blue of the things in it."""


class Canvas:
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
        """Blurs everything painted so far, as if it were far away."""
        self.image = self.image.filter(ImageFilter.GaussianBlur(2 * radius))
        self._draw = ImageDraw.Draw(self.image)


def paint_sky(canvas: Canvas, r: np.random.Generator, bottom: float) -> None:
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


def paint_water(canvas: Canvas, r: np.random.Generator, top: float, bottom: float) -> None:
    """Water with ripples over the whole width."""
    blue: Colour = [(64, 138, 190), (50, 120, 168), (72, 156, 178)][int(r.integers(3))]
    canvas.fade(top, bottom, shade(blue, 0.28), shade(blue, -0.12))
    for _ in range(int((bottom - top) * 0.7)):
        x, y = r.uniform(0, SIDE), r.uniform(top + 3, bottom)
        length = r.uniform(4, 16)
        canvas.line([(x, y), (x + length / 2, y - 1.2), (x + length, y)], 0.8, shade(blue, r.uniform(0.2, 0.5)))


def place(
    canvas: Canvas,
    horizon: float,
    ground: tuple[float, float],
    water: tuple[float, float] | None = None,
    light: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Background:
    """The finished background."""
    return Background(canvas.image.reduce(2), horizon, ground, water, light)


Painter = Callable[[Canvas, np.random.Generator], Background]
"""Paints one kind of place. The generator varies it."""
