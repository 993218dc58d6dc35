"""Whether a matched English word means something else than the concept: a set phrase, another sense, a name.

`english` asks this first. Everything here is judged from the words of the sentence alone, with or without a statistical
pipeline. Fixed phrases are in `english_words.OTHER_THINGS`.
"""

from dataclasses import dataclass

from vlmixer.bank.concepts import Vocabulary
from vlmixer.pipeline.text import english_words as lists
from vlmixer.pipeline.text.matching import Match, Words


@dataclass(frozen=True)
class Sense:
    """Another sense of a word. The word has it if the sentence holds a word of `other` and none of `own`.

    concepts: it is another sense only where the concept of the word is called by one of these; empty: everywhere.
    """

    other: frozenset[str]
    own: frozenset[str]
    concepts: frozenset[str]


def _sense(other: str, own: str = "", concepts: tuple[str, ...] = ()) -> Sense:
    return Sense(frozenset(other.split()), frozenset(own.split()), frozenset(concepts))


_FINANCE = _sense("bearish bullish economy investor investors nasdaq stock stocks trader traders")

SENSES = {
    "ball": _sense(
        "ballroom charity cinderella debutante gala inaugural masked masquerade palace royal waltz",
        "bounce bounces catch catches court game hit hits kick kicks kicking play playing plays soccer tennis throw "
        "throwing throws",
    ),
    "bat": _sense(
        "belfry cave caves dusk echolocation flew flies fly flying insects nocturnal roost roosting roosts vampire "
        "winged wings",
        "ball baseball batter cricket game hands hit hits hitting hold holding holds pitcher player players swing "
        "swinging swings swung",
        ("baseball bat",),
    ),
    "batter": _sense(
        "cake dough eggs flour fried mix mixes mixing oven pan pancake pancakes stir stirs whisk whisking whisks",
        "ball base baseball bat pitcher swing swinging swings umpire",
        ("player", "baseball player", "person"),
    ),
    "bear": _FINANCE,
    "bull": _FINANCE,
    "cell": _sense(
        "bacteria bars battery biology blood brain cancer dna dungeon fuel guard guards inmate inmates jail jailed "
        "membrane microscope microscopic monk monks nerve nucleus organism plant prison prisoner prisoners skin solar "
        "spreadsheet stem tissue",
        "call calling calls phone phones talk talking talks text texting texts",
        ("cell phone", "cellphone", "phone", "telephone"),
    ),
    "mouse": _sense(
        "ate burrow burrows cage catch catches catching caught chase chased chases chasing cheese eat eaten eating "
        "eats field fur furry hid hides hole nibble nibbled nibbles nibbling owl ran rat rats rodent run running runs "
        "scurried scurries scurrying snake squeak squeaks tail trap whiskers",
        "click clicks computer cursor desk keyboard laptop mac monitor optical pad pc screen usb wireless",
        ("computer mouse",),
    ),
    "pitcher": _sense(
        "beer juice lemonade milk pour poured pouring pours tea water",
        "ball base baseball bat batter game mound team throw throwing throws",
        ("player", "baseball player", "person"),
    ),
    "ram": _sense("ddr4 gb gigabytes megabytes memory processor ssd", concepts=("sheep",)),
    "tie": _sense(
        "election ended ending ends finished game games match overtime score scored teams tournament vote votes",
        "dressed jacket man men neck shirt suit wear wearing wears woman wore",
    ),
}
"""By the vocabulary's word: the senses that captions confuse."""

ALL_SENSES = frozenset((*SENSES, "calf"))

_LEG = frozenset(
    "ankle cramp injured injury knee knees leg legs muscle muscles pulled shin strained tattoo thigh".split()
)
_POSSESSIVES = frozenset("his her my our their your left right".split())
_COWS = frozenset("bull bulls cattle cow cows farm farmer heifer herd".split())
_OTHER_CALVES = frozenset("elephant elephants giraffe giraffes hippo hippos whale whales".split())

_GROUPS = frozenset("baby boys children farmers gentlemen girls kids ladies men mens teachers women womens".split())
"""Words whose possessive often says for whom something is made ("the *men's* room")."""

_MADE_FOR = frozenset(
    "basketball bathroom book books choir clothing club cup day department final football golf hockey hospital "
    "league library lounge magazine market match menu museum night prayer restroom rights room rooms section soccer "
    "softball store team tennis toilet toilets tournament volleyball ward wear".split()
)

_CITIES = frozenset(
    "anaheim angeles arizona atlanta baltimore boise boston brooklyn buffalo butler carolina chicago cincinnati "
    "cleveland dallas denver detroit diego florida francisco houston indianapolis jersey la leeds louis memphis miami "
    "michigan milwaukee minnesota montreal nashville oakland oklahoma ontario orleans oregon ottawa philadelphia "
    "phoenix pittsburgh portland seattle tampa texas toronto vancouver vegas washington winnipeg york".split()
)
_TEAMS = frozenset(
    "bear bison bronco buffalo bull bulldog colt cowboy duck eagle falcon grizzly hawk husky jet longhorn oriole "
    "pelican penguin ram raven".split()
) | {"blue jay"}
_FIRST_NAMES = frozenset("apple baker bear buffalo bull colt cook eagle hawk hunter lamb raven robin swan".split())
_PLACE_WORDS = frozenset(
    "avenue bay beach boulevard bridge canyon county creek falls hall hill hills hotel inn island islands lake lane "
    "mountain mountains park pier river road rock school square stadium station street university valley".split()
)
_PLACES = frozenset(("buffalo", "orange", "mobile"))
_COMPANY = frozenset(
    "announced announces ceo employees event has inc introduced introduces iphone launched launches products releases "
    "released reported said says shares stock sued unveiled unveils".split()
)


def senses_of(vocabulary: Vocabulary) -> frozenset[str]:
    """The words of `SENSES` whose concept has the other meaning: a vocabulary's mouse may well be the animal."""
    found = {"calf"}
    for word, sense in SENSES.items():
        concepts = vocabulary.claims.get(word, ())
        if concepts and (
            not sense.concepts or not sense.concepts.isdisjoint((concepts[0].name, *concepts[0].synonyms))
        ):
            found.add(word)
    return frozenset(found)


def means_something_else(words: Words, match: Match, senses: frozenset[str] = ALL_SENSES) -> bool:
    """Whether the match belongs to a set phrase with a possessive, has one of the other `senses`, or is part of a
    name."""
    if match.lemma in senses and _has_other_sense(words, match):
        return True
    return _is_made_for(words, match) or _is_name(words, match)


def _is_made_for(words: Words, match: Match) -> bool:
    """The men in "the *men's* room", "a *women's* match"; not those in "the men's faces"."""
    if match.first != match.last or words.word(match.last) not in _GROUPS:
        return False
    if not words.gap(match.last).startswith("'"):
        return False
    after = match.last + 2 if words.word(match.last + 1) == "s" else match.last + 1
    plural_of_one = words.word(match.first - 1) in ("a", "an", "another", "one") and words.word(match.last) != "baby"
    return plural_of_one or words.word(after) in _MADE_FOR


def _has_other_sense(words: Words, match: Match) -> bool:
    if match.first != match.last:
        return False
    if match.lemma == "calf":
        return _is_other_calf(words, match)
    sense = SENSES.get(match.lemma)
    if sense is None:
        return False
    others = frozenset((*words.words[: match.first], *words.words[match.last + 1 :]))
    return not others.isdisjoint(sense.other) and others.isdisjoint(sense.own)


def _is_other_calf(words: Words, match: Match) -> bool:
    """Whether a calf is part of a leg, or an elephant's."""
    others = frozenset((*words.words[: match.first], *words.words[match.last + 1 :]))
    if not others.isdisjoint(_COWS):
        return False
    if not others.isdisjoint(_OTHER_CALVES):
        return True
    return not others.isdisjoint(_LEG) or words.word(match.first - 1) in _POSSESSIVES


def _is_name(words: Words, match: Match) -> bool:
    """Whether the match is part of the name of a team, a person, a place or a company."""
    before = words.word(match.first - 1) if not words.gap(match.first - 1).strip() else ""
    after = words.word(match.last + 1) if not words.gap(match.last).strip() else ""
    plural = words.word(match.last) != match.lemma.rpartition(" ")[2]
    if plural and match.lemma in _TEAMS and before in _CITIES:
        return True
    if not words.is_capital(match.first) or not _has_small_words(words, match):
        return False
    capital_after = bool(after) and words.is_capital(match.last + 1)
    if after in _PLACE_WORDS and capital_after:
        return True
    if plural:
        return match.lemma in _TEAMS and before == "the"
    if match.lemma in _FIRST_NAMES and capital_after and before not in lists.BEFORE_NOUNS:
        return True
    if match.lemma == "apple" and before not in lists.BEFORE_NOUNS and (match.first > 0 or after in _COMPANY):
        return True
    if match.lemma in _PLACES and (
        before in ("from", "in", "near", "of", "to")
        or (words.gap(match.last).strip() == "," and words.is_capital(match.last + 1))
    ):
        return True
    return (
        match.lemma in lists.LIVING
        and after in ("and", "&")
        and words.is_capital(match.last + 2)
        and words.word(match.last + 2) not in lists.LIVING
    )


def _has_small_words(words: Words, match: Match) -> bool:
    """Whether capitals say something: the sentence has words in small letters besides articles and prepositions."""
    return any(
        len(word) > 2
        and word not in lists.AFTER_NOUNS
        and word not in lists.DETERMINERS
        and not match.first <= index <= match.last
        and not words.is_capital(index)
        and word.isalpha()
        for index, word in enumerate(words.words)
    )
