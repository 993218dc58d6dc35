"""The drawings of things that are in pictures but belong to no category."""

from __future__ import annotations

import numpy as np

from vlmixer.pipeline.demo.drawings.pen import Colour, Drawing, Pen, shade


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


CLUTTER: dict[str, tuple[Drawing, tuple[Colour, ...]]] = {
    "bush": (_bush, ((70, 132, 66), (104, 138, 60))),
    "rock": (_rock, ((138, 136, 134), (120, 108, 98))),
    "crate": (_crate, ((176, 128, 78), (150, 118, 96))),
    "ball": (_ball, ((212, 70, 62), (64, 130, 196), (90, 166, 96))),
    "cloud": (_cloud, ((250, 250, 252), (232, 236, 242))),
    "fence": (_post, ((198, 176, 140), (236, 234, 228))),
}
"""Each thing with its drawing and the colours it comes in."""
