"""The config file as typed, frozen settings, with their defaults and ranges.

docs/configuration.md explains every key. Defaults that the paper leaves open are ours and marked so.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import Field

from vlmixer.artifacts import files, settings
from vlmixer.artifacts.errors import CallError
from vlmixer.artifacts.files.http import FetchPolicy
from vlmixer.bank.concepts import HARDLY_VISUAL
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.pipeline.mix.settings import MixSettings

DEFAULT_STOP_WORDS = "default"
FORBID_UNKNOWN = {"extra": "forbid"}
ACCELERATOR = r"^type:[a-z0-9-]+;count:[1-9][0-9]*(;machine_type:[a-z0-9-]+)?(;install-nvidia-driver(:[a-z0-9.]+)?)?$"
RAM = r"^[1-9][0-9]*([.][0-9]+)? ?[KMGTP]i?B$"


@dataclass(frozen=True)
class TextSettings:
    """Where the sentences are and how their grounded words are found."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN
    inputs: tuple[str, ...] = ()
    field: str = "caption"
    split: Literal["lines", "sentences"] = "lines"
    """Whether a line (field, member) is one sentence, or running text to split into sentences."""
    min_characters: int = 1
    max_characters: int = 1000
    spacy_model: str = "auto"
    stop_words: tuple[str, ...] = HARDLY_VISUAL
    """Words and phrases that are never tagged, in any form. In a config file `default` stands for HARDLY_VISUAL."""
    tag_modifiers: bool = False
    """Whether a concept that only modifies the next noun is tagged ("*cat* food")."""


@dataclass(frozen=True)
class ImageSettings:
    """Where the images are and how their regions are found."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN
    inputs: tuple[str, ...] = ()
    detector: str = "torchvision:fasterrcnn_resnet50_fpn_v2"
    detector_options: dict[str, Any] = field(default_factory=dict)
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """The format in which the detector computes. `auto` tries both on a few photos, and records its choice (ours)."""
    weights: str = "default"
    features: str | tuple[str, ...] = "detector"
    """What a region's feature is: the detector's own, an encoder's (timm:NAME, transformers:NAME), or several of these,
    concatenated."""
    feature_options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further arguments of each encoder, by its name in `features`."""
    score_threshold: float = 0.3
    nms_threshold: float = 0.5
    """Of two regions of one concept with a larger intersection over union, only the better one is kept."""
    min_region_side: float = 1.0
    """Regions with a shorter side of fewer pixels are dropped."""
    min_regions: int = 0
    """Minimum number of regions per image. If too few reach the threshold, the best below it are kept."""
    max_regions: int = 36
    device: Literal["auto", "cpu", "cuda"] = "auto"
    worker_accelerator: Annotated[str, Field(pattern=ACCELERATOR)] | None = (
        "type:nvidia-l4;count:1;install-nvidia-driver"
    )
    """The accelerator that detection requests with `device: cuda` if machines are rented for the job (Beam's hint
    `accelerator`). `null` requests none: the machines have one."""
    worker_ram: Annotated[str, Field(pattern=RAM)] | None = None
    """The memory that detection requests, such as 16GB (Beam's hint `min_ram`)."""
    crop_size: int = 160
    """Longest side of a stored crop, in pixels."""
    max_megapixels: float = 100.0
    """Images with more pixels are rejected before they are decoded."""
    url_timeout: float = 10.0
    """Seconds for one image behind http:// or https://, from connecting to its last byte."""
    url_retries: int = 2
    """Further attempts if a server is busy (429) or fails (5xx)."""
    respect_robots: bool = True
    """Whether images are refused whose server asks so (X-Robots-Tag: noai, noindex, …)."""
    drop_duplicates: bool = True
    """Whether to use only the first of images with the same bytes. Reads every image once more."""


def fetch_policy(settings: ImageSettings) -> FetchPolicy:
    """How images behind URLs are fetched."""
    return FetchPolicy(settings.url_timeout, settings.url_retries, respect_robots=settings.respect_robots)


MACHINES = ("worker_accelerator", "worker_ram", "url_timeout", "url_retries")
"""Settings of images that choose the machines and the patience with servers. They may change between runs."""


@dataclass(frozen=True)
class BankSettings:
    """Which patches of a concept are kept."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN
    max_patches_per_concept: int = 1000
    selection: Literal["diverse", "score", "random"] = "diverse"
    duplicate_similarity: float = 0.95
    """`diverse` drops a patch that is more similar than this to a better one of its concept: cosine similarity of their
    features, less the concept's mean (ours)."""


@dataclass(frozen=True)
class Config:
    """A whole config file."""

    __pydantic_config__: ClassVar = FORBID_UNKNOWN
    seed: int = 0
    out: str = "out"
    vocabulary: str = "coco"
    max_bad_fraction: float = 0.05
    rejects: Literal["sample", "all"] = "sample"
    """Whether each unused input of a voluminous reason (artifacts/rejects.py) is listed, or some of each source."""
    text: TextSettings = field(default_factory=TextSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    bank: BankSettings = field(default_factory=BankSettings)
    mix: MixSettings = field(default_factory=MixSettings)
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig | None = None
    task: dict[str, Any] | None = None
    """Fine-tuning. Its keys are those of the task's own class of settings, model/tasks/config.py."""

    def to_yaml(self) -> str:
        """The resolved config as YAML, without the output's own path."""
        content = {key: value for key, value in asdict(self).items() if key != "out" and value is not None}
        return yaml.safe_dump(_plain(content), sort_keys=False)


def _plain(value: Any) -> Any:
    """`value` with lists in place of tuples, for plain YAML."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def load_config(path: str, assignments: Iterable[str] = (), out: str | None = None) -> Config:
    """The config at `path`, with `--set` assignments and `--out` applied. Raises CallError."""
    content = settings.override(settings.load_yaml(path), assignments)
    config = settings.build(Config, content, where=path)
    config = replace(config, text=replace(config.text, stop_words=_expanded(config.text.stop_words)))
    _check_ranges(config, path)
    if out is not None:
        config = replace(config, out=out)
    return replace(
        config, out=config.out if files.is_url(config.out) else os.path.normpath(os.path.expanduser(config.out))
    )


def is_for_training_alone(path: str, assignments: Iterable[str] = ()) -> bool:
    """Whether the config at `path` says nothing of how the shards were made. Raises CallError."""
    content = settings.override(settings.load_yaml(path), assignments)
    return not content.keys() & {"vocabulary", "text", "images", "bank", "mix"}


def _expanded(stop_words: Iterable[str]) -> tuple[str, ...]:
    """The words with HARDLY_VISUAL in place of `default`, without repeats."""
    words = (HARDLY_VISUAL if word == DEFAULT_STOP_WORDS else (word,) for word in stop_words)
    return tuple(dict.fromkeys(chain.from_iterable(words)))


def _check_ranges(config: Config, path: str) -> None:
    """Raises CallError for a value out of range."""
    limits: list[tuple[str, float, float, float]] = [
        ("max_bad_fraction", config.max_bad_fraction, 0, 1),
        ("text.min_characters", config.text.min_characters, 1, 1e9),
        ("text.max_characters", config.text.max_characters, config.text.min_characters, 1e9),
        ("images.score_threshold", config.images.score_threshold, 0, 1),
        ("images.nms_threshold", config.images.nms_threshold, 0, 1),
        ("images.min_region_side", config.images.min_region_side, 1, 1e6),
        ("images.min_regions", config.images.min_regions, 0, config.images.max_regions),
        ("images.max_regions", config.images.max_regions, 1, 1e6),
        ("images.crop_size", config.images.crop_size, 8, 4096),
        ("images.url_timeout", config.images.url_timeout, 0.01, 3600),
        ("images.url_retries", config.images.url_retries, 0, 100),
        ("images.max_megapixels", config.images.max_megapixels, 0.001, 178),  # Pillow's own limit
        ("bank.max_patches_per_concept", config.bank.max_patches_per_concept, 1, 1e9),
        ("bank.duplicate_similarity", config.bank.duplicate_similarity, 0, 1),
        ("mix.replace_probability", config.mix.replace_probability, 0, 1),
        ("mix.patches_per_word", config.mix.patches_per_word, 1, 100),
        ("mix.views", config.mix.views, 1, 1000),
        ("mix.min_replaced", config.mix.min_replaced, 0, 1000),
        ("mix.min_patches", config.mix.min_patches, 1, 1e9),
        ("mix.patches_only", config.mix.patches_only, 0, 1),
        ("mix.samples_per_shard", config.mix.samples_per_shard, 1, 1e9),
    ]
    if config.mix.max_replaced is not None:
        limits.append(("mix.max_replaced", config.mix.max_replaced, max(config.mix.min_replaced, 1), 1000))
    if isinstance(config.mix.max_uses, int):
        limits.append(("mix.max_uses", config.mix.max_uses, 1, 1e9))
    if config.mix.patches_per_plural is not None:
        limits.append(("mix.patches_per_plural", config.mix.patches_per_plural, 1, 100))
    for key, value, low, high in limits:
        if not low <= value <= high:
            raise CallError(f"{path}: {key}: expected a value from {low:g} to {high:g}, found {value}.")
