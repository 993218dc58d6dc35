"""The drawings of animals."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from vlmixer.pipeline.demo.drawings.pen import INK, Colour, Drawing, Pen, Point, eye, shade


def _dog(pen: Pen, c: Colour, r: np.random.Generator) -> None:
    dark = shade(c, -0.3) if sum(c) > 250 else shade(c, 0.25)
    pen.line([(14, 52), (6, 42), (4, 30 + r.uniform(-4, 6))], 6, c)
    for x, tone in ((25, dark), (64, dark), (19, c), (58, c)):
        pen.line([(x, 60), (x, 84)], 8, tone)
        pen.ellipse(x + 2, 86, 6, 4, tone)
    pen.blob([(8, 44), (30, 40), (72, 40), (76, 62), (60, 72), (30, 68), (8, 70)], c)
    pen.blob([(58, 52), (60, 24), (76, 14), (86, 24), (78, 50), (70, 62)], c)
    pen.blob([(66, 16), (84, 12), (90, 26), (102, 28), (100, 42), (84, 42), (68, 38)], c)
    pen.ellipse(97, 30, 3.6, 3, INK)
    pen.blob([(62, 14), (74, 14), (76, 34), (68, 46), (60, 36)], dark)
    pen.line([(64, 49), (78, 47)], 4.5, (206, 60, 52) if c[0] < 190 or c[1] > 120 else (58, 120, 200))
    eye(pen, 83, 24, 2.6)


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
        pen.ellipse(48 + side * 10, 27, 1.7, 4.6, INK)
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
    pen.ellipse(95, 33, 4, 3.4, INK)
    pen.line([(90, 42), (96, 41)], 1.4, INK)
    eye(pen, 79, 25, 2.5)


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
    eye(pen, 85, 35, 2.4)


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
    eye(pen, 77, 11, 2.1)


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
    eye(pen, 83, 51, 3)


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
    eye(pen, 85, 35, 3)


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
        pen.ellipse(40 + side * 13, 30, 5, 5, INK)
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
        pen.line([at(1, 26), at(8, 12), at(13, 7)], 1.6, INK)
    pen.ellipse(50, 50, 4, 26, INK)


ANIMALS: dict[str, Drawing] = {
    "dog": _dog,
    "cat": _cat,
    "bear": _bear,
    "sheep": _sheep,
    "goose": _goose,
    "mouse": _mouse,
    "fish": _fish,
    "owl": _owl,
    "butterfly": _butterfly,
}
