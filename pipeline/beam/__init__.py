"""Transforms for your own Beam pipelines: tag sentences, detect regions, build a bank, mix, write shards.

They need no folder of a `vlmixer` run, only elements: see docs/own-pipeline.md and examples/own_pipeline.py. They call
the functions that the command's stages call. What the command adds is resuming, reports and a record of its inputs.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmixer.pipeline.beam.bank import BuildPatchBank
    from vlmixer.pipeline.beam.detection import DetectRegions
    from vlmixer.pipeline.beam.mixing import MakeImageSamples, MixSentences
    from vlmixer.pipeline.beam.rows import (
        DetectedImage,
        DetectedRegion,
        GroundedWord,
        ImageFile,
        Rejected,
        TaggedSentence,
        Text,
        WrittenFile,
        plain_key,
    )
    from vlmixer.pipeline.beam.shards import WriteShards
    from vlmixer.pipeline.beam.tagging import TagSentences
else:
    from vlmixer.artifacts.lazy import importer

    __getattr__ = importer(
        __name__,
        {
            "bank": ["BuildPatchBank"],
            "detection": ["DetectRegions"],
            "mixing": ["MakeImageSamples", "MixSentences"],
            "rows": [
                "DetectedImage",
                "DetectedRegion",
                "GroundedWord",
                "ImageFile",
                "Rejected",
                "TaggedSentence",
                "Text",
                "WrittenFile",
                "plain_key",
            ],
            "shards": ["WriteShards"],
            "tagging": ["TagSentences"],
        },
    )

__all__ = [
    "BuildPatchBank",
    "DetectRegions",
    "DetectedImage",
    "DetectedRegion",
    "GroundedWord",
    "ImageFile",
    "MakeImageSamples",
    "MixSentences",
    "Rejected",
    "TagSentences",
    "TaggedSentence",
    "Text",
    "WriteShards",
    "WrittenFile",
    "plain_key",
]
