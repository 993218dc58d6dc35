"""Sentences about scenes: a grammar that knows what it names.

`describe` says something true about a planned scene, `aside` something about no scene at all. Both record where their
words for categories are, and where a word only looks like one ("they *train* hard"), so that tagging can be measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vlmixer.artifacts.rng import generator
from vlmixer.pipeline.demo.categories import CATEGORIES, INDEX, Category
from vlmixer.pipeline.demo.phrases import ADJECTIVES, ASIDES, COLOUR_WORDS, DOING, FLYING, STANDING, TAILS, WHEN, WHO
from vlmixer.pipeline.demo.scenes import CANVAS, Box, Scene, one_of, overlap, plan_scene


@dataclass(frozen=True)
class Name:
    """A word or words in a text, with its offsets (end exclusive) and the category it names or only looks like."""

    start: int
    end: int
    category: str


@dataclass(frozen=True)
class Caption:
    """A sentence; `names` are the things it mentions, `decoys` the words that only look like a category."""

    text: str
    names: tuple[Name, ...]
    decoys: tuple[Name, ...]


@dataclass(frozen=True)
class _Group:
    """All the things of one category in a scene."""

    category: Category
    colours: tuple[str, ...]
    box: Box
    order: int
    """The position of its nearest thing in the order of painting."""
    flying: bool

    @property
    def count(self) -> int:
        return len(self.colours)


def _pick(random: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(random.integers(len(choices)))]


def _groups(scene: Scene) -> list[_Group]:
    """The scene's things by category, in the order of the categories."""
    groups = []
    for kind in sorted({thing.kind for thing in scene.things}, key=INDEX.__getitem__):
        members = [(order, thing) for order, thing in enumerate(scene.things) if thing.kind == kind]
        lefts, tops, rights, bottoms = zip(*(thing.box for _, thing in members), strict=True)
        colours = tuple(thing.colour for _, thing in members)
        flying = all(thing.place == "sky" for _, thing in members)
        groups.append(
            _Group(
                CATEGORIES[INDEX[kind]],
                colours,
                (min(lefts), min(tops), max(rights), max(bottoms)),
                members[-1][0],
                flying,
            )
        )
    return groups


def _article(phrase: str) -> str:
    first = re.sub(r"[\[{!][^|]*\|", "", phrase)[0]
    return f"{'an' if first in 'aeiou' else 'a'} {phrase}"


def _noun_phrase(random: np.random.Generator, group: _Group) -> str:
    """Words for a group: its number, sometimes its colour or another adjective, and one of its category's words."""
    category = group.category
    word = category.name if random.random() < 0.6 else _pick(random, category.words)
    noun = f"[{category.name}|{word if group.count == 1 else category.plural(word)}]"
    adjectives = []
    longer = max(group.box[2] - group.box[0], group.box[3] - group.box[1])
    if group.count == 1 and random.random() < 0.15 and not 55 < longer < 95:
        adjectives.append(_pick(random, ("small", "little") if longer <= 55 else ("big", "large")))
    if random.random() < 0.5 and len(set(group.colours)) == 1:
        colour = group.colours[0]
        if category.name in ADJECTIVES:
            adjectives.append(_pick(random, ADJECTIVES[category.name]))
        else:
            word = _pick(random, COLOUR_WORDS.get(colour, (colour,)))
            # The colour is also the name of a fruit.
            adjectives.append(f"[!{word}|{word}]" if word in INDEX else word)
    phrase = " ".join([*adjectives, noun])
    if group.count == 1:
        return _article(phrase)
    number = ("two", "two", "a pair of", "a couple of") if group.count == 2 else ("three", "a few", "some")
    return f"{_pick(random, number)} {phrase}"


def relations(a: Box, b: Box, a_is_nearer: bool, on_ground: bool) -> list[str]:
    """True phrases for where a thing with box `a` is, relative to one with box `b`; xyxy in canvas pixels.

    If both stand on the ground, the one lower in the picture is nearer. If one of them flies, it is below.
    """
    ax, bx = (a[0] + a[2]) / 2, (b[0] + b[2]) / 2
    side_by_side = min(a[2], b[2]) < max(a[0], b[0]) + 4
    found = []
    if side_by_side and abs(ax - bx) > 30:
        found += ["to the left of", "left of"] if ax < bx else ["to the right of", "right of"]
    if not on_ground and min(a[2], b[2]) - max(a[0], b[0]) > 0.25 * min(a[2] - a[0], b[2] - b[0]):
        if a[3] < b[1] + 8:
            found += ["above", "over", "high above" if b[1] - a[3] > 50 else "just above"]
        elif b[3] < a[1] + 8:
            found += ["below", "under"]
    if on_ground and overlap(a, b) > 0.05:
        found += ["in front of"] if a_is_nearer else ["behind"]
    gap = max(a[0], b[0]) - min(a[2], b[2])
    if side_by_side and gap < 40 and min(a[3], b[3]) - max(a[1], b[1]) > 0.3 * min(a[3] - a[1], b[3] - b[1]):
        found += ["next to", "beside", "close to"]
    if side_by_side and gap > CANVAS * 0.35:
        found += ["far from", "across from"]
    return found


def _relation(random: np.random.Generator, a: _Group, b: _Group) -> str | None:
    found = relations(a.box, b.box, a.order > b.order, not (a.flying or b.flying))
    area_a, area_b = ((g.box[2] - g.box[0]) * (g.box[3] - g.box[1]) for g in (a, b))
    if a.count == b.count == 1 and max(area_a, area_b) > 1.8 * min(area_a, area_b):
        found += ["larger than" if area_a > area_b else "smaller than"]
    return _pick(random, found) if found else None


def _about_one(random: np.random.Generator, group: _Group, where: str) -> str:
    thing, be = _noun_phrase(random, group), "is" if group.count == 1 else "are"
    doing = _pick(random, DOING[group.category.name])
    return _pick(
        random,
        (
            f"{thing} {where}",
            f"{thing} {doing} {where}",
            f"{thing} {be} {doing} {where}",
            f"there {be} {thing} {where}",
            f"a picture of {thing}",
            f"{where} we see {thing}",
            f"{thing} {doing}",
        ),
    )


def _about_two(random: np.random.Generator, a: _Group, b: _Group, where: str) -> str:
    first, second = _noun_phrase(random, a), _noun_phrase(random, b)
    be, doing = "is" if a.count == 1 else "are", _pick(random, DOING[a.category.name])
    relation = _relation(random, a, b)
    if relation is None or random.random() < 0.3:
        return _pick(
            random,
            (
                f"{first} and {second} {where}",
                f"{first} {doing} {where} with {second}",
                f"{where} there {be} {first} and also {second}",
                f"a drawing of {first} and {second}",
                f"both {first} and {second} can be seen {where}",
            ),
        )
    if relation in ("larger than", "smaller than"):
        return _pick(random, (f"{first} that is {relation} {second}", f"{where}, {first} looks {relation} {second}"))
    return _pick(
        random,
        (
            f"{first} {relation} {second}",
            f"{first} {relation} {second} {where}",
            f"{first} {be} {relation} {second}",
            f"{first} {doing} {relation} {second}",
            f"{where}, {first} {be} {doing} {relation} {second}",
        ),
    )


def _about_many(random: np.random.Generator, groups: Sequence[_Group], where: str) -> str:
    if random.random() < 0.5:
        rest = " and ".join(_noun_phrase(random, group) for group in groups[2:])
        start = _about_two(random, groups[0], groups[1], where)
        return f"{start}, {_pick(random, ('with', 'and there is also', 'not far from', 'together with'))} {rest}"
    *most, last = [_noun_phrase(random, group) for group in groups]
    return _pick(random, (f"{', '.join(most)} and {last} {where}", f"{where}: {', '.join(most)} and {last}"))


def _decoys(text: str, random: np.random.Generator) -> str:
    """Fills in {who} and {when}, and marks the decoys, "{coach|bus}" or "{bear}"."""
    text = text.replace("{who}", _pick(random, WHO)).replace("{when}", _pick(random, WHEN))
    text = re.sub(r"\{([^|}]+)\|([^}]+)\}", r"[!\2|\1]", text)
    return re.sub(r"\{([^}]+)\}", r"[!\1|\1]", text)


def _finish(marked: str, random: np.random.Generator) -> Caption:
    """Removes the marks from a text and records what they say. Half of the texts get a capital and a full stop."""
    text = ""
    names: list[Name] = []
    decoys: list[Name] = []
    for literal, decoy, category, words in re.findall(r"([^\[]*)(?:\[(!?)([^|]+)\|([^\]]+)\])?", marked):
        text += literal
        if category:
            name = Name(len(text), len(text) + len(words), category)
            (decoys if decoy else names).append(name)
            text += words
    if random.random() < 0.5:
        text = text[0].upper() + text[1:] + "."
    return Caption(text, tuple(names), tuple(decoys))


def describe(scene: Scene, random: np.random.Generator) -> Caption:
    """A true sentence about the scene. It may leave out things, but its counts are complete."""
    groups = _groups(scene)
    most = min(len(groups), 1 + one_of(random, (0.25, 0.4, 0.25, 0.1)))
    chosen = [groups[index] for index in random.permutation(len(groups))[:most]]
    if all(group.flying for group in chosen):
        places = FLYING[scene.background]
    elif any(group.flying for group in chosen):
        places = STANDING[scene.background][:2]
    else:
        places = STANDING[scene.background]
    where = _pick(random, places)
    if most == 1:
        text = _about_one(random, chosen[0], where)
    elif most == 2:
        text = _about_two(random, chosen[0], chosen[1], where)
    else:
        text = _about_many(random, chosen, where)
    if random.random() < 0.05:
        text += _decoys(_pick(random, TAILS), random)
    return _finish(text, random)


def aside(random: np.random.Generator) -> Caption:
    """A sentence about no scene, with a word that only looks like a category."""
    return _finish(_decoys(_pick(random, ASIDES), random), random)


def scene_captions(seed: int, split: str, index: int, count: int) -> list[Caption]:
    """`count` sentences about one scene of a split."""
    random = generator(seed, "captions", split, index)
    scene = plan_scene(seed, split, index)
    return [describe(scene, random) for _ in range(count)]


def sentence(seed: int, split: str, index: int) -> Caption:
    """A sentence of a text corpus: about the scene with this index in the split, or, a few, about none."""
    random = generator(seed, "sentence", split, index)
    return aside(random) if random.random() < 0.04 else scene_captions(seed, split, index, 1)[0]


def sentences(seed: int, split: str, count: int) -> Iterator[Caption]:
    """A text corpus of the first `count` sentences of the split."""
    return (sentence(seed, split, index) for index in range(count))
