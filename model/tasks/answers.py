"""VQA's rules for answers: how a prediction is normalised and scored, and which answers are learned.

They follow the official scorer of VQA v2, in the revision that published results were made with (2016; one of 2021
also normalises the given answers). It has quirks, and they are kept: a score that is a little better for a mended rule
could not be compared.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

FULL_MARKS = 3
"""An answer is fully right if this many of the other people gave it."""

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_NUMBER_WITH_COMMA = re.compile(r"\d,\d")
_PERIOD = re.compile(r"\.(?!\d)")
_PERIODS = 32
"""Periods that are removed from one text at most: the scorer passes re.UNICODE, which is 32, as the count."""
_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_ARTICLES = {"a", "an", "the"}
_CONTRACTIONS = (
    "ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't "
    "he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't "
    "must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've "
    "somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's something'd "
    "something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're "
    "they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've "
    "who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll "
    "y'all'd've you'd you'd've you'll you're you've"
).split()


def _word_map() -> dict[str, str]:
    """What a word becomes. A contraction that lacks one of its apostrophes gets it back."""
    restored = {
        word[:at] + word[at + 1 :]: word for word in _CONTRACTIONS for at, letter in enumerate(word) if letter == "'"
    }
    return {**restored, "somebody'd": "somebodyd"}  # the scorer has this pair the wrong way round


_RESTORED = _word_map()


def normalise(prediction: str) -> str:
    """A predicted answer as it is compared with the given ones.

    Punctuation goes, words are in lower case, numbers up to ten are digits, articles go, contractions get their
    apostrophe.
    """
    return _words(_punctuation(prediction.replace("\n", " ").replace("\t", " ").strip()))


def accuracy(prediction: str, gold_answers: Sequence[str]) -> float:
    """The official accuracy, 0 … 1: how well the prediction agrees with all the people but one, in the mean over the
    one left out. It agrees fully with three or more.

    `gold_answers`: the answers of all people, ten in VQA v2, as the annotations have them. They lose punctuation only
    if they differ. Raises ValueError if there are none.
    """
    if not gold_answers:
        raise ValueError("no answers to compare with")
    given = list(gold_answers)
    if len(set(given)) > 1:
        given = [_punctuation(answer) for answer in given]
    wanted = normalise(prediction)
    right = [answer == wanted for answer in given]
    total = sum(right)
    return sum(min(1.0, (total - own) / FULL_MARKS) for own in right) / len(right)


def soft_scores(answers: Iterable[str]) -> dict[str, float]:
    """The training target of each of ten answers: 0.3, 0.6, 0.9 or 1, for one, two, three, or more people.

    The answers are taken as they are. For answers that normalising leaves as they are, this is the official accuracy.
    """
    return {answer: min(1.0, 0.3 * count) for answer, count in Counter(answers).items()}


def common_answers(annotations: Iterable[str], least: int = 9) -> list[str]:
    """The answers to learn: those that `annotations` has at least `least` times, the most frequent first.

    `annotations`: the `multiple_choice_answer` of each question of train and validation. They are normalised.
    """
    counts = Counter(map(normalise, annotations))
    return sorted((answer for answer, count in counts.items() if count >= least), key=lambda one: (-counts[one], one))


def _punctuation(text: str) -> str:
    """A mark that touches a space somewhere is deleted, and so is every mark of a text with a comma between digits;
    any other mark becomes a space. A period goes unless a digit follows."""
    deleted = _NUMBER_WITH_COMMA.search(text) is not None
    found = text
    for mark in _PUNCTUATION:
        if mark in found:
            found = found.replace(mark, "" if deleted or f"{mark} " in text or f" {mark}" in text else " ")
    # A look-behind that is mistyped in the scorer's pattern is always true, so it is left out here: the period of "5."
    # goes, too.
    return _PERIOD.sub("", found, count=_PERIODS)


def _words(text: str) -> str:
    numbered = (("0" if word == "none" else _NUMBERS.get(word, word)) for word in text.lower().split())
    return " ".join(_RESTORED.get(word, word) for word in numbered if word not in _ARTICLES)
