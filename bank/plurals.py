"""English plurals, for vocabularies, sentences, detector labels and the drawn world: the only place with such rules.

`other_number` is thorough: it asks `inflect` (of the [pipeline] extra), corrected where that is wrong about things that
vocabularies hold ("trees", "gentleman"). The other functions only look at a word's ending and in a short table.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import inflect

Function = TypeVar("Function", bound=Callable[..., Any])

IRREGULAR = {
    "calves": "calf", "cattle": "cattle", "children": "child", "feet": "foot", "firemen": "fireman",
    "fishermen": "fisherman", "geese": "goose", "gentlemen": "gentleman", "knives": "knife", "leaves": "leaf",
    "men": "man", "mice": "mouse", "oxen": "ox", "people": "person", "policemen": "policeman", "shelves": "shelf",
    "skis": "ski", "teeth": "tooth", "women": "woman",
}  # fmt: skip
"""The singular of frequent plurals that no rule gives."""

_UNCHANGED = frozenset("carp deer fish sheep".split())
"""Frequent nouns whose plural is the same."""

# Plurals where inflect has none, a wrong one, or not all of them.
_PLURALS = {
    "antenna": ("antennas", "antennae"), "aquarium": ("aquariums", "aquaria"), "buffalo": ("buffaloes", "buffalo"),
    "bus": ("buses", "busses"),
    "cactus": ("cacti", "cactuses"), "chili": ("chilies", "chilis"), "chilli": ("chillies", "chillis"),
    "handkerchief": ("handkerchiefs", "handkerchieves"),
    "headscarf": ("headscarves", "headscarfs"), "hippopotamus": ("hippopotamuses", "hippopotami"),
    "hoof": ("hooves", "hoofs"), "octopus": ("octopuses", "octopi"), "person": ("people", "persons"),
    "rhinoceros": ("rhinoceroses", "rhinoceros"), "scarf": ("scarves", "scarfs"), "shrimp": ("shrimp", "shrimps"),
    "squid": ("squid", "squids"), "stylus": ("styluses", "styli"),
}  # fmt: skip
# Plurals without a singular that means the same: shorts are not a short, glasses not a glass, woods not a wood.
_WITHOUT_SINGULAR = frozenset(
    "bangs binoculars blinds bottoms boxers boxershorts briefs clippers clothes controls cosmetics dice drawers "
    "electronics eyeglasses fries glasses goggles goods graffiti greens grits jeans leotards leggings nightclothes "
    "overalls pajamas pants pliers plyers pyjamas reigns scissors shears shorts slacks specs spectacles spirits "
    "sprinkles sunglasses supplies suspenders sweatpants tights tongs trousers trunks tweezers underclothes "
    "underdrawers underpants woods".split()
)
# Singular nouns that end like a plural. So are all in -ss and, with few exceptions, those in -us.
_SINGULAR_IN_S = frozenset(
    "asbestos chassis christmas hommos hoummos iris lens oasis rhinoceros tennis thermos".split()
)
_PLURAL_IN_US = frozenset("emus gnus menus tutus bayous".split())
_MAN_WITHOUT_MEN = frozenset("caiman german human ottoman roman shaman talisman".split())
# Words of vocabularies that do not inflect like a noun.
_NOT_NOUNS = frozenset("a an and any he her him his i is it its me my no of on one or she that the their them they "
                     "this those up us we what who you your".split())  # fmt: skip


def other_number(noun: str) -> tuple[str, ...]:
    """The plurals of a singular noun, the most frequent first. Of a plural noun, its singular if it means the same."""
    if noun in _NOT_NOUNS or not noun.isascii():
        return ()
    if noun in _PLURALS:
        return _PLURALS[noun]
    singular = _singular(noun)
    if singular is not None:
        return () if noun in _WITHOUT_SINGULAR else (singular,)
    if noun.endswith("man") and noun not in _MAN_WITHOUT_MEN:
        return (noun[:-3] + "men",)
    plural = _engine().plural_noun(noun)
    if plural == noun + "s" and noun.endswith("s"):
        return ()
    if noun.endswith("fish"):
        return (plural, noun + "es")
    return (plural, noun + "s") if noun.endswith("o") else (plural,)


def plural_of(noun: str) -> str:
    """The plural by the plain rules: "puppies", "buses", "geese"."""
    if noun in _UNCHANGED:
        return noun
    for plural, singular in IRREGULAR.items():
        if singular == noun:
            return plural
    if noun.endswith("y") and noun[-2:-1] not in tuple("aeiou"):
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def singular_of(noun: str) -> str:
    """The singular of a plural that is irregular or ends in -s alone; any other noun as it is."""
    return IRREGULAR.get(noun, noun.removesuffix("s"))


def possible_singulars(noun: str) -> list[str]:
    """What a noun may be the plural of, the likeliest first: "boxes" gives "boxe" and "box". [] if it is singular."""
    candidates = [IRREGULAR[noun]] if noun in IRREGULAR else []
    if noun.endswith("s") and not noun.endswith("ss"):
        candidates.append(noun[:-1])
        if noun.endswith(("ses", "xes", "zes", "ches", "shes", "oes")):
            candidates.append(noun[:-2])
        elif noun.endswith("ies"):
            candidates.append(noun[:-3] + "y")
    return candidates


def looks_plural(word: str) -> bool:
    """Whether the word looks like a noun in the plural."""
    return word in IRREGULAR or (len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")))


def _singular(noun: str) -> str | None:
    """The singular of a plural noun, or the noun itself if none means the same. None for a singular noun."""
    if noun in _WITHOUT_SINGULAR:
        return noun
    if noun in _SINGULAR_IN_S or noun.endswith("ss") or (noun.endswith("us") and noun not in _PLURAL_IN_US):
        return None
    found = _engine().singular_noun(noun)
    return found if found and found != noun else None


@cache
def _engine() -> "inflect.engine":
    import typeguard

    # inflect has typeguard rewrite its functions at the import, which takes a second, and check their arguments at each
    # call. We pass it nouns of two letters or more, which it accepts.
    checked = typeguard.typechecked
    typeguard.typechecked = _unchecked  # type: ignore[assignment]
    try:
        import inflect
    finally:
        typeguard.typechecked = checked
    return inflect.engine()


def _unchecked(function: Function) -> Function:
    return function
