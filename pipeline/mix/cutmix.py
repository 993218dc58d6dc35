"""Cross-modal CutMix (CMC): which mentions of a sentence are replaced, and by which patches.

The method is VLMixer's (arXiv 2206.08919): some of the concept words of a sentence give way to image patches with the
same concept label. How many, which, and how drawn the paper's sources leave open; see docs/paper.md for what is ours.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artifacts.samples import Mention
from bank.store import ConceptPatches, PatchRecord

Sampler = Literal["uniform", "score", "context"]

CONTEXT_WEIGHT = 10.0
"""`context` draws a patch with weight 1 + this × the number of the sentence's other concepts in its image (ours)."""


@dataclass(frozen=True)
class Pasted:
    """A patch drawn for a mention (an index into the sentence's mentions)."""

    mention: int
    patch: PatchRecord


def choose_mentions(
    groundable: Sequence[int], replace_probability: float, min_replaced: int, rng: np.random.Generator
) -> list[int]:
    """The mentions to replace, ascending: each with `replace_probability`, at least `min_replaced` of them.

    `groundable` are the indices of the mentions whose concept has patches. Where chance chose too few, the rest is
    drawn evenly from the others.
    """
    chosen = [index for index, draw in zip(groundable, rng.random(len(groundable)), strict=True)
              if draw < replace_probability]  # fmt: skip
    missing = min(min_replaced, len(groundable)) - len(chosen)
    if missing > 0:
        others = [index for index in groundable if index not in chosen]
        chosen += [others[place] for place in rng.choice(len(others), size=missing, replace=False)]
    return sorted(chosen)


def draw_patches(
    patches: ConceptPatches, count: int, sampler: Sampler, other_concepts: frozenset[str], rng: np.random.Generator
) -> list[PatchRecord]:
    """`count` patches of a concept, fewer if it has fewer; none twice.

    uniform: all alike. score: by the detector's score. context: prefers patches whose image also holds concepts that
    the sentence mentions besides this one.
    """
    weights = np.ones(len(patches), np.float64)
    if sampler == "score":
        weights = patches.scores.astype(np.float64) + 1e-6
    elif sampler == "context":
        for name in sorted(other_concepts):
            if name in patches.rows_by_context:
                weights[patches.rows_by_context[name]] += CONTEXT_WEIGHT
    size = min(count, len(patches))
    rows = rng.choice(len(patches), size=size, replace=False, p=weights / weights.sum())
    return [patches[int(row)] for row in rows]


def mix(
    mentions: Sequence[Mention],
    patches_of: Callable[[str], ConceptPatches],
    *,
    replace_probability: float,
    patches_per_word: int,
    sampler: Sampler,
    min_replaced: int,
    rng: np.random.Generator,
) -> list[Pasted]:
    """The patches to paste into a sentence, in the order of their mentions; [] if no mention can be replaced.

    patches_of: a concept's patches; an empty ConceptPatches where the bank has none.
    """
    groundable = [index for index, mention in enumerate(mentions) if len(patches_of(mention.concept))]
    pasted: list[Pasted] = []
    for index in choose_mentions(groundable, replace_probability, min_replaced, rng):
        concept = mentions[index].concept
        others = frozenset(mention.concept for mention in mentions) - {concept}
        drawn = draw_patches(patches_of(concept), patches_per_word, sampler, others, rng)
        pasted += [Pasted(index, patch) for patch in drawn]
    return pasted
