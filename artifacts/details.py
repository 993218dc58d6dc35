"""What a manifest says about its stage, besides counts and files: one frozen type per stage.

The keys of `details` in manifest.json are the fields of these types; docs/on-disk.md explains them. Nothing else
reads or writes these keys. artifacts/stages.py says which type belongs to which stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar, cast

from annotated_types import Interval

if TYPE_CHECKING:
    from pydantic_core import ValidationError

Record = TypeVar("Record")
_NO_OTHER_KEYS = {"extra": "forbid"}

Count = Annotated[int, Interval(ge=0, le=2**53)]
"""A number of things, as it is read from a file: somebody may have forged it."""
Width = Annotated[int, Interval(ge=0, le=1 << 16)]
"""Of features. A network has a row of weights for each number."""


@dataclass(frozen=True)
class DetectorIdentity:
    """What makes two detectors the same. `weights` is a hash or the name of a set of weights; file names in `options`
    are replaced by hashes of the files. `config` is the hash of a detectron2 config file, or of the settings of a model
    of transformers; None for other detectors."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    name: str
    weights: str
    device: str
    options: Mapping[str, Any]
    config: str | None = None
    features: tuple[Mapping[str, Any] | None, ...] | None = None
    """Each part of a region's feature, in order: an encoder's name, the hashes of its files, preprocessing, pooling and
    width; None for the detector's own. None if there are only the detector's own."""


@dataclass(frozen=True)
class BankSelection:
    """How the patches of a bank were chosen: the `bank` settings and the seed."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    max_patches_per_concept: Annotated[int, Interval(ge=1, le=2**53)]
    selection: Literal["diverse", "score", "random"]
    duplicate_similarity: float
    seed: int


@dataclass(frozen=True)
class TaggedDetails:
    """Of tagged/. `mentions` and `not_meant` by concept; `sources`: file names by the first part of sentence ids;
    `not_split`: number of files that only one worker could read."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    tagger: str
    vocabulary: str
    vocabulary_hash: str
    mentions: Mapping[str, Count]
    not_meant: Mapping[str, Count]
    sources: Mapping[str, str]
    not_split: Count


@dataclass(frozen=True)
class RegionsDetails:
    """Of regions/. `regions` by concept; `images_by_part`: images with regions, for each output in the order of names;
    `not_images`: input files that hold records of images."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    detector: DetectorIdentity
    feature_dim: Width
    vocabulary: str
    vocabulary_hash: str
    regions: Mapping[str, Count]
    labels_not_in_vocabulary: tuple[str, ...]
    images_by_part: tuple[Count, ...]
    not_images: Count


@dataclass(frozen=True)
class BankDetails:
    """Of bank/."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    detector: DetectorIdentity
    feature_dim: Width
    vocabulary: str
    vocabulary_hash: str
    selection: BankSelection


@dataclass(frozen=True)
class ShardsDetails:
    """Of shards/. `concepts`: names by id; `detector`: its name; `bank`: content hash of the bank; `replaced`: mentions
    by concept. From `seed` and `settings`, the `mix` section of the config, a sample can be reproduced."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    feature_dim: Width
    concepts: tuple[str, ...]
    vocabulary: str
    vocabulary_hash: str
    detector: str
    bank: str
    replaced: Mapping[str, Count]
    seed: int
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class RunDetails:
    """Of run/. `steps`: updates that the network was trained for; `samples`: in the shards."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    steps: Count
    samples: Count
    feature_dim: Width
    vocabulary: str
    vocabulary_hash: str


@dataclass(frozen=True)
class FineTunedDetails:
    """Of a fine-tuned run. `steps`: updates; `examples`: to train on."""

    __pydantic_config__: ClassVar = _NO_OTHER_KEYS
    task: str
    steps: Count
    examples: Count
    feature_dim: Width


AnyDetails = TaggedDetails | RegionsDetails | BankDetails | ShardsDetails | RunDetails | FineTunedDetails


def to_json(record: Any) -> Any:
    """Plain data of a record: dataclasses become objects. Fields that are None, as by default, are left out."""
    if record is None or isinstance(record, _PLAIN):
        return record
    if is_dataclass(record):
        return {
            name: to_json(value)
            for name, optional in _fields(cast(Any, type(record)))
            if (value := getattr(record, name)) is not None or not optional
        }
    if isinstance(record, Mapping):
        return {key: to_json(value) for key, value in record.items()}
    return [to_json(value) for value in record] if isinstance(record, Sequence) else record


_PLAIN = (str, int, float, bool)


@lru_cache
def _fields(kind: Any) -> tuple[tuple[str, bool], ...]:
    """The names of a dataclass's fields, and whether each is None by default."""
    return tuple((field.name, field.default is None) for field in fields(kind))


def from_json(kind: type[Record], content: Any) -> Record:
    """The record of type `kind` that `to_json` turned into `content`.

    Raises ValueError with one line that names the first field that is missing, unknown or of the wrong type.
    """
    from pydantic_core import ValidationError

    try:
        record: Record = _adapter(cast(Any, kind)).validate_python(content)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None
    return record


def first_problem(error: "ValidationError") -> str:
    """The first thing that does not fit, and where, in one line."""
    problem = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
