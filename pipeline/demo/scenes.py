"""Scenes of the drawn world: what is in a picture and where, and the picture itself.

`plan_scene` decides everything from (seed, split, index) alone. `draw_scene` paints the plan. Looks are in `sprites`
and `backgrounds`, sentences about scenes in `captions`.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vlmixer.artifacts.rng import generator
from vlmixer.pipeline.demo import backgrounds, sprites
from vlmixer.pipeline.demo.categories import BACKGROUNDS, CATEGORIES, Category

CANVAS = 256
"""Side of every scene in pixels."""

MAX_THINGS = 5
_SMALLEST, _LARGEST = 42.0, 132.0
_SURPRISE = 0.07
_GROUND_CLUTTER = {
    "field": ("bush", "rock", "fence", "ball"),
    "forest": ("bush", "rock"),
    "sea": (),
    "beach": ("rock", "ball", "crate"),
    "street": ("crate", "bush", "ball"),
    "night": ("crate", "bush"),
    "room": ("ball", "crate"),
    "kitchen": ("crate",),
    "snow": ("rock", "fence"),
}

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Thing:
    """One thing in a scene: of a category, or clutter (then `kind` names the clutter and `colour` is empty).

    `box` is xyxy in canvas pixels, before the tilt of `angle` degrees and without regard to what hides it.
    """

    kind: str
    colour: str
    variant: int
    box: Box
    place: str
    flip: bool
    angle: float


@dataclass(frozen=True)
class Scene:
    """A planned picture. `things` and `clutter` are in the order of painting, the farthest first."""

    background: str
    background_variant: int
    background_flip: bool
    offset: tuple[int, int]
    light: tuple[float, float, float]
    things: tuple[Thing, ...]
    clutter: tuple[Thing, ...]


def overlap(a: Box, b: Box) -> float:
    """The share of the smaller box that the other one covers, 0 to 1."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width * height / smaller


@cache
def _possible(background: str, water: bool) -> tuple[list[Category], np.ndarray]:
    """The categories that may be on a background, and their probabilities: usual ones, with surprises."""
    possible = [
        category for category in CATEGORIES if category.place != "water" or water or background in category.homes
    ]
    # No surprises at sea: only what floats or flies.
    if background == "sea":
        possible = [category for category in possible if category.place != "ground" or "sea" in category.homes]
    usual = np.array([category.homes.get(background, 0.0) for category in possible])
    weights = (1 - _SURPRISE) * usual / usual.sum() + _SURPRISE / len(possible)
    return possible, weights / weights.sum()


def _choose_categories(random: np.random.Generator, background: str, water: bool) -> list[tuple[Category, int]]:
    """The categories in a scene and the number of things of each."""
    possible, weights = _possible(background, water)
    count = 1 + one_of(random, (0.15, 0.35, 0.35, 0.15))
    chosen = random.choice(len(possible), size=count, replace=False, p=weights)
    left, groups = MAX_THINGS, []
    for index in chosen:
        size = min(1 + one_of(random, (0.72, 0.2, 0.08)), left)
        if size:
            groups.append((possible[index], size))
            left -= size
    return groups


def one_of(random: np.random.Generator, probabilities: tuple[float, ...]) -> int:
    """An index, with these probabilities. As `random.choice`, which takes ten times as long for a single draw."""
    return bisect_right(_sums(probabilities), random.random())


@cache
def _sums(probabilities: tuple[float, ...]) -> list[float]:
    sums = np.cumsum(probabilities)
    total: list[float] = (sums / sums[-1]).tolist()
    return total


def _place_box(
    random: np.random.Generator, place: str, size: float, aspect: float, around: backgrounds.Background, top: int
) -> Box:
    """A possible box, in canvas pixels, for a thing with this longer side and width / height."""
    horizon = around.horizon - top
    if place == "sky":
        width, height = (size, size / aspect) if aspect > 1 else (size * aspect, size)
        y = random.uniform(4, max(horizon - 0.7 * height, 12))
    else:
        low, high = around.water if place == "water" and around.water else around.ground
        low, high = low - top, min(high - top, CANVAS - 4)
        bottom = random.uniform(min(low, high - 1), high)
        # Things closer to the viewer are lower in the picture and larger.
        size *= 0.86 + 0.3 * (bottom - horizon) / (CANVAS - horizon)
        width, height = (size, size / aspect) if aspect > 1 else (size * aspect, size)
        y = bottom - height
    slack = 0.12 * width
    x = random.uniform(-slack, CANVAS - width + slack)
    return x, y, x + width, y + height


def _try_place(
    random: np.random.Generator,
    place: str,
    size: float,
    aspect: float,
    around: backgrounds.Background,
    top: int,
    taken: list[Box],
) -> Box | None:
    """A box that leaves enough of every other box free, or None after a few tries."""
    most = 0.3 if random.random() < 0.4 else 0.12
    for _ in range(20):
        box = _place_box(random, place, size, aspect, around, top)
        if all(overlap(box, other) <= most for other in taken):
            return box
    return None


def plan_scene(seed: int, split: str, index: int) -> Scene:
    """The scene with this index in this split. Other splits, indices and seeds give unrelated scenes."""
    random = generator(seed, "scene", split, index)
    name = BACKGROUNDS[int(random.integers(len(BACKGROUNDS)))]
    variant = int(random.integers(backgrounds.VARIANTS))
    around = backgrounds.background(name, variant)
    margin = backgrounds.SIDE - CANVAS
    left, top = (int(value) for value in random.integers(0, margin + 1, 2))
    groups = _choose_categories(random, name, around.water is not None)
    crowd = 1.0 if sum(size for _, size in groups) <= 3 else 0.86

    taken: list[Box] = []
    things: list[Thing] = []
    for category, count in groups:
        place = "water" if name == "sea" and category.place == "ground" else category.place
        colour = category.colours[int(random.integers(len(category.colours)))]
        for _ in range(count):
            if random.random() < 0.25:
                colour = category.colours[int(random.integers(len(category.colours)))]
            number = int(random.integers(sprites.VARIANTS))
            picture = sprites.sprite(category.name, colour, number)
            size = category.size * crowd * float(np.exp(random.normal(0, 0.16)))
            size = min(max(size, _SMALLEST), _LARGEST)
            box = _try_place(random, place, size, picture.width / picture.height, around, top, taken)
            if box is None:
                continue
            taken.append(box)
            tilt = {"sky": 12.0, "water": 5.0, "ground": 3.0}[place]
            flip, angle = bool(random.random() < 0.5), float(random.uniform(-tilt, tilt))
            things.append(Thing(category.name, colour, number, box, place, flip, angle))

    clutter = []
    for _ in range(int(random.integers(0, 4))):
        outdoors = name not in ("forest", "room", "kitchen", "night")
        place = "sky" if outdoors and random.random() < 0.3 else "ground"
        kinds = ("cloud",) if place == "sky" else _GROUND_CLUTTER[name]
        if not kinds:
            continue
        kind = kinds[int(random.integers(len(kinds)))]
        number = int(random.integers(sprites.VARIANTS))
        picture = sprites.clutter(kind, number)
        box = _try_place(random, place, random.uniform(26, 58), picture.width / picture.height, around, top, taken)
        if box is not None:
            taken.append(box)
            clutter.append(Thing(kind, "", number, box, place, bool(random.random() < 0.5), 0.0))

    red, green, blue = (np.array(around.light) * random.uniform(0.9, 1.06) * random.uniform(0.97, 1.03, 3)).tolist()
    return Scene(
        background=name,
        background_variant=variant,
        background_flip=bool(random.random() < 0.5),
        offset=(left, top),
        light=(red, green, blue),
        things=tuple(sorted(things, key=_depth)),
        clutter=tuple(sorted(clutter, key=_depth)),
    )


def _depth(thing: Thing) -> tuple[bool, float]:
    return thing.place != "sky", thing.box[3]


@lru_cache(maxsize=1)
def _shadow() -> Image.Image:
    """A soft dark ellipse, as a mask. It is resized and put under things that stand."""
    mask = Image.new("L", (128, 48))
    ImageDraw.Draw(mask).ellipse([12, 10, 116, 38], fill=110)
    return mask.filter(ImageFilter.GaussianBlur(6))


def _light_table(light: tuple[float, float, float]) -> list[int]:
    """The effect of a light on each value of each channel of an RGBA picture, for `Image.point`."""
    colours = np.rint(np.outer(light, np.arange(256))).clip(max=255).astype(int)
    return [*colours.ravel().tolist(), *range(256)]


def draw_scene(scene: Scene) -> tuple[Image.Image, np.ndarray]:
    """Paints a scene.

    Returns the picture, RGB, CANVAS × CANVAS, and the boxes of `scene.things`, (n, 4) float32, xyxy in pixels: the
    smallest box around the visible part of each thing.
    """
    around = backgrounds.background(scene.background, scene.background_variant)
    left, top = scene.offset
    canvas = around.image.crop((left, top, left + CANVAS, top + CANVAS))
    if scene.background_flip:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    light = _light_table(scene.light)
    owner = np.zeros((CANVAS, CANVAS), np.uint8)
    numbers = {id(thing): number for number, thing in enumerate(scene.things, start=1)}

    for thing in sorted((*scene.things, *scene.clutter), key=_depth):
        width, height = round(thing.box[2] - thing.box[0]), round(thing.box[3] - thing.box[1])
        if thing.colour:
            picture = sprites.sprite(thing.kind, thing.colour, thing.variant)
        else:
            picture = sprites.clutter(thing.kind, thing.variant)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC).point(light)
        if thing.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if thing.angle:
            picture = picture.rotate(thing.angle, Image.Resampling.BICUBIC, expand=True)
        x = round((thing.box[0] + thing.box[2] - picture.width) / 2)
        y = round((thing.box[1] + thing.box[3] - picture.height) / 2)
        if thing.place != "sky":
            shadow = _shadow().resize((round(width * 1.05), max(round(width * 0.24), 6)))
            place = (round((thing.box[0] + thing.box[2] - shadow.width) / 2), round(thing.box[3] - shadow.height * 0.6))
            canvas.paste((24, 26, 44), place, shadow)
        canvas.paste(picture, (x, y), picture)

        mask = np.asarray(picture.getchannel("A")) > 127
        rows = slice(max(y, 0), min(y + picture.height, CANVAS))
        columns = slice(max(x, 0), min(x + picture.width, CANVAS))
        seen = mask[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        owner[rows, columns][seen] = numbers.get(id(thing), 0)

    boxes = np.zeros((len(scene.things), 4), np.float32)
    for number in range(1, len(scene.things) + 1):
        seen = owner == number
        rows_seen, columns_seen = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        boxes[number - 1] = columns_seen[0], rows_seen[0], columns_seen[-1] + 1, rows_seen[-1] + 1
    return canvas, boxes
