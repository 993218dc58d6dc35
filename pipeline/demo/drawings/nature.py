"""The painted places of nature."""

from __future__ import annotations

import numpy as np

from vlmixer.pipeline.demo.drawings.canvas import SIDE, Background, Canvas, Painter, paint_sky, paint_water, place
from vlmixer.pipeline.demo.drawings.pen import Colour, shade


def _field(canvas: Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(136, 160)
    paint_sky(canvas, r, horizon + 12)
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
    return place(canvas, horizon, (horizon + 22, SIDE))


def _forest(canvas: Canvas, r: np.random.Generator) -> Background:
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
    return place(canvas, horizon, (horizon + 20, SIDE))


def _sea(canvas: Canvas, r: np.random.Generator) -> Background:
    horizon = r.uniform(120, 150)
    paint_sky(canvas, r, horizon)
    if r.random() < 0.5:
        x, width = r.uniform(20, SIDE - 20), r.uniform(24, 60)
        canvas.polygon(
            [(x - width, horizon), (x - width * 0.3, horizon - 16), (x + 8, horizon - 9), (x + width, horizon)],
            (120, 142, 140),
        )
        canvas.blur(0.8)
    paint_water(canvas, r, horizon, SIDE)
    return place(canvas, horizon, (horizon + 24, SIDE), (horizon + 20, SIDE))


def _beach(canvas: Canvas, r: np.random.Generator) -> Background:
    horizon, shore = r.uniform(108, 126), r.uniform(168, 184)
    paint_sky(canvas, r, horizon)
    paint_water(canvas, r, horizon, shore + 8)
    canvas.waves(shore - 4, 3, r, (240, 244, 240), 2)
    canvas.waves(shore, 3, r, (214, 190, 142), 2)
    canvas.fade(shore + 10, SIDE, (226, 204, 158), (238, 216, 170))
    for _ in range(160):
        x, y = r.uniform(0, SIDE), r.uniform(shore + 12, SIDE)
        canvas.ellipse(x, y, 1, 0.7, shade((212, 186, 138), r.uniform(-0.12, 0.3)))
    return place(canvas, horizon, (shore + 22, SIDE), (horizon + 14, shore - 2))


def _snow(canvas: Canvas, r: np.random.Generator) -> Background:
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
    return place(canvas, horizon, (horizon + 22, SIDE))


NATURE: dict[str, Painter] = {
    "field": _field,
    "forest": _forest,
    "sea": _sea,
    "beach": _beach,
    "snow": _snow,
}
