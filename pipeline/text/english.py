"""Whether a matched English word is meant as a thing, judged by its neighbours.

`verdict` decides where the neighbours settle it, with or without a statistical pipeline. `guess` decides the rest where
there is no pipeline. Pure functions on the words of a sentence. The lists were chosen by reading errors on captions
(docs/tagging.md).
"""

import re

from vlmixer.bank.plurals import looks_plural, singular_of
from vlmixer.pipeline.text import english_words as lists
from vlmixer.pipeline.text.english_senses import ALL_SENSES, means_something_else
from vlmixer.pipeline.text.matching import Match, Words


def verdict(
    words: Words, match: Match, tag_modifiers: bool = False, senses: frozenset[str] = ALL_SENSES
) -> bool | None:
    """Whether the match is meant as a thing. None where its neighbours do not settle it.

    tag_modifiers: a word that only modifies the next noun counts. senses: see `english_senses.senses_of`.
    """
    before, after = _before(words, match), _after(words, match)
    head = words.words[match.last]
    singular = is_singular(words, match)
    hyphened = words.gap(match.last).startswith("-") and words.word(match.last + 1) != "drawn"
    if hyphened and not tag_modifiers:
        return False
    if hyphened and words.word(match.last + 1) == "like":
        return False
    if means_something_else(words, match, senses) or _is_likeness(words, match) or _is_animals_kin(words, match):
        return False
    if (
        not tag_modifiers
        and words.gap(match.last).strip() == "/"
        and words.word(match.last + 2) in lists.COMPOUND_HEADS
    ):
        return False
    if head in lists.FRUIT_OR_COLOUR:
        return _is_fruit(words, match)
    if match.first == match.last and singular:
        if head in lists.NOT_BARE and before not in lists.BEFORE_NOUNS:
            return False
        if before in lists.SUBJECTS or (before in lists.AUXILIARIES and before != "to"):
            return False
        # "They don't *train*", "she'll *train* the dog".
        if before in ("t", "ll", "d") and words.gap(match.first - 2) == "'":
            return False
        if _is_verb(words, match, before, after) or _is_adjective(words, match, before, after):
            return False
    verb_like = match.first == match.last and head.endswith("s") and looks_plural(head)
    if verb_like and (
        # "A man *skis*", "a girl in red *bowls* a ball".
        before in lists.PERSON_NOUNS
        or (
            after in lists.AFTER_VERBS
            and (before not in lists.BEFORE_NOUNS or (before in lists.COLOURS and words.word(match.first - 2) == "in"))
        )
    ):
        return False
    if head in lists.ALWAYS_NOUNS or (head in lists.PERSON_NOUNS and match.first == 0):
        return True
    if words.gap(match.last).startswith("'"):
        return True
    if head in lists.ADJECTIVES or _is_idiom(words, match):
        return None
    if singular and _acts(words, match, after):
        return True
    if singular and _is_object(words, match, before) and _ends_noun(words, match, after):
        return True
    if before in lists.BEFORE_NOUNS and (head in lists.PERSON_NOUNS or _is_subject(words, match, after)):
        return True
    settled = before in lists.BEFORE_NOUNS or before in lists.PREPOSITIONS
    return True if settled and _ends_noun(words, match, after) else None


def guess(words: Words, match: Match, following: Match | None, tag_modifiers: bool) -> bool:
    """Whether the match is meant as a thing, decided from the words alone.

    A word after "to" is a verb. So is a word without a plural ending after a plural ("the students *train*"). A word
    directly before another match, or before a noun that is often modified, is a modifier ("*cat* food"). "A *bear* of
    a problem" is an idiom.
    """
    before, after = _before(words, match), _after(words, match)
    single, singular = match.first == match.last, is_singular(words, match)
    may_be_verb = single and singular and words.words[match.last] not in lists.PERSON_NOUNS
    if may_be_verb and before == "to" and words.word(match.first - 2) not in lists.NEXT_TO:
        return False
    if may_be_verb and looks_plural(before) and not _is_object(words, match, before):
        return False
    next_is_plural = looks_plural(after)
    if after in lists.COMPOUND_HEADS and not tag_modifiers:
        return not modifies(words, match, next_is_plural=next_is_plural, no_verb=False)
    if (
        not tag_modifiers
        and following is not None
        and following.first == match.last + 1
        and not words.gap(match.last).strip()
    ):
        return not singular
    return not _is_idiom(words, match)


def modifies(words: Words, match: Match, *, next_is_plural: bool, no_verb: bool) -> bool:
    """Whether the match only modifies the noun that a statistical pipeline sees after it.

    Pipelines take many verbs there for nouns ("a man *sits*"). It is not a noun if it is a plural after "a dog", stands
    before an article, is a frequent verb of captions, or is a plural and the pipeline found `no_verb` in the sentence
    ("the dog *slurps* water"). A plural match does not modify ("*dogs* race").
    """
    if not is_singular(words, match) or words.words[match.last] in lists.PERSON_NOUNS:
        return False
    after = _after(words, match)
    if _is_subject(words, match, after):
        return False
    if words.word(match.last + 2) in lists.AFTER_VERBS and not words.gap(match.last + 1).strip():
        return False
    determiner = _determiner(words, match)
    return not (next_is_plural and (determiner in lists.ONE or (no_verb and determiner not in lists.MANY)))


def _is_subject(words: Words, match: Match, after: str) -> bool:
    """Whether the word after the match is a verb whose subject is the match."""
    determiner = _determiner(words, match)
    if after in lists.VERB_BASES:
        return (
            determiner in lists.MANY or not is_singular(words, match) or _before_phrase(words, match) in ("and", "of")
        )
    if determiner in lists.MANY:
        return False
    if after in lists.VERBS_OR_PLURALS:
        return determiner in lists.ONE or words.word(match.last + 2) in lists.AFTER_MOVEMENTS
    return after in lists.VERBS


def _is_verb(words: Words, match: Match, before: str, after: str) -> bool:
    """Whether a word that may be a verb is one: "*fork* the repository", "ski and *bike*", "saw her *duck* behind"."""
    if words.words[match.last] not in lists.VERBS_TOO:
        return False
    if match.first == 0 and after in ("a", "an", "it", "the", "them", "this", "your"):
        return True
    if before in ("and", "or") and words.word(match.first - 3) in lists.AUXILIARIES:
        return words.word(match.first - 3) != "to" or words.word(match.first - 4) not in lists.NEXT_TO
    if before == "her" and words.word(match.first - 2) in lists.WATCHING:
        return after in lists.PREPOSITIONS
    return looks_plural(before) and singular_of(before) == words.words[match.last]


def _is_adjective(words: Words, match: Match, before: str, after: str) -> bool:
    """Whether a word that may be an adjective is one: "a *novel* approach", "be *patient*"."""
    if words.words[match.last] not in lists.ADJECTIVES_TOO:
        return False
    return before in lists.BE or (words.words[match.last] == "novel" and after in lists.AFTER_NOVEL)


def _acts(words: Words, match: Match, after: str) -> bool:
    """Whether a singular match is followed by a verb: "*surfer* carries surfboard"."""
    if after in lists.VERBS:
        return True
    return match.first == 0 and after in lists.OBJECT_VERBS and words.word(match.last + 2) not in lists.BE


def _is_object(words: Words, match: Match, before: str) -> bool:
    """Whether the match, without an article, is the object of the verb before it: "dog catches *frisbee*"."""
    subject = words.word(match.first - 2)
    if before in lists.OBJECT_VERBS:
        return subject not in lists.BEFORE_NOUNS
    acts = subject in lists.PERSON_NOUNS or subject in lists.LIVING
    return acts and looks_plural(before) and words.words[match.last] not in lists.VERBS_TOO


def _is_idiom(words: Words, match: Match) -> bool:
    """Whether the match may be a comparison ("a *bear* of a problem")."""
    return (
        _before(words, match) in ("a", "an")
        and _after(words, match) == "of"
        and words.word(match.last + 2) in ("a", "an")
    )


def is_singular(words: Words, match: Match) -> bool:
    """Whether the match is singular."""
    text = " ".join(words.words[match.first : match.last + 1])
    return text == re.sub(r"[\s'-]+", " ", match.lemma) or not looks_plural(words.words[match.last])


def _before(words: Words, match: Match) -> str:
    """The word directly before the match; "" if there is none or punctuation comes between."""
    return words.word(match.first - 1) if not words.gap(match.first - 1).strip() else ""


def _after(words: Words, match: Match) -> str:
    """The word directly after the match; "" if there is none or punctuation comes between."""
    return words.word(match.last + 1) if not words.gap(match.last).strip() else ""


def _ends_noun(words: Words, match: Match, after: str) -> bool:
    """Whether the match ends its noun phrase: no noun follows that it could modify."""
    if after == "and":
        return words.word(match.last + 2) in lists.DETERMINERS
    if after.endswith("ing") and len(after) > 4:
        return words.word(match.last + 2) in lists.AFTER_NOUNS
    return not after or after in lists.AFTER_NOUNS


def _determiner(words: Words, match: Match) -> str:
    """The determiner of the match's noun phrase; "" if there is none within five words."""
    index = _begin_of_phrase(words, match)
    return words.word(index) if words.word(index) in lists.DETERMINERS else ""


def _before_phrase(words: Words, match: Match) -> str:
    """The word before the match's noun phrase."""
    index = _begin_of_phrase(words, match) - 1
    return words.word(index) if index < 0 or not words.gap(index).strip() else ""


def _begin_of_phrase(words: Words, match: Match) -> int:
    """The match's determiner, or its first word if there is none within five words."""
    for index in range(match.first - 1, max(match.first - 6, -1), -1):
        if words.gap(index).strip(" ,-'") or words.word(index) in lists.BEFORE_PHRASES:
            break
        if words.word(index) in lists.DETERMINERS:
            return index
    return match.first


def _is_likeness(words: Words, match: Match) -> bool:
    """Whether the match is a statue, a drawing or a toy of the thing ("a statue of a *man*", "a rubber *duck*")."""
    index = match.first - 1
    while index >= 0 and words.word(index) in lists.QUALITIES:
        index -= 1
    if match.lemma in lists.LIVING and words.word(index) in lists.MADE_OF and not words.gap(match.first - 1).strip():
        return True
    while index >= 0 and words.word(index) in lists.BEFORE_NOUNS and match.first - index < 5:
        index -= 1
    if index < 1 or words.word(index) != "of" or words.word(index - 1) not in lists.LIKENESSES:
        return False
    opens = all(words.word(place) in lists.BEFORE_NOUNS for place in range(index - 1))
    return not (opens and words.word(index - 1) in lists.PICTURES)


def _is_animals_kin(words: Words, match: Match) -> bool:
    """Whether the match is an animal's kin: the baby in "a mother elephant and her *baby*"."""
    if match.lemma not in lists.KIN:
        return False
    others = words.words
    animals = [index for index, word in enumerate(others) if singular_of(word) in lists.WILD]
    return any(words.word(index - 1) not in ("teddy", "stuffed") for index in animals) and not any(
        word in lists.PERSON_NOUNS or word in lists.ALWAYS_NOUNS for word in others
    )


def _is_fruit(words: Words, match: Match) -> bool | None:
    """Whether a word that is also a colour means the fruit; None if undecided."""
    if not is_singular(words, match):
        return True
    before, after = _before(words, match), _after(words, match)
    if after in ("and", "or") and words.word(match.last + 2) in lists.COLOURS:
        return False
    if before in ("and", "or") and words.word(match.first - 2) in lists.COLOURS:
        return False
    if not after and before in lists.BEFORE_FRUIT:
        return None if words.word(match.last + 1) in lists.COLOURS else True
    return before in lists.BEFORE_FRUIT and _ends_noun(words, match, after)
