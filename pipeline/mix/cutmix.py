"""Cross-modal CutMix (CMC): which mentions of a sentence are replaced, and by which patches.

The method is VLMixer's (arXiv 2206.08919): some of the concept words of a sentence give way to image patches with the
same concept label. How many, which, and how drawn the paper's sources leave open; see docs/paper.md for what is ours.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np

from artifacts.samples import Mention, Patch
from bank.store import ConceptPatches
from pipeline.mix.settings import CutMixSettings, Sampler
from pipeline.text.english_words import IRREGULAR_PLURALS

CONTEXT_WEIGHT = 10.0
"""`context` draws a patch with weight 1 + this × the number of the sentence's other concepts in its image (ours)."""

Reason = Literal["drawn", "filled", "not_drawn", "over_limit", "lacking", "phrase", "other_image"]


@dataclass(frozen=True)
class Verdict:
    """Why a mention was replaced or not. `draw` is what chance gave it, replaced if below `replace_probability`; None
    for a mention that could not be replaced anyhow.

    drawn: chance chose it. filled: it did not, but fewer than `min_replaced` were chosen. not_drawn: chance did not
    choose it. over_limit: it did, and more than `max_replaced` were chosen. lacking: the bank has no patch of the
    concept. phrase: of several words, and phrases are kept. other_image: chosen, but not in the one image.
    """

    reason: Reason
    draw: float | None = None

    @property
    def replaced(self) -> bool:
        """Whether patches take the mention's place."""
        return self.reason in ("drawn", "filled")


@dataclass(frozen=True)
class Pasted:
    """A patch drawn for a mention (`patch.mention`), and its row in the bank."""

    row: int
    patch: Patch


@dataclass(frozen=True)
class Mix:
    """What CMC made of a sentence: its mentions (narrowed where a phrase's head alone is replaced), a verdict for each,
    the patches in the order of their mentions, and whether they also serve as a view without the other words.
    """

    mentions: tuple[Mention, ...]
    verdicts: tuple[Verdict, ...]
    pasted: tuple[Pasted, ...]
    patches_only: bool


def mix(
    mentions: Sequence[Mention],
    patches_of: Callable[[str], ConceptPatches],
    settings: CutMixSettings,
    rng: np.random.Generator,
) -> Mix:
    """Choose the mentions of a sentence that are replaced, and draw their patches.

    patches_of: a concept's patches; an empty ConceptPatches where the bank has none.
    """
    banks = [patches_of(mention.concept) for mention in mentions]
    barred = [_barred(mention, bank, settings) for mention, bank in zip(mentions, banks, strict=True)]
    candidates = [index for index, reason in enumerate(barred) if reason is None]
    verdicts = {index: Verdict(reason) for index, reason in enumerate(barred) if reason is not None}
    verdicts |= choose_mentions(candidates, settings, rng)
    chosen = [index for index in candidates if verdicts[index].replaced]
    concepts = frozenset(mention.concept for mention in mentions)
    weights = {
        mentions[index].concept: patch_weights(banks[index], settings.sampler, concepts - {mentions[index].concept})
        for index in chosen
    }
    image = None
    if settings.one_image and chosen:
        image = choose_image({mentions[index].concept: banks[index] for index in chosen}, weights, rng)
    pasted: list[Pasted] = []
    for index in chosen:
        bank, weight = banks[index], weights[mentions[index].concept]
        places = None if image is None else bank.rows_by_image.get(image)
        if image is not None and places is None:
            verdicts[index] = Verdict("other_image", verdicts[index].draw)
            continue
        drawn = draw(weight if places is None else weight[places], patches_wanted(mentions[index], settings), rng)
        for place in drawn if places is None else places[drawn]:
            pasted.append(Pasted(bank.first + int(place), _patch(bank, int(place), index)))
    patches_only = bool(pasted) and rng.random() < settings.patches_only
    narrowed = tuple(
        _head(mention) if settings.phrases == "head" and verdicts[index].replaced else mention
        for index, mention in enumerate(mentions)
    )
    return Mix(narrowed, tuple(verdicts[index] for index in range(len(mentions))), tuple(pasted), patches_only)


def _barred(mention: Mention, bank: ConceptPatches, settings: CutMixSettings) -> Reason | None:
    """Why a mention can never be replaced, if so."""
    if not len(bank):
        return "lacking"
    return "phrase" if settings.phrases == "keep" and len(mention.surface.split()) > 1 else None


def choose_mentions(
    candidates: Sequence[int], settings: CutMixSettings, rng: np.random.Generator
) -> dict[int, Verdict]:
    """A verdict for each of the mentions that can be replaced, given by their indices.

    Each is replaced with `replace_probability`. Where chance chose fewer than `min_replaced` or more than
    `max_replaced`, those that make up the difference are drawn evenly.
    """
    draws = dict(zip(candidates, rng.random(len(candidates)).tolist(), strict=True))
    verdicts = {
        index: Verdict("drawn" if draw < settings.replace_probability else "not_drawn", draw)
        for index, draw in draws.items()
    }
    chosen = [index for index in candidates if verdicts[index].replaced]
    others = [index for index in candidates if not verdicts[index].replaced]
    missing = min(settings.min_replaced - len(chosen), len(others))
    if missing > 0:
        for place in rng.permutation(len(others))[:missing]:
            verdicts[others[place]] = Verdict("filled", draws[others[place]])
    most = len(candidates) if settings.max_replaced is None else settings.max_replaced
    if len(chosen) > most:
        for place in rng.permutation(len(chosen))[most:]:
            verdicts[chosen[place]] = Verdict("over_limit", draws[chosen[place]])
    return verdicts


def patch_weights(patches: ConceptPatches, sampler: Sampler, other_concepts: frozenset[str]) -> np.ndarray:
    """(n,) float64 above 0: how likely each patch of a concept is drawn, next to the others.

    uniform: all alike. score: by the detector's score. context: 1 + CONTEXT_WEIGHT × how many of `other_concepts`,
    those that the sentence mentions besides this one, the patch's image holds.
    """
    if sampler == "score":
        return patches.scores.astype(np.float64) + 1e-6
    seen = patches.rows_by_context if sampler == "context" else {}
    matching = [name for name in sorted(other_concepts) if name in seen]
    if not matching:
        return _alike(len(patches))
    weights = _alike(len(patches)).copy()
    for name in matching:
        weights[seen[name]] += CONTEXT_WEIGHT
    return weights


@lru_cache(maxsize=1024)
def _alike(count: int) -> np.ndarray:
    weights = np.ones(count, np.float64)
    weights.flags.writeable = False
    return weights


def draw(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` places drawn by weight without putting back, in the order drawn; all of them if there are no more."""
    if count == 1:
        sums = np.cumsum(weights)
        return np.searchsorted(sums, rng.random(1) * sums[-1], side="right")
    # The k smallest of exponential waiting times are k draws by weight without putting back (Efraimidis and Spirakis).
    return np.argsort(rng.exponential(size=len(weights)) / weights, kind="stable")[:count]


def choose_image(banks: dict[str, ConceptPatches], weights: dict[str, np.ndarray], rng: np.random.Generator) -> str:
    """An image with patches of as many of these concepts as possible.

    Of several, one is drawn by the sum over its concepts of its best patch's weight.
    """
    shown: Counter[str] = Counter()
    for patches in banks.values():
        shown.update(patches.rows_by_image.keys())
    most = max(shown.values())
    images = sorted(image for image, count in shown.items() if count == most)
    worth = [
        sum(weights[name][rows].max() for name in banks if (rows := banks[name].rows_by_image.get(image)) is not None)
        for image in images
    ]
    return images[int(draw(np.array(worth), 1, rng)[0])]


def patches_wanted(mention: Mention, settings: CutMixSettings) -> int:
    """How many patches a replaced mention gets, where the bank has so many."""
    if settings.patches_per_plural is not None and is_plural(mention):
        return settings.patches_per_plural
    return settings.patches_per_word


def is_plural(mention: Mention) -> bool:
    """Whether an English mention stands in the plural, told by its form alone: "dogs", "loaves of bread", "people".

    Words without another singular ("scissors"), or whose plural is the same ("sheep"), count as singular.
    """
    lemma = mention.lemma.casefold().replace("-", " ").split()
    changed = [word for word in mention.surface.casefold().replace("-", " ").split() if word not in lemma]
    return any(
        word in IRREGULAR_PLURALS or (len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")))
        for word in changed
    )


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
        score=columns["score"][place].as_py(),
        box=tuple(columns["box"][place].as_py()),
        width=columns["width"][place].as_py(),
        height=columns["height"][place].as_py(),
    )
