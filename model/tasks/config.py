"""The settings of fine-tuning: the section `task` of the config file. Plain data without torch.

Defaults are ours, for the default network of 2 layers; docs/tasks.md has BERT-base's beside them. A task with settings
of its own derives a class from TaskConfig.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, Literal, TypeVar

from vlmixer.artifacts import settings
from vlmixer.artifacts.errors import CallError
from vlmixer.model.config import ModelConfig, fraction, not_negative, positive

NONE, DETECTOR = "none", "detector"


@dataclass(frozen=True)
class TaskConfig:
    """Fine-tuning and its data, whatever the task."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    init: str | None = None  # a finished run of ours to start from; null: from scratch, or from model.init
    regions: str | None = None  # folder that `vlmixer detect` wrote; null: OUT/regions; none: no regions
    tags: str = DETECTOR  # detector: the regions' concepts; none; or a JSON file of image -> names
    train: tuple[str, ...] = ()  # the official files; those of questions and of answers in any order
    validation: tuple[str, ...] = ()  # files to score at the end, and by `vlmixer eval`
    answers: str | None = None  # JSON list of the answers to learn; null: made from `train` by the task's rule
    min_answer_count: int | None = None  # how often an answer occurs to be learned; null: the task's rule
    max_bad_fraction: float = 0.05  # more unusable examples than this share stop the work
    shuffled_photos: bool = False  # control: each photo is replaced by another of the same files
    epochs: int = 10
    steps: int = 0  # number of updates; 0: as many as `epochs` take
    batch_size: int = 64
    learning_rate: float = 5e-4  # peak; a network of BERT's size needs about 5e-5
    warmup_steps: int = 100  # linear rise to the peak; then a linear fall to 0 at the last step
    weight_decay: float = 0.01  # not on biases and LayerNorms
    clip_norm: float = 1.0  # maximum gradient norm
    accumulate: int = 1  # batches per update
    dropout: float | None = None  # in the encoder and the head; null: that of the network
    label_smoothing: float = 0.0  # of cross-entropies
    pooling: Literal["content", "mean", "cls"] | None = None  # as model.pooling, for the head; null: the network's
    text_tokens: int | None = None  # word pieces for [CLS] text [SEP]; null: up to model.max_text_tokens
    max_regions: int | None = None  # per photo; null: model.max_regions
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 where it is fast; the run records which
    photos_per_chunk: int = 256  # photos whose features are read together
    shards_in_memory: int = 8  # chunks that a reader shuffles at a time; it reads two ahead
    batches_sorted_together: int = 32  # batches whose examples are sorted by length together; 1: not sorted
    readers: int | None = None  # parts into which an epoch is divided; null: one per rank and worker
    workers: int = 1  # processes per rank that read ahead; 0: read in the training process
    log_every: int = 10  # steps between lines of log.jsonl
    tensorboard: bool = False  # whether to write RUN/tensorboard, too
    wandb: str | None = None  # project at Weights & Biases that gets the numbers of log.jsonl, too; null: none
    mlflow: str | None = None  # experiment of MLflow that gets them, on the server of MLFLOW_TRACKING_URI; null: none
    checkpoint_every: int = 500  # steps between checkpoints
    keep_checkpoints: int = 2  # number of last checkpoints to keep; the one with the lowest loss is kept, too

    def __post_init__(self) -> None:
        positive("task", self, "epochs", "batch_size", "learning_rate", "clip_norm", "accumulate", "photos_per_chunk")
        positive("task", self, "shards_in_memory", "batches_sorted_together", "log_every", "checkpoint_every")
        positive("task", self, "keep_checkpoints")
        given = ("min_answer_count", "text_tokens", "max_regions", "readers")
        positive("task", self, *(name for name in given if getattr(self, name) is not None))
        not_negative("task", self, "steps", "warmup_steps", "weight_decay", "workers")
        fraction("task", self, "max_bad_fraction", "label_smoothing")
        if self.dropout is not None:
            fraction("task", self, "dropout")
        if self.text_tokens is not None and self.text_tokens < 3:
            raise CallError(f"task.text_tokens: {self.text_tokens} leaves no room for a word. Give at least 3.")


Config = TypeVar("Config", bound=TaskConfig)

DATA = frozenset({"init", "regions", "tags", "train", "validation", "answers", "max_bad_fraction"})
"""Settings that name files. A resumed run compares the content of the files instead."""


@dataclass(frozen=True)
class TaskSettings(Generic[Config]):
    """The parts of a config file that fine-tuning reads. `model`: its keys that the file gives."""

    task: Config
    seed: int = 0
    out: str = "out/"
    model: dict[str, Any] = field(default_factory=dict)

    @property
    def model_config(self) -> ModelConfig:
        """The network that the file describes. Raises CallError."""
        return settings.build(_Model, {"model": self.model}, where="config").model


@dataclass(frozen=True)
class _Rest:
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    seed: int = 0
    out: str = "out/"
    model: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Model:
    model: ModelConfig = field(default_factory=ModelConfig)


def load_task_settings(path: str, kind: type[Config], assignments: Iterable[str] = ()) -> TaskSettings[Config]:
    """The settings in the YAML file `path`, with each `key.path=value` of `assignments` applied.

    kind: the class of the section `task`. Sections of other work are ignored. Raises CallError if the file cannot be
    read, or a key or value is wrong.
    """
    content = settings.override(settings.load_yaml(path), assignments)
    ours = [each.name for each in fields(TaskSettings)]
    for key in content:
        if key not in ours and (near := difflib.get_close_matches(str(key), ours, n=1, cutoff=0.75)):
            raise CallError(f"{path}: unknown key {key!r}; did you mean {near[0]!r}?")
    given = {key: content[key] for key in ours if key != "task" and content.get(key) is not None}
    rest = settings.build(_Rest, given, where=path)
    task = content.get("task") or {}
    if not isinstance(task, dict):
        raise CallError(f"{path}: task: expected a mapping of keys to values, found {type(task).__name__}.")
    return TaskSettings(settings.build(kind, task, where=f"{path}, section task"), rest.seed, rest.out, rest.model)
