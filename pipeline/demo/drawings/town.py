"""The painted places that people built."""

from __future__ import annotations

import numpy as np

from vlmixer.pipeline.demo.drawings.canvas import SIDE, Background, Canvas, Painter, paint_sky, place
from vlmixer.pipeline.demo.drawings.pen import Colour, shade


def _town(canvas: Canvas, r: np.random.Generator, night: bool) -> Background:
    horizon = r.uniform(168, 184)
    if night:
        canvas.fade(0, horizon, (18, 22, 52), (58, 58, 102))
        for _ in range(50):
            canvas.ellipse(r.uniform(0, SIDE), r.uniform(0, horizon * 0.7), 0.7, 0.7, (226, 226, 240))
        x, y = r.uniform(40, SIDE - 40), r.uniform(34, 60)
        canvas.ellipse(x, y, 15, 15, (244, 240, 214))
        canvas.ellipse(x + 6, y - 4, 13, 13, (24, 28, 60))
    else:
        paint_sky(canvas, r, horizon)
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
    return place(canvas, horizon, (horizon + 14, SIDE), light=light)


def _street(canvas: Canvas, r: np.random.Generator) -> Background:
    return _town(canvas, r, night=False)


def _night(canvas: Canvas, r: np.random.Generator) -> Background:
    return _town(canvas, r, night=True)


def _room(canvas: Canvas, r: np.random.Generator) -> Background:
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
    return place(canvas, horizon, (horizon + 16, SIDE))


def _kitchen(canvas: Canvas, r: np.random.Generator) -> Background:
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
    return place(canvas, horizon, (horizon + 24, SIDE))


TOWN: dict[str, Painter] = {
    "street": _street,
    "night": _night,
    "room": _room,
    "kitchen": _kitchen,
}
