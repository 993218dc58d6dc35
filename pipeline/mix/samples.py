"""From pasted patches, or an image's regions, to finished samples."""

from collections.abc import Sequence

import numpy as np

from artifacts.samples import ImageSample, Mention, MixedSample, Patch
from pipeline.mix.cutmix import Pasted


def sample_key(sentence_id: str, view: int) -> str:
    """The key of a mixed sample: unique over the set, without dots."""
    return f"{sentence_id}-{view:02d}"


def mixed_sample(
    sentence_id: str,
    view: int,
    text: str,
    mentions: Sequence[Mention],
    pasted: Sequence[Pasted],
    features: np.ndarray,
) -> MixedSample:
    """A finished mixed sample. features: (len(pasted), D) float16."""
    patches = tuple(
        Patch(
            mention=paste.mention,
            patch_id=paste.patch.patch_id,
            image_id=paste.patch.image_id,
            concept=paste.patch.concept,
            score=paste.patch.score,
            box=paste.patch.box,
            width=paste.patch.width,
            height=paste.patch.height,
        )
        for paste in pasted
    )
    replaced = tuple(sorted({paste.mention for paste in pasted}))
    key = sample_key(sentence_id, view)
    return MixedSample(key, sentence_id, view, text, tuple(mentions), replaced, patches, features)


def image_sample(patches: Sequence[Patch], source: str, features: np.ndarray) -> ImageSample:
    """A finished image sample of all of an image's regions, best first. features: (len(patches), D) float16."""
    first = patches[0]
    tags = tuple(dict.fromkeys(patch.concept for patch in patches))
    return ImageSample(
        first.image_id, first.image_id, source, first.width, first.height, tags, tuple(patches), features
    )
