"""Cross-modal CutMix (CMC): which mentions of a sentence are replaced, and by which patches.

The method is VLMixer's (arXiv 2206.08919): image patches replace some of a sentence's concept words that have the same
concept label. The paper leaves open how many words, which ones, and how patches are drawn; docs/paper.md says what is
ours.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np

from vlmixer.artifacts.samples import Mention, Patch
from vlmixer.bank.records import ConceptPatches
from vlmixer.pipeline.mix.limits import NO_LIMIT, Limit
from vlmixer.pipeline.mix.settings import CutMixSettings, Sampler
from vlmixer.pipeline.text.numbers import is_plural

CONTEXT_WEIGHT = 10.0
"""`context` draws a patch with weight 1 + this × the number of the sentence's other concepts in its image (ours)."""

WEIGHTS_HELD = 1024
"""How many sums of weights are kept, each for the patches of one concept next to other concepts of a sentence."""

Reason = Literal["drawn", "filled", "not_drawn", "over_limit", "lacking", "rare", "over_used", "phrase", "other_image"]


class Verdict(NamedTuple):
    """Why a mention was replaced or not.

    draw: the mention's random number. It is replaced if this is below `replace_probability`. None if the mention could
    not be replaced.

    reason: drawn, its number was below. filled, its number was not below, but fewer than `min_replaced` mentions were
    drawn. not_drawn, its number was not below. over_limit, its number was below, but more than `max_replaced` mentions
    were drawn. lacking, the bank has no patch of the concept. rare, it has fewer than `min_patches`. over_used, it is
    not among the mentions that `max_uses` allows. phrase, it has several words and phrases are kept.
    other_image, it was drawn, but the sentence's one image does not show it.
    """

    reason: Reason
    draw: float | None = None

    @property
    def replaced(self) -> bool:
        """Whether patches replace the mention."""
        return self.reason in ("drawn", "filled")


class Pasted(NamedTuple):
    """A patch drawn for a mention (`patch.mention`), and its row in the bank."""

    row: int
    patch: Patch


class Mix(NamedTuple):
    """What CMC made of a sentence: its mentions, a verdict for each, and the patches in the order of their mentions.

    A mention is narrowed to the phrase's head if only the head is replaced. patches_only: whether the patches also
    serve as a view without the other words.
    """

    mentions: tuple[Mention, ...]
    verdicts: tuple[Verdict, ...]
    pasted: tuple[Pasted, ...]
    patches_only: bool


def mix(
    mentions: Sequence[Mention],
    patches_of: Callable[[str], ConceptPatches],
    settings: CutMixSettings,
    numbers: Iterator[float],
    limits: Mapping[str, Limit] = MappingProxyType({}),
) -> Mix:
    """Choose the mentions of a sentence that are replaced, and draw their patches.

    patches_of: gives a concept's patches, an empty ConceptPatches if the bank has none. numbers: random, from [0, 1).
    limits: of concepts that `max_uses` limits (`patch_limits`).
    """
    banks = [patches_of(mention.concept) for mention in mentions]
    barred = [_barred(mention, bank, settings) for mention, bank in zip(mentions, banks, strict=True)]
    for index, mention in enumerate(mentions):
        share = limits.get(mention.concept, NO_LIMIT).share
        if barred[index] is None and share < 1 and next(numbers) >= share:
            barred[index] = "over_used"
    chances = choose_mentions([index for index, reason in enumerate(barred) if reason is None], settings, numbers)
    verdicts = [chances[index] if reason is None else Verdict(reason) for index, reason in enumerate(barred)]
    chosen = [index for index, verdict in enumerate(verdicts) if verdict.replaced]
    concepts = frozenset(mention.concept for mention in mentions)
    image = None
    if settings.one_image and chosen:
        image = choose_image({mentions[index].concept: banks[index] for index in chosen}, concepts, settings, numbers)
    pasted: list[Pasted] = []
    for index in chosen:
        bank, mention = banks[index], mentions[index]
        places = None if image is None else bank.rows_by_image.get(image)
        if image is not None and places is None:
            verdicts[index] = Verdict("other_image", verdicts[index].draw)
            continue
        weights, sums = weighed(bank, settings.sampler, concepts, limits.get(mention.concept, NO_LIMIT).most)
        wanted = patches_wanted(mention, settings)
        if places is None:
            drawn = draw(weights, wanted, numbers, sums)
        else:
            drawn = places[draw(weights[places], wanted, numbers)].tolist()
        pasted += [Pasted(bank.first + place, _patch(bank, place, index)) for place in drawn]
    patches_only = bool(pasted) and next(numbers) < settings.patches_only
    if settings.phrases == "head":
        mentions = [
            _head(mention) if verdict.replaced else mention for mention, verdict in zip(mentions, verdicts, strict=True)
        ]
    return Mix(tuple(mentions), tuple(verdicts), tuple(pasted), patches_only)


def _barred(mention: Mention, bank: ConceptPatches, settings: CutMixSettings) -> Reason | None:
    """Why a mention can never be replaced. None if it can."""
    if not len(bank):
        return "lacking"
    if len(bank) < settings.min_patches:
        return "rare"
    return "phrase" if settings.phrases == "keep" and len(mention.surface.split()) > 1 else None


def choose_mentions(
    candidates: Sequence[int], settings: CutMixSettings, numbers: Iterator[float]
) -> dict[int, Verdict]:
    """A verdict for each of the mentions that can be replaced, by its index.

    Each is replaced with `replace_probability`. If that gives fewer than `min_replaced` or more than `max_replaced`,
    the missing or excess mentions are drawn uniformly.
    """
    chances = {index: next(numbers) for index in candidates}
    chosen = [index for index, chance in chances.items() if chance < settings.replace_probability]
    others = [index for index, chance in chances.items() if chance >= settings.replace_probability]
    verdicts = {
        index: Verdict("drawn" if chance < settings.replace_probability else "not_drawn", chance)
        for index, chance in chances.items()
    }
    over = 0 if settings.max_replaced is None else len(chosen) - settings.max_replaced
    for _ in range(min(settings.min_replaced - len(chosen), len(others))):
        index = others.pop(int(next(numbers) * len(others)))
        verdicts[index] = Verdict("filled", chances[index])
    for _ in range(over):
        index = chosen.pop(int(next(numbers) * len(chosen)))
        verdicts[index] = Verdict("over_limit", chances[index])
    return verdicts


def patch_weights(patches: ConceptPatches, sampler: Sampler, concepts: frozenset[str]) -> np.ndarray:
    """(n,) float64 above 0: the weight of each patch of a concept in the draw.

    uniform: all equal. score: the detector's score, or 0 if it is negative. context: 1 + CONTEXT_WEIGHT × the number of
    other concepts of the sentence (`concepts`) that the patch's image shows.
    """
    if sampler == "score":
        return np.maximum(patches.scores.astype(np.float64), 0) + 1e-6
    weights = np.ones(len(patches), np.float64)
    if sampler == "context":
        for name in _others(patches, concepts):
            weights[patches.rows_by_context[name]] += CONTEXT_WEIGHT
    return weights


def capped(weights: np.ndarray, most: float) -> np.ndarray:
    """(n,) float64: the weights, the highest lowered so that none is more than `most` of their sum.

    A `most` below 1/n counts as 1/n: all are equal.
    """
    if len(weights) * most <= 1:
        return np.ones(len(weights))
    ordered = np.sort(weights)[::-1]
    rest = np.cumsum(ordered[::-1])[::-1]  # of the weight at each place and all lower ones
    left = 1 - most * np.arange(len(weights))
    place = int(np.argmax(ordered * left <= most * rest))  # the highest that stays as it is
    return weights if place == 0 else np.minimum(weights, most * rest[place] / left[place])


def weighed(
    patches: ConceptPatches, sampler: Sampler, concepts: frozenset[str], most: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a concept's patches, and their cumulative sums. most: as in `capped`."""
    return _weighed(patches, sampler, _others(patches, concepts) if sampler == "context" else frozenset(), most)


def _others(patches: ConceptPatches, concepts: frozenset[str]) -> frozenset[str]:
    """The concepts, except the patches' own, that any of their images shows."""
    seen = patches.rows_by_context
    return frozenset([name for name in concepts if name in seen and name != patches.concept])


@lru_cache(maxsize=WEIGHTS_HELD)
def _weighed(
    patches: ConceptPatches, sampler: Sampler, matching: frozenset[str], most: float
) -> tuple[np.ndarray, np.ndarray]:
    weights = capped(patch_weights(patches, sampler, matching), most)
    sums = np.cumsum(weights)
    weights.flags.writeable = sums.flags.writeable = False
    return weights, sums


def draw(weights: np.ndarray, count: int, numbers: Iterator[float], sums: np.ndarray | None = None) -> list[int]:
    """Up to `count` places, drawn by weight without replacement, in the order drawn.

    sums: np.cumsum(weights), if it is already known.
    """
    found: list[int] = []
    while len(found) < min(count, len(weights)):
        if found:
            weights = weights.copy()
            weights[found] = 0
        if found or sums is None:
            sums = np.cumsum(weights)
        found.append(int(sums.searchsorted(next(numbers) * sums[-1], "right")))
    return found


def choose_image(
    banks: dict[str, ConceptPatches], concepts: frozenset[str], settings: CutMixSettings, numbers: Iterator[float]
) -> str:
    """An image with patches of as many of these concepts as possible.

    Of several, one is drawn by the sum over its concepts of its best patch's weight. concepts: all of the sentence's.
    """
    shown: Counter[str] = Counter()
    for patches in banks.values():
        shown.update(patches.rows_by_image.keys())
    most = max(shown.values())
    images = sorted(image for image, count in shown.items() if count == most)
    weights = {name: weighed(patches, settings.sampler, concepts)[0] for name, patches in banks.items()}
    worth = [
        sum(weights[name][rows].max() for name in banks if (rows := banks[name].rows_by_image.get(image)) is not None)
        for image in images
    ]
    return images[draw(np.array(worth), 1, numbers)[0]]


def patches_wanted(mention: Mention, settings: CutMixSettings) -> int:
    """How many patches a replaced mention gets, if the bank has that many."""
    if settings.patches_per_plural is not None and is_plural(mention):
        return max(settings.patches_per_word, settings.patches_per_plural)
    return settings.patches_per_word


def _head(mention: Mention) -> Mention:
    """The mention narrowed to its last word."""
    surface = mention.surface.split()[-1]
    return replace(mention, start=mention.end - len(surface), surface=surface)


def _patch(patches: ConceptPatches, place: int, mention: int) -> Patch:
    columns = patches.columns
    return Patch(
        mention=mention,
        patch_id=columns["patch_id"][place].as_py(),
        image_id=columns["image_id"][place].as_py(),
        concept=patches.concept,
        score=patches.scores[place].item(),
        box=tuple(patches.boxes[place].tolist()),
        width=columns["width"][place].as_py(),
        height=columns["height"][place].as_py(),
    )
