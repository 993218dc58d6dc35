"""The settings of cross-modal CutMix. The paper leaves all of them open, so every default is ours (docs/paper.md)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Sampler = Literal["uniform", "score", "context"]
Phrases = Literal["whole", "head", "keep"]
Lacking = Literal["keep", "reject"]
MaxUses = Literal["auto"] | int | None


@dataclass(frozen=True)
class CutMixSettings:
    """Which mentions of a sentence are replaced, and by which patches. docs/paper.md has the measurements."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    replace_probability: float = 0.5
    """For each mention that can be replaced. 0.3 made no clear difference; replacing all mentions was worse."""
    min_replaced: int = 1
    """Minimum number of replaced mentions, if that many can be replaced. With 0, some views have no patch
    and teach the contrast nothing."""
    max_replaced: int | None = None
    """Maximum number of replaced mentions. None means no limit."""
    patches_per_word: int = 1
    """Different patches for a replaced mention. Four per word had no clear effect."""
    patches_per_plural: int | None = 3
    """Patches for a replaced mention in the plural ("two dogs"), if that is more than `patches_per_word`. None means
    `patches_per_word`. With 3 the network learns to tell several from one (docs/evidence.md)."""
    sampler: Sampler = "context"
    """uniform: all patches of the concept are equal. score: by the detector's score. context: prefers patches whose
    image shows more of the sentence's other concepts; +1 point over uniform, which is within noise."""
    one_image: bool = False
    """Whether all patches of a sentence come from one image, which shows as many as possible of the chosen mentions.
    The other mentions keep their words, even if fewer than `min_replaced` remain. +1 point, which is within noise."""
    phrases: Phrases = "whole"
    """How a mention of several words ("teddy bear") is replaced. whole: all of it. head: only its last word. keep: not
    at all. In a vocabulary of things, the whole phrase is the thing's name."""
    lacking: Lacking = "keep"
    """What happens if the bank lacks a concept. keep: its word stays. reject: the sentence is not used."""
    min_patches: int = 1
    """Minimum number of patches. A concept with fewer counts as lacking. With 2, a bank of a few photos loses most of
    its concepts; `max_uses` is the milder rule."""
    max_uses: MaxUses = None
    """How often a patch may be pasted (the expected number). auto: 100 times the number of patches that its concept
    has, so a concept's only patch 100 times, and each of two 200 times. None means no limit, with which a little more
    was learned. First the preferences of `sampler` yield, then mentions keep their words. Patches of `one_image` may
    exceed it. docs/paper.md has counts."""
    patches_only: float = 1.0
    """The share of mixed samples that also serve as a patches-only view: the trainer may drop the words that no patch
    replaced. The contrast depends on it: R@10 was 17.6 if words were always kept, 50.0 if half of the views dropped
    them, 54.5 if all did (docs/paper.md)."""


@dataclass(frozen=True)
class MixSettings(CutMixSettings):
    """Cross-modal CutMix, and what is written to the shards."""

    views: int = 1
    """Mixed samples per sentence."""
    image_samples: bool = True
    crops: bool = False
    """Whether samples include pictures of their patches."""
    samples_per_shard: int = 5000
