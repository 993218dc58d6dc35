"""The trainer: network, objectives, data, training and evaluation. Needs no Beam and no spaCy.

The public names are imported when they are first used, so that `import vlmixer.model` does not load torch.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlmixer.model.checkpoint import load_run
    from vlmixer.model.config import ModelConfig, Settings, TrainConfig, load_settings
    from vlmixer.model.data import Loader
    from vlmixer.model.embedding import ImageRegions, embed_images, embed_tags, embed_texts
    from vlmixer.model.evaluate import retrieval
    from vlmixer.model.likelihood import EmbeddedImages, EmbeddedTexts, Reference, similarities, similarity
    from vlmixer.model.network import Network
    from vlmixer.model.reference import load_reference
    from vlmixer.model.scoring import RetrievalReport, RetrievalScore
    from vlmixer.model.shards import ShardSet, open_shards
    from vlmixer.model.tokenizer import Tokenizer
    from vlmixer.model.training import train
else:
    from vlmixer.artifacts.lazy import importer

    __getattr__ = importer(
        __name__,
        {
            "checkpoint": ["load_run"],
            "config": ["ModelConfig", "Settings", "TrainConfig", "load_settings"],
            "data": ["Loader"],
            "embedding": ["ImageRegions", "embed_images", "embed_tags", "embed_texts"],
            "evaluate": ["retrieval"],
            "network": ["Network"],
            "reference": ["load_reference"],
            "scoring": ["RetrievalReport", "RetrievalScore"],
            "shards": ["ShardSet", "open_shards"],
            "likelihood": ["EmbeddedImages", "EmbeddedTexts", "Reference", "similarities", "similarity"],
            "tokenizer": ["Tokenizer"],
            "training": ["train"],
        },
    )

__all__ = [
    "EmbeddedImages",
    "EmbeddedTexts",
    "ImageRegions",
    "Loader",
    "ModelConfig",
    "Network",
    "Reference",
    "RetrievalReport",
    "RetrievalScore",
    "Settings",
    "ShardSet",
    "Tokenizer",
    "TrainConfig",
    "embed_images",
    "embed_tags",
    "embed_texts",
    "load_reference",
    "load_run",
    "load_settings",
    "open_shards",
    "retrieval",
    "similarities",
    "similarity",
    "train",
]
