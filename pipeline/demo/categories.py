"""The categories of the drawn world, with their words, colours, sizes and usual places.

`sprites` draws them, `scenes` places them, `captions` describes them.
"""

from __future__ import annotations

from dataclasses import dataclass

from vlmixer.bank.plurals import plural_of

BACKGROUNDS = ("field", "forest", "sea", "beach", "street", "night", "room", "kitchen", "snow")


@dataclass(frozen=True)
class Category:
    """One kind of thing.

    `size` is the usual longer side in pixels of the 256-pixel canvas, `place` is where it is put ("ground",
    "water" or "sky"; what flies is never on the ground), `homes` are its usual backgrounds with relative weights.
    """

    name: str
    synonyms: tuple[str, ...]
    colours: tuple[str, ...]
    size: int
    place: str
    homes: dict[str, float]

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)

    def plural(self, word: str) -> str:
        """The plural of one of the category's words."""
        return plural_of(word)


CATEGORIES = (
    Category(
        "dog",
        ("puppy", "hound"),
        ("brown", "black", "white", "golden"),
        72,
        "ground",
        {"field": 3, "beach": 2, "street": 2, "room": 2, "snow": 1},
    ),
    Category(
        "cat",
        ("kitten", "kitty"),
        ("orange", "black", "white", "gray"),
        62,
        "ground",
        {"room": 4, "kitchen": 3, "street": 1, "night": 1},
    ),
    Category("bear", ("grizzly",), ("brown", "black", "white"), 92, "ground", {"forest": 5, "snow": 3, "field": 0.5}),
    Category(
        "sheep",
        ("lamb",),
        ("white", "gray", "golden"),
        72,
        "ground",
        {"field": 5, "snow": 1, "forest": 0.5},
    ),
    Category(
        "goose",
        ("gander",),
        ("white", "gray", "brown"),
        66,
        "ground",
        {"field": 3, "beach": 2, "snow": 1, "sea": 1.5},
    ),
    Category(
        "mouse",
        ("rodent",),
        ("gray", "white", "brown"),
        56,
        "ground",
        {"kitchen": 4, "room": 2, "forest": 1.5},
    ),
    Category(
        "fish",
        ("carp",),
        ("orange", "blue", "red", "yellow", "gray"),
        62,
        "water",
        {"sea": 5, "beach": 1.5, "kitchen": 1},
    ),
    Category("owl", ("barn owl",), ("brown", "white", "gray"), 58, "sky", {"night": 4, "forest": 4, "snow": 1}),
    Category(
        "butterfly",
        ("moth",),
        ("blue", "orange", "purple", "yellow"),
        54,
        "sky",
        {"field": 3, "forest": 3, "kitchen": 0.5},
    ),
    Category(
        "train",
        ("locomotive", "steam engine"),
        ("black", "green", "red", "blue"),
        112,
        "ground",
        {"field": 1.5, "snow": 3, "night": 2, "forest": 1},
    ),
    Category(
        "car",
        ("automobile", "sedan"),
        ("red", "blue", "yellow", "white", "green"),
        90,
        "ground",
        {"street": 5, "night": 3, "snow": 1},
    ),
    Category(
        "bus",
        ("coach", "minibus"),
        ("red", "yellow", "blue", "green"),
        108,
        "ground",
        {"street": 4, "night": 3, "snow": 0.5},
    ),
    Category(
        "bicycle",
        ("bike", "cycle"),
        ("red", "blue", "black", "green", "pink"),
        82,
        "ground",
        {"street": 4, "field": 2, "beach": 1, "night": 1},
    ),
    Category(
        "sailboat",
        ("yacht", "sailing boat"),
        ("white", "red", "blue", "yellow"),
        88,
        "water",
        {"sea": 6, "beach": 4},
    ),
    Category(
        "hot air balloon",
        ("balloon",),
        ("red", "blue", "yellow", "purple", "pink"),
        84,
        "sky",
        {"field": 3, "snow": 2, "sea": 2, "forest": 1},
    ),
    Category(
        "traffic light",
        ("stoplight", "traffic signal"),
        ("black", "yellow", "gray"),
        84,
        "ground",
        {"street": 5, "night": 4},
    ),
    Category(
        "kite",
        ("paper kite",),
        ("red", "blue", "green", "purple", "orange"),
        66,
        "sky",
        {"field": 4, "beach": 4, "sea": 1},
    ),
    Category(
        "airplane",
        ("plane", "aeroplane", "jet"),
        ("white", "red", "blue", "gray"),
        88,
        "sky",
        {"sea": 3, "street": 1.5, "beach": 2, "snow": 1, "night": 1.5},
    ),
    Category(
        "house",
        ("cottage", "cabin"),
        ("white", "red", "yellow", "blue", "brown"),
        106,
        "ground",
        {"field": 2.5, "snow": 4, "forest": 2, "street": 1.5, "night": 1},
    ),
    Category("palm tree", ("palm",), ("green",), 110, "ground", {"beach": 5, "street": 0.7}),
    Category(
        "umbrella",
        ("parasol",),
        ("red", "blue", "yellow", "pink", "green"),
        78,
        "ground",
        {"beach": 5, "street": 1.5, "night": 1},
    ),
    Category("orange", ("tangerine",), ("orange",), 44, "ground", {"kitchen": 5, "room": 1, "beach": 0.5}),
    Category(
        "book",
        ("novel", "textbook"),
        ("red", "blue", "green", "brown", "purple"),
        60,
        "ground",
        {"room": 5, "kitchen": 2, "beach": 0.7},
    ),
    Category(
        "chair",
        ("seat",),
        ("brown", "red", "blue", "white", "green"),
        84,
        "ground",
        {"room": 5, "beach": 1, "field": 0.5, "kitchen": 1},
    ),
    Category(
        "clock",
        ("alarm clock", "timepiece"),
        ("red", "blue", "white", "green"),
        54,
        "ground",
        {"room": 4, "kitchen": 3},
    ),
    Category("lamp", ("table lamp",), ("yellow", "red", "green", "white"), 72, "ground", {"room": 5, "kitchen": 1}),
    Category(
        "cup",
        ("mug", "teacup"),
        ("white", "red", "blue", "green", "yellow"),
        52,
        "ground",
        {"kitchen": 6, "room": 2},
    ),
    Category(
        "mushroom",
        ("toadstool",),
        ("red", "brown", "white", "yellow"),
        54,
        "ground",
        {"forest": 6, "field": 1.5, "kitchen": 0.7},
    ),
)

INDEX = {category.name: index for index, category in enumerate(CATEGORIES)}
"""The position of each category, by name; also its label in the detector and its concept id in the vocabulary."""


def vocabulary() -> str:
    """The vocabulary file's text: a line per category, its name and synonyms; the line number is the id."""
    return "".join(", ".join(category.words) + "\n" for category in CATEGORIES)
