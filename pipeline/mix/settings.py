"""The settings of cross-modal CutMix. The paper leaves all of them open: every default is ours (docs/paper.md)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

Sampler = Literal["uniform", "score", "context"]
Phrases = Literal["whole", "head", "keep"]
Lacking = Literal["keep", "reject"]


@dataclass(frozen=True)
class CutMixSettings:
    """Which mentions of a sentence give way to patches, and to which. docs/paper.md has the measurements behind."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}
    replace_probability: float = 0.5
    """The chance of each mention that can be replaced. No clear difference from 0.3; replacing all was worse."""
    min_replaced: int = 1
    """At least so many mentions are replaced, where so many can be; 0 gives some plain views, which teach the
    contrast nothing."""
    max_replaced: int | None = None
    """At most so many mentions are replaced; None: no limit."""
    patches_per_word: int = 1
    """Patches for a replaced mention, none twice. Four a word showed no clear effect."""
    patches_per_plural: int | None = None
    """Patches for a replaced mention in the plural ("two dogs"); None: as `patches_per_word`."""
    sampler: Sampler = "context"
    """uniform: all patches of the concept alike. score: by the detector's score. context: patches whose image holds
    more of the sentence's other concepts are preferred; +1 point over uniform, which is within noise."""
    one_image: bool = False
    """Whether all patches of a sentence come from one image: one that shows as many as possible of the mentions that
    are to be replaced; the others keep their words, also where that leaves fewer than `min_replaced`. +1 point, which
    is within noise."""
    phrases: Phrases = "whole"
    """What becomes of a mention of several words ("teddy bear"). whole: all of it gives way. head: its last word does,
    the others stay. keep: it is never replaced. In a vocabulary of things the whole phrase is the thing's name."""
    lacking: Lacking = "keep"
    """What becomes of a concept that the bank lacks. keep: its word stays. reject: the sentence is not used."""
    patches_only: float = 1.0
    """The share of mixed samples that say they also serve a patches-only view, from which the trainer may drop the
    words that no patch replaced. This decides whether the contrast learns anything: R@10 17.6 with the words always
    kept, 50.0 with half of the views without, 54.5 with all (see docs/paper.md)."""


@dataclass(frozen=True)
class MixSettings(CutMixSettings):
    """Cross-modal CutMix, and what is written of it."""

    views: int = 1
    """Mixed samples made of each sentence."""
    image_samples: bool = True
    crops: bool = False
    """Whether samples hold their patches' pictures, too."""
    samples_per_shard: int = 5000
