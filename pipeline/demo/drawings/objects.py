"""The drawings of houses, plants and household things."""

from __future__ import annotations

from math import cos, pi, sin

import numpy as np

from vlmixer.pipeline.demo.drawings.pen import INK, Colour, Drawing, Pen, shade


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
        pen.line([(50 + 24 * dx, 53 + 24 * dy), (50 + 28 * dx, 53 + 28 * dy)], 2.4, INK)
    hand = r.uniform(0, 2 * pi)
    pen.line([(50, 53), (50 + 13 * cos(hand), 53 + 13 * sin(hand))], 4, INK)
    pen.line([(50, 53), (50 + 22 * cos(hand * 12), 53 + 22 * sin(hand * 12))], 2.6, INK)


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
    pen.line([(56, 49), (56, 60)], 1, INK)
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


OBJECTS: dict[str, Drawing] = {
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
