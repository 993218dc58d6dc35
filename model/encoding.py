"""From samples to the views that the network reads, tokenised once, when their shard is read."""

import hashlib
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vlmixer.artifacts.samples import ImageSample, MixedSample
from vlmixer.model.config import ModelConfig
from vlmixer.model.mixed_views import mixed_views
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.views import View, no_regions, regions_of, set_view, tag_view, text_views, words_view


@dataclass(frozen=True, slots=True)
class EncodedSentence:
    """The views of a mixed sample: its `text`, the text `mixed` with patches, and the patches `alone`, as a set.

    Where the sample must not be used with patches only, `alone` is `mixed`. `replaced`: (k, 2) int64, a patch of the
    mixed view and a word piece that it replaced. `concepts`: those of the patches. `number` is equal for equal texts.
    """

    text: View
    mixed: View
    alone: View
    replaced: np.ndarray
    concepts: tuple[str, ...]
    number: int

    def __len__(self) -> int:
        return len(self.text)


def encode_sentences(
    samples: Sequence[MixedSample], tokenizer: Tokenizer, config: ModelConfig, feature_dim: int, cutmix: bool = True
) -> list[EncodedSentence]:
    """Mixed samples as views. Without `cutmix` there are no patches, and `alone` has the words they would replace."""
    nothing = no_regions(feature_dim)
    pieces = tokenizer.encode([sample.text for sample in samples])
    texts = text_views(pieces, tokenizer, config.max_text_tokens, nothing)
    mixed_of = mixed_views(samples, pieces, texts, config.max_regions, config.patch_positions)
    encoded = []
    for sample, own, text, (mixed, replaced) in zip(samples, pieces, texts, mixed_of, strict=True):
        alone = set_view(mixed.regions, tokenizer) if sample.patches_only else mixed
        if not cutmix:
            mixed, replaced = text, replaced[:0]
            alone = words_view(sample, own, tokenizer, config.max_text_tokens)
        concepts = tuple(sys.intern(patch.concept) for patch in sample.patches)
        number = int.from_bytes(hashlib.blake2b(text.ids.tobytes(), digest_size=7).digest(), "little")
        encoded.append(EncodedSentence(text, mixed, alone, replaced, concepts, number))
    return encoded


def encode_images(samples: Sequence[ImageSample], tokenizer: Tokenizer, config: ModelConfig) -> list[View]:
    """Image samples as views of their tags and regions."""
    names = sorted({tag for sample in samples for tag in sample.tags})
    pieces = dict(zip(names, tokenizer.encode(names), strict=True))
    return [
        tag_view(
            [pieces[tag] for tag in sample.tags],
            tokenizer,
            config.max_text_tokens,
            regions_of(sample.patches, sample.features, config.max_regions),
        )
        for sample in samples
    ]


def rarity(sentences: Sequence[EncodedSentence], power: float) -> np.ndarray:
    """(n,) float64, the sampling weight of each sentence: (1 / n of its rarest concept) ** power.

    n is the number of sentences with a patch of the concept. A sentence without a patch counts as one with the most
    frequent concept. LVIS's repeat factors (Gupta et al., CVPR 2019) are the same with power 0.5.
    """
    counts = Counter(concept for sentence in sentences for concept in set(sentence.concepts))
    common = max(counts.values(), default=1)
    rarest = [min((counts[concept] for concept in sentence.concepts), default=common) for sentence in sentences]
    return np.array(rarest, np.float64) ** -power
