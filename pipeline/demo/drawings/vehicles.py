"""The drawings of vehicles, and of what flies or stands by the road."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from vlmixer.pipeline.demo.drawings.pen import GLASS, INK, Colour, Drawing, Pen, shade, wheel


def _train(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark, brass = shade(c, -0.3), (222, 176, 70)
    pen.box(2, 12, 36, 52, c, 2)
    pen.box(0, 8, 40, 14, dark, 2)
    pen.box(8, 20, 20, 34, GLASS, 1.5)
    pen.box(23, 20, 32, 34, GLASS, 1.5)
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
        wheel(pen, x, 60, 10.5)
    for x in (56, 74):
        wheel(pen, x, 63, 7.5)
    pen.line([(14, 61), (56, 63)], 2.4, (206, 208, 212))


def _car(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    roof = 8 + r.uniform(-3, 3)
    pen.blob([(14, 34), (26, roof), (38, roof - 4), (64, roof - 4), (74, roof), (90, 34)], c)
    pen.polygon([(26, 28), (33, 12), (48, 11), (48, 28)], GLASS)
    pen.polygon([(52, 28), (52, 11), (64, 11), (76, 28)], GLASS)
    pen.polygon([(56, 28), (62, 11), (66, 12), (60, 28)], shade(GLASS, 0.5))
    pen.box(0, 26, 100, 50, c, 9)
    pen.box(0, 42, 100, 50, shade(c, -0.28), 3)
    pen.line([(50, 29), (50, 42)], 1, shade(c, -0.35))
    pen.line([(54, 33), (60, 33)], 1.8, shade(c, -0.45))
    pen.ellipse(95, 34, 4, 4, (255, 240, 170))
    pen.box(0, 31, 4, 38, (188, 36, 40), 1)
    for x in (23, 77):
        wheel(pen, x, 50, 11)


def _bus(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    pen.box(0, 0, 100, 54, c, 6)
    pen.box(0, 32, 100, 38, shade(c, 0.55))
    pen.box(0, 46, 100, 54, shade(c, -0.3), 3)
    pen.box(3, 1.5, 97, 5, shade(c, 0.3), 2)
    for x in (5, 20, 35, 50):
        pen.box(x, 9, x + 12, 28, GLASS, 2)
        pen.polygon([(x + 3, 28), (x + 7, 9), (x + 9, 9), (x + 5, 28)], shade(GLASS, 0.5))
    pen.box(66, 9, 79, 50, shade(GLASS, -0.12), 1.5)
    pen.line([(72.5, 9), (72.5, 50)], 1.2, shade(c, -0.4))
    pen.box(83, 9, 99, 30, GLASS, 3)
    pen.ellipse(96, 42, 3, 3, (255, 240, 170))
    for axle in (22.0, 74 + r.uniform(-2, 2)):
        wheel(pen, axle, 54, 9)


def _bicycle(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    for x in (22, 78):
        pen.ring(x, 48, 21, 3.4, INK)
        for angle in np.arange(0, pi, pi / 4):
            dx, dy = 18 * cos(angle), 18 * sin(angle)
            pen.line([(x - dx, 48 - dy), (x + dx, 48 + dy)], 0.7, (150, 154, 160))
    pen.line([(22, 48), (38, 22), (70, 22), (48, 48), (22, 48)], 4.4, c)
    pen.line([(48, 48), (34, 14)], 4.4, c)
    pen.line([(78, 48), (68, 12)], 4.4, c)
    pen.line([(26, 13), (42, 12)], 5.5, INK)
    pen.line([(80, 6 + r.uniform(-2, 2)), (68, 10), (62, 8)], 3.4, INK)
    pen.ellipse(48, 48, 5.5, 5.5, (96, 98, 106))
    pen.line([(44, 42), (52, 55)], 2.2, INK)


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
        pen.line([(x, 70), (40 + (x - 40) * 0.8, 84)], 1, INK)
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
    pen.line(tail, 1.5, INK)
    for x, y in tail[1:4]:
        pen.polygon([(x, y), (x - 7, y - 4), (x - 7, y + 4)], c)
        pen.polygon([(x, y), (x + 7, y - 4), (x + 7, y + 4)], shade(c, -0.25))
    pen.polygon([(30, 0), (4, 24), (30, 24)], c)
    pen.polygon([(30, 0), (56, 24), (30, 24)], other)
    pen.polygon([(30, 64), (4, 24), (30, 24)], other)
    pen.polygon([(30, 64), (56, 24), (30, 24)], shade(c, -0.2))
    pen.line([(30, 0), (30, 64)], 1.4, INK)
    pen.line([(4, 24), (56, 24)], 1.4, INK)


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


VEHICLES: dict[str, Drawing] = {
    "train": _train,
    "car": _car,
    "bus": _bus,
    "bicycle": _bicycle,
    "sailboat": _sailboat,
    "hot air balloon": _hot_air_balloon,
    "traffic light": _traffic_light,
    "kite": _kite,
    "airplane": _airplane,
}
