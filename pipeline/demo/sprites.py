"""Pictures of single things on a transparent ground, drawn with Pillow and kept in memory.

`sprite` gives one category in one colour, `clutter` a thing that belongs to no category. A scene resizes, flips and
tilts them. Nothing here depends on a world's seed, so every process draws the same sprites.
"""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from PIL import Image

from vlmixer.pipeline.demo.drawings.animals import ANIMALS
from vlmixer.pipeline.demo.drawings.clutter import CLUTTER
from vlmixer.pipeline.demo.drawings.objects import OBJECTS
from vlmixer.pipeline.demo.drawings.pen import COLOURS, Colour, Pen
from vlmixer.pipeline.demo.drawings.vehicles import VEHICLES

VARIANTS = 3
DRAWINGS = {**ANIMALS, **VEHICLES, **OBJECTS}
"""The drawing of each category."""


@cache
def sprite(category: str, colour: str, variant: int) -> Image.Image:
    """A picture of one category, RGBA, its longer side at most pen.SPRITE_SIDE pixels; `variant` is below VARIANTS.

    All callers share the picture. Do not change it in place.
    """
    # Sprites are part of the program, not of a world. A fixed seed keeps them the same in every world.
    random = np.random.default_rng([variant, *category.encode(), *colour.encode()])
    pen = Pen()
    DRAWINGS[category](pen, _jittered(COLOURS[colour], random), random)
    return pen.sprite()


@cache
def clutter(kind: str, variant: int) -> Image.Image:
    """A picture of something that belongs to no category, of the same kind as `sprite`'s."""
    drawing, colours = CLUTTER[kind]
    random = np.random.default_rng([variant, *kind.encode()])
    pen = Pen()
    drawing(pen, colours[variant % len(colours)], random)
    return pen.sprite()


def _jittered(colour: Colour, random: np.random.Generator) -> Colour:
    """The colour in a slightly different hue, saturation and brightness."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*(value / 255 for value in colour))
    hue = (hue + random.uniform(-0.015, 0.015)) % 1
    lightness = min(max(lightness + random.uniform(-0.05, 0.04), 0), 1)
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation * random.uniform(0.85, 1))
    return round(red * 255), round(green * 255), round(blue * 255)
