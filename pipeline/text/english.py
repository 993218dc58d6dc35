"""What an English word's neighbours tell about it: whether a matched word is meant as a thing.

`verdict` says so where the neighbours settle it, with or without a statistical pipeline; `guess` does its best for the
rest where there is none. Pure functions on the words of a sentence; the lists were chosen by reading errors on captions
(docs/tagging.md).
"""

import re

from pipeline.text.matching import Match, Words

OTHER_THINGS = tuple(
    phrase.strip()
    for phrase in """
    record player|cd player|dvd player|mp3 player|media player|music player|cassette player|lady bug|guy wire
    cake batter|pancake batter|batter up|dream catcher|table runner|pitcher of water|pitcher of beer|pitcher of milk
    pitcher of juice|pitcher of lemonade|water pitcher|milk pitcher|couple of|couple more|couple different|couple other
    man made|man hole|car port|bull dozer|bull ring|cow boy hat|cow boy boot|horse shoe|bear market|bull market
    zebra crossing|teddy boy|mickey mouse|minnie mouse|mouse pad|mouse trap|apple computer|apple store|apple logo
    apple laptop|orange county|banana boat|cup cake|cup board|board game|couch potato|table tennis|table cloth
    table spoon|bed room|bed spread|bed side|bed of a truck|bed of the truck|bed of a pickup|bed of the pickup
    bed of flowers|bed of lettuce|bed of rice|bed of grass|bed of straw|bed of hay|bed of leaves|bed of greens
    flower bed|river bed|lake bed|garden bed|creek bed|truck bed|dog bed|cat bed|car bed|pet bed|train bed
    bike seat|bicycle seat|motorcycle seat|toilet seat|bench press|car seat|back seat|front seat|passenger seat
    drivers seat|driver seat|driver side|drivers side|passenger side|passenger car|passenger window|passenger door
    piano keyboard|music keyboard|musical keyboard|electronic keyboard|key board|phone book|comic book store
    tie dye|tie dyed|bow and arrow|kite surf|kite surfing|kite surfer|kite boarding|kite boarder|kite board
    bowl cut|bowl game|super bowl|dust bowl|rose bowl|fish bowl|dog bowl|toilet bowl|lift chair|chair lift|chairlift
    knife block|fork lift|fork in the road|tuning fork|pitch fork|scissor lift|scissors lift
    remote controlled|remote control car|remote control plane|remote control boat|remote control helicopter
    remote control airplane|remote area|remote location|remote island|remote beach|remote road|remote village
    paper airplane|paper plane|paper boat|toy plane|chicken wire|duck tape|duct tape|bear skin|bear rug|bear claw
    cat fish|cat tail|cat walk|cat nap|dog wood|dog fight|hot dog eating contest|ball game|ball park|ball field|ball pit
    ball player|ball gown|ball room|ball cap|ball court|ball pen|skate boarding|snow boarding|surf boarding
    wake boarding|sand boarding|wake board|friend request|mother board|mother nature|mother ship|baby carriage
    baby stroller|baby carrier|baby powder|baby shower|baby bottle|baby food|baby doll|baby crib|baby bed|baby pool
    baby blue|baby pink|baby grand|player piano|worker bee|cook book|cook top|cook out|nurse shark|soldier field
    boat house|bird house|bird bath|bird feeder|bird cage|dog house|hen house|cat house|doll house|house boat trailer
    stop light pole|hair brush|light bulb|bus stop|car park|car wash|train track|train station|crowd control
    """.strip()
    .replace("\n", "|")
    .split("|")
)
"""Phrases that hold a concept's word and mean something else; a vocabulary that has the phrase itself keeps it."""

_DETERMINERS = frozenset(
    "a an the this these those his her its their my your our one two three four five six seven eight nine ten several "
    "many some few both another each every no any either neither various multiple numerous other dozen".split()
)
_ONE = frozenset("a an one this another each every".split())
_ADJECTIVES = frozenset(
    "young old older elderly little small smaller big bigger large larger huge giant tiny tall short long fat thin "
    "white black brown red blue green yellow orange pink purple gray grey tan silver golden gold blond blonde dark "
    "light bright colorful colourful striped spotted furry fluffy shaggy wet dirty muddy clean empty full open closed "
    "asian african american indian chinese japanese black hispanic caucasian middle-aged aged bald bearded shirtless "
    "happy smiling cute beautiful pretty handsome single lone new nice wooden metal plastic glass leather parked "
    "teenage male female adult vintage antique modern old-fashioned fancy yellow-green multicolored".split()
)
_BEFORE_NOUNS = _DETERMINERS | _ADJECTIVES
_AFTER_NOUNS = frozenset(
    "in on at with by from of to into onto over under near behind beside besides between along across through around "
    "against above below underneath beneath atop during while as for off out inside outside toward towards past about "
    "after before without within upon amid among next who whom whose that which where when but because is are was "
    "were be being been isn aren has have had does did can could will would may might must should a an the his her "
    "its their he she it they him them there here also just not then so together looks appears".split()
)
_AFTER_VERBS = frozenset("a an the his her its their him them it itself himself herself themselves".split())
_COLOURS = frozenset(
    "white black brown red blue green yellow orange pink purple gray grey tan silver gold golden beige".split()
)
# Words after which an English noun form is a verb ("they train", "don't park").
_SUBJECTS = frozenset("i you he she we they who".split())
_AUXILIARIES = frozenset("will would can could may might must shall should not never please let lets cannot to".split())
_NEXT_TO = frozenset("next close up due near related similar thanks back belonging attached tied nose".split())

_PERSON_NOUNS = frozenset("man woman boy girl guy lady gentleman person child toddler someone".split())
_ALWAYS_NOUNS = frozenset("people men women children persons gentlemen ladies guys boys girls".split())
_KIN = frozenset("baby mother father adult parent infant child kid son daughter brother sister male female".split())
_WILD = frozenset(
    "elephant giraffe zebra bear panda cub sheep lamb ewe goat cow calf cattle bull horse foal pony mare colt bird duck "
    "duckling swan goose gosling monkey lion tiger deer rhino hippo animal seal whale".split()
)
_LIKENESSES = frozenset(
    "statue statues sculpture sculptures painting paintings drawing drawings figurine figurines carving carvings mural "
    "cartoon poster shadow shadows silhouette sketch mosaic replica".split()
)
_MADE_OF = frozenset(
    "stuffed toy ceramic wooden plastic rubber porcelain paper cardboard carved bronze stone fake inflatable plush "
    "lego origami chocolate metal stone concrete marble".split()
)
_LIVING = _WILD | frozenset("dog puppy cat kitten rooster hen owl eagle parrot penguin bull ox pig".split())
_GAMES = frozenset("baseball basketball football volleyball softball".split())
_FRUIT_OR_COLOUR = frozenset(("orange",))
_BEFORE_FRUIT = _DETERMINERS | frozenset("sliced peeled fresh ripe whole half cut mandarin navel".split())

# Third person forms that captions are full of and that a tagger may take for a plural ("a man *sits*").
_VERB_FORMS = frozenset(
    "sits stands holds rides runs walks jumps looks wears plays eats lies lays leans leaps climbs carries catches chases "
    "throws kicks performs poses pulls pushes reaches rests swims takes talks tries uses waits watches works flies "
    "drives smiles sleeps drinks cooks cleans skis surfs skateboards snowboards skates slides falls hangs hits swings "
    "gets goes gives makes reads shows sings speaks stares stops travels turns rolls rows races prepares plays grazes "
    "bites barks digs licks sniffs splashes lands floats fishes dances laughs crosses cuts crouches kneels squats "
    "attempts balances bends blows bounces enjoys explains faces follows guides hikes kisses launches listens moves "
    "passes paints peers points practices puts rounds sets shakes shoots shops skips squirts steers strikes stretches "
    "sweeps tackles tosses touches tries walks washes yells does dives cycles approaches appears".split()
)
# Nouns that often stand behind another one which then only modifies them ("a bus *stop*", "the fish *market*").
_COMPOUND_HEADS = frozenset(
    "market stop stops station stations cover tower row food fair idea style rule rules days time house houses shop "
    "store park race races racing driver player players trainer lover owner ride rides show team game games company "
    "industry sky dress shirt shirts jacket coat hat light lights seat seats door doors window windows handle road "
    "track tracks lane cage farm bed bowl court field mat pad sign signs stand yard costume suit costumes outfit uniform "
    "uniforms vest shorts pants top collar leash toy toys treat bath feeder nest cap helmet helmets jersey match diamond "
    "stadium practice coach hoop net goal competition contest ramp trick rack path trail box oven cutter pan parlor "
    "dough crust sauce juice cider pie tree trees peel bread split leaf leaves cake soup salad mix holder lamp setting "
    "saw sheet sheets frame post spread stripes print skin string festival conductor platform yard depot terminal engine "
    "fire paper brush lid case cases shelf shelves store bag mark booth call pole wire line boat stall roll".split()
)


def verdict(words: Words, match: Match) -> bool | None:
    """Whether the match is meant as a thing, where its neighbours settle it; None where they do not."""
    before, after = _before(words, match), _after(words, match)
    head = words.words[match.last]
    singular = is_singular(words, match)
    if words.gap(match.last).startswith("-") and words.word(match.last + 1) not in ("drawn", "like"):
        return False
    if _is_likeness(words, match) or _is_animals_kin(words, match):
        return False
    if head in _FRUIT_OR_COLOUR:
        return _is_fruit(words, match)
    if match.first == match.last and singular:
        if head in _GAMES and before not in _DETERMINERS | _ADJECTIVES:
            return False
        if before in _SUBJECTS or (before in _AUXILIARIES and before != "to"):
            return False
    if head in _ALWAYS_NOUNS:
        return True
    if words.gap(match.last).startswith("'"):
        return True
    if (
        before in _BEFORE_NOUNS
        and head not in _ADJECTIVES
        and (head in _PERSON_NOUNS or _ends_noun(words, match, after))
    ):
        return True
    return None


def guess(words: Words, match: Match, following: Match | None, tag_modifiers: bool) -> bool:
    """Whether the match is meant as a thing, where nothing but the words themselves can tell.

    A word after "to" is a verb, and so is one without a plural ending after one that has ("the students *train*"); a
    word straight before another match or before a noun that others often modify, modifies it ("a *dog* bed"); and "a
    *bear* of a problem" is an idiom.
    """
    before, after = _before(words, match), _after(words, match)
    single, singular = match.first == match.last, is_singular(words, match)
    if single and singular and before == "to" and words.word(match.first - 2) not in _NEXT_TO:
        return False
    if single and singular and _looks_plural(before):
        return False
    if after in _COMPOUND_HEADS and not tag_modifiers:
        return False
    if (
        not tag_modifiers
        and following is not None
        and following.first == match.last + 1
        and not words.gap(match.last).strip()
    ):
        return not singular
    return not (after == "of" and words.word(match.last + 2) == "a" and before in ("a", "an"))


def modifies(words: Words, match: Match, next_is_plural: bool) -> bool:
    """Whether the match only modifies the noun that a statistical pipeline sees behind it.

    Pipelines take many verbs for nouns there ("a man *sits*"): no plural follows "a dog", and what stands before an
    article or is a verb that captions are full of is no noun. Nor does a plural modify ("dogs *race*").
    """
    if not is_singular(words, match) or words.words[match.last] in _PERSON_NOUNS:
        return False
    after = _after(words, match)
    if after in _VERB_FORMS or (words.word(match.last + 2) in _AFTER_VERBS and not words.gap(match.last + 1).strip()):
        return False
    return not (next_is_plural and _determiner(words, match) in _ONE)


def is_singular(words: Words, match: Match) -> bool:
    """Whether the match is the vocabulary's word as it stands, no derived form of it."""
    return " ".join(words.words[match.first : match.last + 1]) == re.sub(r"[\s'-]+", " ", match.lemma)


def after_determiner(words: Words, match: Match) -> bool:
    """Whether a determiner stands straight before the match, so that it cannot be a verb."""
    return _before(words, match) in _DETERMINERS


def _before(words: Words, match: Match) -> str:
    """The word straight before the match, "" where punctuation or nothing stands there."""
    return words.word(match.first - 1) if not words.gap(match.first - 1).strip() else ""


def _after(words: Words, match: Match) -> str:
    """The word straight behind the match, "" where punctuation or nothing stands there."""
    return words.word(match.last + 1) if not words.gap(match.last).strip() else ""


def _ends_noun(words: Words, match: Match, after: str) -> bool:
    """Whether no noun that the match could modify follows."""
    if after == "and":
        return words.word(match.last + 2) in _DETERMINERS
    if after.endswith("ing") and len(after) > 4:
        return words.word(match.last + 2) in _AFTER_NOUNS
    return not after or after in _AFTER_NOUNS


def _determiner(words: Words, match: Match) -> str:
    """The determiner of the match's noun phrase, "" if there is none within four words."""
    for index in range(match.first - 1, max(match.first - 6, -1), -1):
        if words.word(index) in _DETERMINERS:
            return words.word(index)
        if words.word(index) in _AFTER_NOUNS or words.gap(index).strip(" ,-'"):
            return ""
    return ""


def _is_likeness(words: Words, match: Match) -> bool:
    """Whether the match is a statue, a drawing or a toy of the thing ("a statue of a *man*", "a rubber *duck*")."""
    if match.lemma in _LIVING and _before(words, match) in _MADE_OF:
        return True
    index = match.first - 1
    while index >= 0 and words.word(index) in _BEFORE_NOUNS and match.first - index < 5:
        index -= 1
    return index >= 1 and words.word(index) == "of" and words.word(index - 1) in _LIKENESSES


def _is_animals_kin(words: Words, match: Match) -> bool:
    """Whether the match is an animal's kin: the baby in "a mother elephant and her *baby*"."""
    if match.lemma not in _KIN:
        return False
    others = words.words
    return any(_singular_of(word) in _WILD for word in others) and not any(
        word in _PERSON_NOUNS or word in _ALWAYS_NOUNS for word in others
    )


def _singular_of(word: str) -> str:
    return (
        word[:-1] if word.endswith("s") and word[:-1] in _WILD else {"calves": "calf", "geese": "goose"}.get(word, word)
    )


def _is_fruit(words: Words, match: Match) -> bool | None:
    """Whether a word that is also a colour is meant as the fruit."""
    if not is_singular(words, match):
        return True
    before, after = _before(words, match), _after(words, match)
    if after in ("and", "or") and words.word(match.last + 2) in _COLOURS:
        return False
    if before in ("and", "or") and words.word(match.first - 2) in _COLOURS:
        return False
    if not after and before in _BEFORE_FRUIT:
        return None if words.word(match.last + 1) in _COLOURS else True
    return before in _BEFORE_FRUIT and after in _AFTER_NOUNS


def _looks_plural(word: str) -> bool:
    """Whether the word looks like a noun in the plural."""
    return word in _ALWAYS_NOUNS or (len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")))
