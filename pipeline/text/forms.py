"""The forms in which a word or phrase of a vocabulary occurs in English text: singular, plurals, spelling variants."""

import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise

from vlmixer.bank.plurals import other_number

# Pairs of spellings of one word.
SPELLINGS = tuple(
    tuple(pair.split("/"))
    for pair in (
        "/ airplane/aeroplane aluminum/aluminium armor/armour ax/axe bandana/bandanna barbecue/barbeque "
        "canister/cannister cantaloupe/cantaloup catalog/catalogue center/centre chili/chilli color/colour "
        "colored/coloured curb/kerb disk/disc donut/doughnut fiber/fibre gray/grey harbor/harbour jewelry/jewellery "
        "lasagna/lasagne license/licence mold/mould mom/mum mustache/moustache omelet/omelette pajama/pyjama "
        "pajamas/pyjamas plow/plough propeller/propellor racket/racquet theater/theatre tire/tyre whiskey/whisky "
        "yogurt/yoghurt"
    ).split()
)
# Spellings that are another word outside a phrase ("the air is drier").
SPELLINGS_IN_PHRASES = (("dryer", "drier"),)
# Compounds that are written as one word or as two.
COMPOUNDS = tuple(
    tuple(pair.split("|"))
    for pair in (
        "arm|chair arm|rest back|pack bath|tub bird|house book|case book|shelf cell|phone counter|top cup|board "
        "dish|washer door|knob door|way eye|glasses fire|place fire|truck flag|pole flower|pot foot|ball hair|brush "
        "hair|dryer hand|bag hand|rail head|band head|board head|light head|phones high|chair hot|dog house|plant "
        "key|board lamp|post lamp|shade lap|top light|bulb light|house mail|box mini|van motor|bike motor|boat "
        "motor|cycle mouse|pad night|stand pan|cake pine|apple place|mat pony|tail row|boat sail|boat side|walk "
        "skate|board skate|park snow|ball snow|board snow|man snow|suit stop|light straw|berry street|light suit|case "
        "sun|flower sun|glasses surf|board sweat|band sweat|shirt table|cloth tail|light tea|cup tea|kettle tea|pot "
        "teddy|bear tooth|brush tooth|paste tooth|pick trash|can water|melon wet|suit wheel|chair wind|shield "
        "wine|glass wrist|band wrist|watch"
    ).split()
)
# The part of a phrase that inflects: the last word, or the word before a preposition ("loaves of bread").
_HEAD = re.compile(r"(.*?)([^\W\d_]{2,})((?: (?:of|in|with|on|for|to) .*)?)")


@cache
def forms_of(word: str) -> tuple[str, ...]:
    """The word, its other number (`inflections_of`), and both in their other spellings, without duplicates.

    Words are in lower case, with blanks between the parts of a phrase; the matcher finds hyphens there, too.
    "teddy bear" gives "teddy bears", "teddybear" and "teddybears".
    """
    spelt = [word, *_spellings(word)]
    forms = [form for spelling in spelt for form in (spelling, *inflections_of(spelling))]
    joined = ["".join(parts) for parts in map(_parts, forms) if len(parts) == 2 and "".join(parts).isalpha()]
    return tuple(dict.fromkeys([word, *inflections_of(word), *forms, *joined]))


@cache
def inflections_of(word: str) -> tuple[str, ...]:
    """The plurals of a word or phrase, or the singular of a plural: "loaf of bread" gives "loaves of bread"."""
    return tuple(dict.fromkeys(_inflected(word)))


def _parts(phrase: str) -> list[str]:
    return re.split(r"[ -]", phrase)


def _spellings(phrase: str) -> Iterator[str]:
    """The phrase with one of its words, or two neighbours, in another spelling."""
    parts = _parts(phrase)
    for place, part in enumerate(parts):
        for other in _other_spellings(len(parts) > 1).get(part, ()):
            yield " ".join([*parts[:place], other, *parts[place + 1 :]])
    for place, halves in enumerate(pairwise(parts)):
        if halves in COMPOUNDS:
            yield " ".join([*parts[:place], "".join(halves), *parts[place + 2 :]])


@cache
def _other_spellings(in_phrases: bool) -> dict[str, list[str]]:
    """Those of each word that has any."""
    found: dict[str, list[str]] = {}
    pairs = SPELLINGS + SPELLINGS_IN_PHRASES if in_phrases else SPELLINGS
    for first, second in (*pairs, *(("".join(halves), " ".join(halves)) for halves in COMPOUNDS)):
        found.setdefault(first, []).append(second)
        found.setdefault(second, []).append(first)
    return found


def _inflected(phrase: str) -> Iterator[str]:
    """The phrase with its head in the other number. For "bow and arrow", also with both nouns in it."""
    found = _HEAD.fullmatch(phrase)
    if found is None:
        return
    before, head, after = found.groups()
    for form in other_number(head):
        yield before + form + after
        first, conjunction, middle = before.rpartition(" and ")
        if conjunction and not middle and not after:
            for other in _inflected(first):
                yield other + conjunction + form
