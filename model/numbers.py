"""One or several: does the number of regions fit the number that a caption names? Pure functions.

Neither what captions name nor the count of regions needs a pair. The rule is ours, not the paper's; docs/evidence.md
has the measurements.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

NUMBER_SHARE = 0.5
"""Share of the image's regions in the likelihood of a number; the rest is how often captions name that number. Chosen
on photos that are in no reported score."""


def number_similarity(captions: Sequence[Mapping[str, bool]], images: Sequence[Sequence[str]]) -> np.ndarray:
    """(captions, images) float64: log(likelihood of the caption's numbers given the image / likelihood among captions).

    `captions`: the concepts of each, and whether it names several ("two dogs"). `images`: the concept of each region.

    A number is drawn with NUMBER_SHARE from the image, which shows one or several, else by how often the captions name
    several of the concept. A concept without a region says nothing about its number.
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
