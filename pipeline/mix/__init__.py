"""Cross-modal CutMix: which words, which patches, the finished sample. Pure functions.

The public names are imported when they are first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmixer.pipeline.mix.cutmix import Mix, mix
    from vlmixer.pipeline.mix.samples import Sentence, image_samples, mix_sentence, mix_sentences
    from vlmixer.pipeline.mix.settings import CutMixSettings
else:
    from vlmixer.artifacts.lazy import importer

    __getattr__ = importer(
        __name__,
        {
            "cutmix": ["Mix", "mix"],
            "samples": ["Sentence", "image_samples", "mix_sentence", "mix_sentences"],
            "settings": ["CutMixSettings"],
        },
    )

__all__ = ["CutMixSettings", "Mix", "Sentence", "image_samples", "mix", "mix_sentence", "mix_sentences"]
