"""The settings of the network and of its training; the sections `model` and `train` of the config file.

Plain data without torch, so that the command can read and check a config without loading the trainer.
The paper leaves nearly all of these values open: every default here is ours (see docs/paper.md). Those
marked "sketch" are what a sketch on real photos did best with.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from vlmixer.artifacts import settings
from vlmixer.artifacts.errors import CallError


@dataclass(frozen=True)
class ModelConfig:
    """The network. BERT-base is layers 12, hidden_size 768, heads 12, feed_forward_size 3072."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layers: int = 2  # Transformer layers (sketch)
    hidden_size: int = 128  # width of every token's state (sketch)
    heads: int = 4  # attention heads; must divide hidden_size (sketch)
    feed_forward_size: int = 512  # width inside a layer; four times hidden_size is BERT's rule
    dropout: float = 0.1  # BERT's
    max_text_tokens: int = 64  # word pieces of a text with [CLS] and [SEP]; longer texts are cut
    max_regions: int = 50  # patches or regions of one sequence; the rest is left out
    feature_dim: int | None = None  # width of a region's feature; null takes what the shards hold
    projection_size: int = 128  # dimensions of the space in which sentences and images are compared
    pooling: Literal["mean", "cls"] = "mean"  # what is projected: all states' mean (sketch) or [CLS]'s
    patch_positions: bool = True  # whether a pasted patch carries the position of the word it replaces
    patch_segments: bool = False  # whether regions carry the segment of the text beside them; not so in Oscar, VinVL
    vocabulary_size: int = 8000  # word pieces to learn from the shards' texts, at most
    tokenizer: str | None = None  # a vocab.txt or tokenizer.json of yours; null learns one from the shards
    init: str | None = None  # BERT weights in the Hugging Face layout (.safetensors) to start from

    def __post_init__(self) -> None:
        _positive("model", self, "layers", "hidden_size", "heads", "feed_forward_size", "max_regions")
        _positive("model", self, "projection_size", "vocabulary_size")
        _fraction("model", self, "dropout")
        if self.hidden_size % self.heads:
            raise CallError(
                f"model.heads: {self.heads} does not divide model.hidden_size {self.hidden_size}. "
                "Choose a number of heads that does."
            )
        if self.max_text_tokens < 3:
            raise CallError(
                f"model.max_text_tokens: {self.max_text_tokens} leaves no room for a word between "
                "[CLS] and [SEP]. Give at least 3."
            )


@dataclass(frozen=True)
class TrainConfig:
    """Training. A step reads `batch_size` mixed samples and, beside them, `image_ratio` as many image samples."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    shards: str | None = None  # folder of the shards; null is OUT/shards
    steps: int = 2000  # updates in all; the sketch still gained from 700 to 2000
    batch_size: int = 96  # mixed samples a step; the contrast's negatives come from them (sketch)
    image_ratio: float = 0.25  # image samples a step for each mixed sample; 0 trains without them
    learning_rate: float = 1e-3  # peak (sketch); a network of BERT's size wants 5e-5
    warmup_steps: int = 100  # linear rise to the peak; then linear fall to 0 at the last step
    weight_decay: float = 0.01  # not on biases and LayerNorms
    clip_norm: float = 1.0  # largest gradient norm
    accumulate: int = 1  # batches of an update; the contrast's negatives come from one batch all the same
    mask_probability: float = 0.15  # share of words masked for masked language modelling (BERT's)
    tag_mask_probability: float = 0.25  # share of tags masked; images have few, so more than of words
    cutmix: bool = True  # false, for ablations: no patches; the contrastive view is the words they would replace
    predict_replaced: bool = False  # whether a pasted patch must predict the word that it replaced, too
    drop_words: float = 1.0  # how often the contrastive view loses the words that no patch replaced (sketch)
    temperature: float = 0.1  # of the contrastive loss (sketch)
    masked_language_weight: float = 1.0  # weights of the three losses; 0 leaves one out
    masked_tags_weight: float = 1.0
    contrastive_weight: float = 1.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on cuda, float32 on cpu
    balance: float = 0.5  # sentences are drawn by (1 / how many show their rarest concept) ** balance; 0: each once
    shards_in_memory: int = 8  # a reader shuffles samples of so many shards at a time, and reads as many ahead
    batches_sorted_together: int = 32  # from so many batches' samples those of like length are put together; 1: none
    readers: int | None = None  # parts into which an epoch is divided; null: one for each rank and worker
    workers: int = 1  # processes a rank that read ahead; 0 reads in the training's own
    compile: bool = False  # compile the encoder with torch.compile: a minute at the start, less time a step
    log_every: int = 10  # steps between lines of log.jsonl
    tensorboard: bool = False  # whether RUN/tensorboard is written, too
    checkpoint_every: int = 500  # steps between checkpoints
    keep_checkpoints: int = 2  # so many of the last are kept, and the one of the lowest training loss

    def __post_init__(self) -> None:
        _positive("train", self, "steps", "batch_size", "learning_rate", "clip_norm", "temperature")
        _positive(
            "train",
            self,
            "shards_in_memory",
            "log_every",
            "checkpoint_every",
            "keep_checkpoints",
            "accumulate",
            "batches_sorted_together",
        )
        if self.readers is not None:
            _positive("train", self, "readers")
        _fraction("train", self, "mask_probability", "tag_mask_probability", "drop_words", "balance")
        _not_negative("train", self, "image_ratio", "warmup_steps", "weight_decay", "workers")
        _not_negative("train", self, "masked_language_weight", "masked_tags_weight", "contrastive_weight")
        if not self.masked_language_weight + self.masked_tags_weight + self.contrastive_weight:
            raise CallError("train: all three loss weights are 0, so nothing is learned. Give one a weight.")


def _positive(section: str, config: object, *names: str) -> None:
    for name in names:
        if not (value := getattr(config, name)) > 0:
            raise CallError(f"{section}.{name}: {value} is not above 0. Give a positive number.")


def _not_negative(section: str, config: object, *names: str) -> None:
    for name in names:
        if not (value := getattr(config, name)) >= 0:
            raise CallError(f"{section}.{name}: {value} is below 0. Give 0 or more.")


def _fraction(section: str, config: object, *names: str) -> None:
    for name in names:
        if not 0 <= (value := getattr(config, name)) <= 1:
            raise CallError(f"{section}.{name}: {value} is no share. Give a number from 0 to 1.")


@dataclass(frozen=True)
class Settings:
    """All that training reads of a config file."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    seed: int = 0
    out: str = "out/"
    vocabulary: str | None = None  # of concepts; if given, the shards must have been made with it
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()


def load_settings(path: str, assignments: Iterable[str] = ()) -> Settings:
    """The settings in the YAML file `path`, after each `key.path=value` of `assignments`.

    The other stages' sections are left to them. Raises CallError for what cannot be read or understood.
    """
    content = settings.override(settings.load_yaml(path), assignments)
    ours = [field.name for field in fields(Settings)]
    for key in content:
        if key not in ours and (near := difflib.get_close_matches(str(key), ours, n=1, cutoff=0.75)):
            raise CallError(f"{path}: unknown key {key!r}; did you mean {near[0]!r}?")
    return settings.build(Settings, {key: content[key] for key in ours if content.get(key) is not None}, where=path)
