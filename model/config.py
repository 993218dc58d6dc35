"""The settings of the network and of its training: the sections `model` and `train` of the config file.

Plain data without torch, so that the command reads and checks a config without loading the trainer. The paper leaves
nearly all of these values open: every default here is ours (see docs/paper.md). Those marked "pilot" did best in a
pilot experiment on real photos.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from vlmixer.artifacts import settings
from vlmixer.artifacts.errors import CallError

LAYER_NORM_EPSILON = 1e-12  # BERT's
INITIAL_DEVIATION = 0.02  # BERT's
SEGMENTS = 2  # BERT's
MOST_LAYERS = 1000
"""A config may come with a run of somebody else: a layer takes time before it takes memory."""


@dataclass(frozen=True)
class ModelConfig:
    """The network. BERT-base is layers 12, hidden_size 768, heads 12, feed_forward_size 3072."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    layers: int = 2  # number of Transformer layers (pilot)
    hidden_size: int = 128  # width of the states (pilot)
    heads: int = 4  # number of attention heads; must divide hidden_size (pilot)
    feed_forward_size: int = 512  # width inside a layer; BERT's rule is four times hidden_size
    dropout: float | None = None  # null: 0, for a small network (ours); with init 0.1 (BERT's)
    max_text_tokens: int = 64  # maximum number of word pieces of a text, with [CLS] and [SEP]; longer texts are cut
    max_regions: int = 50  # maximum number of patches or regions per sequence; the rest is left out
    feature_dim: int | None = None  # width of a region's feature; null: that of the shards
    projection_size: int = 128  # dimensions of the space in which sentences and images are compared
    pooling: Literal["content", "mean", "cls"] = "content"  # the mean of all states but [CLS], [SEP]; of all; or [CLS]
    patch_positions: bool = True  # whether a pasted patch has the position of the word it replaces
    patch_segments: bool = False  # whether regions have the segment of their sequence's text; not in Oscar and VinVL
    vocabulary_size: int = 8000  # maximum number of word pieces to learn from the shards' texts
    tokenizer: str | None = None  # your own vocab.txt or tokenizer.json; null: learn one from the shards
    lower_case: bool | None = None  # whether texts are lower-cased for your vocab.txt; null: as it needs
    init: str | None = None  # BERT weights in the Hugging Face layout (.safetensors) to start from

    @property
    def dropout_rate(self) -> float:
        """`dropout`; if it is null, 0, or BERT's 0.1 where the weights are BERT's."""
        return (0.0 if self.init is None else 0.1) if self.dropout is None else self.dropout

    def __post_init__(self) -> None:
        positive("model", self, "layers", "hidden_size", "heads", "feed_forward_size", "max_regions")
        positive("model", self, "projection_size", "vocabulary_size")
        if self.layers > MOST_LAYERS:
            raise CallError(f"model.layers: {self.layers} is more than {MOST_LAYERS}. Give fewer.")
        if self.dropout is not None:
            fraction("model", self, "dropout")
        if self.hidden_size % self.heads:
            raise CallError(
                f"model.heads: {self.heads} does not divide model.hidden_size {self.hidden_size}. "
                "Choose a number of heads that does."
            )
        if self.max_text_tokens < 3:
            raise CallError(
                f"model.max_text_tokens: {self.max_text_tokens} leaves no room for a word between [CLS] and [SEP]. "
                "Give at least 3."
            )


@dataclass(frozen=True)
class TrainConfig:
    """Training. A step reads `batch_size` mixed samples and `image_ratio` × `batch_size` image samples."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    shards: str | None = None  # folder of the shards; null: OUT/shards
    steps: int = 1000  # number of updates (ours, measured)
    batch_size: int = 192  # mixed samples per step; the contrastive loss has its negatives among them (ours, measured)
    image_ratio: float = 0.25  # image samples per mixed sample; 0 trains without image samples
    learning_rate: float = 1e-3  # peak (pilot); a network of BERT's size needs about 5e-5
    warmup_steps: int = 100  # linear rise to the peak; then a linear fall to 0 at the last step
    weight_decay: float = 0.01  # not on biases and LayerNorms
    clip_norm: float = 1.0  # maximum gradient norm
    accumulate: int = 1  # batches per update; the negatives of the contrastive loss still come from one batch
    mask_probability: float = 0.15  # share of words that are masked (BERT's)
    tag_mask_probability: float = 0.25  # share of tags that are masked; more than of words, because images have few
    text_mask_probability: float = 0.15  # share of words that are masked in the contrastive loss's sentences (ours)
    cutmix: bool = True  # false, for ablations: no patches; the contrastive view is the words they would replace
    predict_replaced: bool = False  # whether a pasted patch must also predict the word that it replaced
    drop_words: float = 1.0  # how often the contrastive view loses the words that no patch replaced (pilot)
    temperature: float = 0.1  # of the contrastive loss (pilot)
    masked_language_weight: float = 1.0  # weights of the losses, 0 switches one off: masked words of mixed sentences
    masked_text_weight: float = 1.0  # masked words of the contrastive loss's sentences (ours)
    replaced_words_weight: float = 1.0  # the words that the patches of the contrastive view replaced (ours, measured)
    masked_tags_weight: float = 1.0  # masked tags of images
    contrastive_weight: float = 1.0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 where it is fast; the run records which
    balance: float = 0.5  # sampling weight of a sentence: (1 / sentences with its rarest concept) ** balance; 0: equal
    shards_in_memory: int = 8  # shards that a reader shuffles at a time; it reads two ahead
    batches_sorted_together: int = 32  # batches whose samples are sorted by length together; 1: not sorted
    readers: int | None = None  # parts into which an epoch is divided; null: one per rank and worker
    workers: int = 1  # processes per rank that read ahead; 0: read in the training process
    compile: bool = False  # compile the encoder with torch.compile: a minute at the start, less time per step
    log_every: int = 10  # steps between lines of log.jsonl
    tensorboard: bool = False  # whether to write RUN/tensorboard, too
    wandb: str | None = None  # project at Weights & Biases that gets the numbers of log.jsonl, too; null: none
    mlflow: str | None = None  # experiment of MLflow that gets them, on the server of MLFLOW_TRACKING_URI; null: none
    checkpoint_every: int = 500  # steps between checkpoints
    keep_checkpoints: int = 2  # number of last checkpoints to keep; the one with the lowest loss is kept, too

    def __post_init__(self) -> None:
        positive("train", self, "steps", "batch_size", "learning_rate", "clip_norm", "temperature")
        positive(
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
            positive("train", self, "readers")
        fraction("train", self, "mask_probability", "text_mask_probability", "tag_mask_probability")
        fraction("train", self, "drop_words", "balance")
        not_negative("train", self, "image_ratio", "warmup_steps", "weight_decay", "workers")
        weights = [field.name for field in fields(self) if field.name.endswith("_weight")]
        not_negative("train", self, *weights)
        if not any(getattr(self, name) for name in weights):
            raise CallError("train: all loss weights are 0, so nothing is learned. Set one above 0.")


def positive(section: str, config: object, *names: str) -> None:
    """Raises CallError for a setting that is not above 0."""
    for name in names:
        if not (value := getattr(config, name)) > 0:
            raise CallError(f"{section}.{name}: {value} is not above 0. Give a positive number.")


def not_negative(section: str, config: object, *names: str) -> None:
    """Raises CallError for a setting below 0."""
    for name in names:
        if not (value := getattr(config, name)) >= 0:
            raise CallError(f"{section}.{name}: {value} is below 0. Give 0 or more.")


def fraction(section: str, config: object, *names: str) -> None:
    """Raises CallError for a setting outside of 0 … 1."""
    for name in names:
        if not 0 <= (value := getattr(config, name)) <= 1:
            raise CallError(f"{section}.{name}: {value} is not between 0 and 1. Give a number from 0 to 1.")


@dataclass(frozen=True)
class Settings:
    """The parts of a config file that training reads."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    seed: int = 0
    out: str = "out/"
    vocabulary: str | None = None  # name of the concept vocabulary; if given, the shards must have been made with it
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()


def load_settings(path: str, assignments: Iterable[str] = ()) -> Settings:
    """The settings in the YAML file `path`, with each `key.path=value` of `assignments` applied.

    Sections of other stages are ignored. Raises CallError if the file cannot be read, or a key or value is wrong.
    """
    content = settings.override(settings.load_yaml(path), assignments)
    ours = [field.name for field in fields(Settings)]
    for key in content:
        if key not in ours and (near := difflib.get_close_matches(str(key), ours, n=1, cutoff=0.75)):
            raise CallError(f"{path}: unknown key {key!r}; did you mean {near[0]!r}?")
    return settings.build(Settings, {key: content[key] for key in ours if content.get(key) is not None}, where=path)
