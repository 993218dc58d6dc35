"""One or several: does the number of regions fit the number that a caption names? Pure functions.

"Two dogs" and "a boy and a girl" name several of a concept, "a dog" names one. Neither this nor the count of regions
needs a pair. The rule is ours, not the paper's; docs/evidence.md has the measurements.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from vlmixer.artifacts.samples import Mention

NUMBER_SHARE = 0.5
"""Share of the image's regions in the likelihood of a number; the rest is how often captions name that number. Chosen
on photos that are in no reported score."""
GROUPS = frozenset({"couple", "crowd", "family", "flock", "group", "herd", "pair", "team"})
"""Words in the singular that name several."""


def named_concepts(mentions: Sequence[Mention]) -> dict[str, bool]:
    """The concepts of a caption, and whether it names several of each.

    It does by a plural, by a word of GROUPS, or by two words for one concept: "a boy and a girl" are two persons.
    """
    words: dict[str, set[str]] = {}
    several: dict[str, bool] = {}
    for mention in mentions:
        lemma = mention.lemma.lower()
        words.setdefault(mention.concept, set()).add(lemma)
        many = mention.surface.lower() != lemma or lemma in GROUPS or len(words[mention.concept]) > 1
        several[mention.concept] = several.get(mention.concept, False) or many
    return several


def number_similarity(captions: Sequence[Mapping[str, bool]], images: Sequence[Sequence[str]]) -> np.ndarray:
    """(captions, images) float64: log(likelihood of the caption's numbers given the image / likelihood among captions).

    `captions`: as from `named_concepts`. `images`: the concept of each region. A number is drawn with NUMBER_SHARE from
    the image, which shows one or several, else by how often the captions name several of the concept. A concept without
    a region says nothing about its number.
    """
    counts = [Counter(image) for image in images]
    found = np.zeros((len(captions), len(images)))
    rows: dict[tuple[str, bool], list[int]] = {}
    for row, caption in enumerate(captions):
        for concept, several in caption.items():
            rows.setdefault((concept, several), []).append(row)
    for (concept, several), members in rows.items():
        of_number, of_other = len(members), len(rows.get((concept, not several), ()))
        share = (of_number + 1) / (of_number + of_other + 2)  # a number that no caption names is rare, not impossible
        seen = np.array([count[concept] for count in counts], np.int64)
        fits = (seen > 1) == several
        gain = np.where(seen > 0, np.log1p(NUMBER_SHARE * (fits / share - 1)), 0.0)
        found[members] += gain
    return found
