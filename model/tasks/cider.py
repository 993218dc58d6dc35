"""CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): how well a caption agrees with those that people wrote.

The numbers are those of the usual scorer (coco-caption), whose "CIDEr" is CIDEr-D. It is here, and not taken from
pycocoevalcap, because training for it needs it at each step, with frequencies of all training captions.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

LENGTHS = range(1, 5)
"""Numbers of words that are compared together."""
SIGMA = 6.0
"""How much longer or shorter a caption may be, in words."""
_WORD = re.compile(r"\w+(?:-\w+)*|'\w+")

Run = tuple[str, ...]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in lower case, without punctuation; "man's" is two, as for the usual scorer."""
    return tuple(_WORD.findall(text.lower()))


@dataclass(frozen=True)
class Frequencies:
    """In how many of `images` the captions have a run of one to four words."""

    images: int
    counts: Counter[Run]

    @classmethod
    def of(cls, images: int, counts: Mapping[Run, int]) -> "Frequencies":
        """Those that `counts` has; runs that only one image has may be left out."""
        return cls(images, Counter(counts))


def frequencies(references: Iterable[Sequence[str]]) -> Frequencies:
    """Those of images, each given by its captions."""
    counts: Counter[Run] = Counter()
    images = 0
    for captions in references:
        images += 1
        counts.update({run for caption in captions for run in _runs(words_of(caption))})
    return Frequencies(images, counts)


@dataclass(frozen=True)
class _Vector:
    """Weights of the runs of a caption and their length, for runs of one to four words; and the number of pairs, which
    the usual scorer takes for the length of the caption."""

    weights: tuple[dict[Run, float], ...]
    norms: tuple[float, ...]
    pairs: int


class CiderD:
    """Scores captions of images whose `references`, the captions that people wrote, are known."""

    def __init__(self, references: Sequence[Sequence[str]], known: Frequencies | None = None) -> None:
        """`references`: the captions of each image, at least one. `known`: None for their own frequencies."""
        self._references = references
        self._known = frequencies(references) if known is None else known
        self._vectors_of = lru_cache(maxsize=1000)(self._reference_vectors)

    def score(self, image: int, caption: str) -> float:
        """The score, from 0 to 10, of `caption` for image number `image`."""
        own = self._vector(caption)
        others = self._vectors_of(image)
        return 10 * sum(_agreement(own, other) for other in others) / len(others)

    def _reference_vectors(self, image: int) -> tuple[_Vector, ...]:
        return tuple(map(self._vector, self._references[image]))

    def _vector(self, caption: str) -> _Vector:
        counts = Counter(_runs(words_of(caption)))
        known, logarithm = self._known.counts, math.log(self._known.images)
        weights: tuple[dict[Run, float], ...] = tuple({} for _ in LENGTHS)
        for run, count in counts.items():
            # A run that no reference has weighs as much as one that a single image has.
            weights[len(run) - 1][run] = count * (logarithm - math.log(max(1, known[run])))
        norms = tuple(math.sqrt(sum(weight**2 for weight in of_length.values())) for of_length in weights)
        return _Vector(weights, norms, sum(count for run, count in counts.items() if len(run) == 2))


def _runs(words: Sequence[str]) -> Iterable[Run]:
    return (tuple(words[at : at + length]) for length in LENGTHS for at in range(len(words) - length + 1))


def _agreement(one: _Vector, other: _Vector) -> float:
    """The mean cosine of the two over the lengths of runs, clipped so that repetition does not pay."""
    total = 0.0
    for own, given, own_norm, given_norm in zip(one.weights, other.weights, one.norms, other.norms, strict=True):
        if own_norm and given_norm:
            shared = sum(min(weight, given[run]) * given[run] for run, weight in own.items() if run in given)
            total += shared / (own_norm * given_norm)
    return total / len(LENGTHS) * math.exp(-((one.pairs - other.pairs) ** 2) / (2 * SIGMA**2))
