"""How often patches may be pasted: `max_uses`.

A limit cannot depend on the order of work. So it is made of two numbers per concept, which follow from counts that are
known before mixing: the text's mentions, and the bank's patches. The first thins the mentions, the second evens the
draw. Together they keep the expected uses of every patch below the limit, whatever the sentences are.
"""

from collections.abc import Mapping
from typing import NamedTuple

from vlmixer.pipeline.mix.settings import CutMixSettings

AUTO_USES = 100
"""`max_uses: auto` allows a patch this many uses per patch that its concept has (ours)."""


class Limit(NamedTuple):
    """share: of a concept's mentions, those that may be replaced. most: the highest probability that a draw takes a
    certain patch."""

    share: float
    most: float


NO_LIMIT = Limit(1.0, 1.0)


def patch_limits(
    mentions: Mapping[str, int], patches: Mapping[str, int], settings: CutMixSettings, views: int = 1
) -> dict[str, Limit]:
    """What `max_uses` means for each concept that it limits.

    mentions: of each concept, in all sentences. patches: of each concept, in the bank. views: of each sentence.
    """
    limits: dict[str, Limit] = {}
    if settings.max_uses is None:
        return limits
    for concept, count in mentions.items():
        own = patches.get(concept, 0)
        pasted = count * views * min(max(settings.patches_per_word, settings.patches_per_plural or 0), own)
        allowed = AUTO_USES * own if settings.max_uses == "auto" else settings.max_uses
        if pasted > allowed:
            limits[concept] = Limit(min(allowed * own / pasted, 1.0), max(allowed / pasted, 1 / own))
    return limits
