"""What a downstream task is: it reads official files, makes inputs and batches, has a head and a loss, and scores.

The loop, the checkpoints, the run's folder and the reading of photos are the same for all: model.loop, model.finetuning
and model.tasks.data. To add a task, derive a class from Task, or from Classification, and add a line to the table in
model/tasks/__init__.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Self

import numpy as np
import torch
from torch import Tensor, nn

from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.config import ModelConfig
from vlmixer.model.loop import Objective
from vlmixer.model.network import Network, Sequences
from vlmixer.model.padding import Padded, joined, padded
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.config import Config
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.scores import Measure
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.transfer import moved
from vlmixer.model.views import NOWHERE, Regions, View, geometry

Labels = Mapping[str, Any]
"""What a task learns from its training files besides weights, such as its answers: plain data, saved in the run."""


@dataclass(frozen=True)
class Example:
    """A question, sentence or caption about one photo, or several.

    `key`: its id in the official files. `images`: the photos' names there. `answers`: what is right; empty in files
    without answers. `groups`: the groups whose scores are shown apart, such as {"question type": "how many"}.
    `details`: what only the task itself needs.
    """

    key: str
    images: tuple[str, ...]
    text: str
    answers: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    details: Any = None


@dataclass(frozen=True)
class Encoded:
    """An example as the network reads it: its views, one per sequence, and its `target`, arrays of one shape per name.
    `extra`: what a task with batches of its own needs. `photos`: the numbers of its photos."""

    views: tuple[View, ...]
    target: Mapping[str, np.ndarray] = field(default_factory=dict)
    extra: Any = None
    photos: tuple[int, ...] = ()

    def __len__(self) -> int:
        return sum(map(len, self.views))


@dataclass(frozen=True)
class TaskPart:
    """What one reader contributes to a step. `sequences`: the views of all examples, example by example. `targets`:
    (examples, …) each. `epoch` is set by the loader."""

    sequences: Padded
    targets: Mapping[str, np.ndarray]
    examples: int
    epoch: int = 0


@dataclass(frozen=True)
class TaskBatch:
    """What one rank reads in one step: see TaskPart, and `LoopBatch` in model.loop."""

    epoch: int
    samples: int
    items: int
    sequences: Sequences
    targets: Mapping[str, Tensor]

    def to(self, device: torch.device) -> Self:
        """The same on `device`."""
        return moved(self, device)


@dataclass(frozen=True)
class Setup(Generic[Config]):
    """What is fixed for a run: the settings, the network's configuration, the word pieces, the labels."""

    settings: Config
    model: ModelConfig
    tokenizer: Tokenizer
    labels: Labels

    @property
    def feature_dim(self) -> int:
        """Width of a region's features."""
        return self.model.feature_dim or 0

    def regions(self, photo: Photo) -> Regions:
        """The regions of a photo, as many as the network takes, as a set without positions."""
        limit = self.settings.max_regions or self.model.max_regions
        boxes = geometry(photo.boxes[:limit], photo.width, photo.height)
        return Regions(photo.features[:limit], boxes, np.full(len(boxes), NOWHERE, np.int64))


@dataclass(frozen=True)
class Answer:
    """A prediction for one example. `value`: how right, 0 … 1; None if the files do not say. `confidence`: 0 … 1."""

    answer: str
    value: float | None = None
    confidence: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """What a run predicts, and how well. `answers`: of each example, in order. `measures`: the main one first.
    `result`: the official result file. `ending`: of its name, such as ".json". `note`: a sentence about the scores, for
    people."""

    answers: Sequence[Answer]
    measures: Sequence[Measure]
    result: bytes
    ending: str = ".json"
    note: str = ""


class TaskNetwork(nn.Module):
    """The pre-trained network, whole, and the task's head."""

    def __init__(self, network: Network, head: nn.Module) -> None:
        super().__init__()
        self.network, self.head = network, head


class Task(ABC, Generic[Config]):
    """A downstream task. It has no state: everything that is particular to a run is in its Setup."""

    name: ClassVar[str]
    title: ClassVar[str]
    config: type[Config]
    photos: ClassVar[int] = 1
    """Photos of an example."""
    right_from: ClassVar[float | None] = 0.5
    """The value of an Answer from which it counts as right on pages; None if values are scores without right or wrong,
    which may be above 1."""
    regions_note: ClassVar[str] = (
        "Orange regions mattered: without such a region, the answer is less likely by the percentage points in the "
        "list. A photo without orange had no region whose loss changes the answer."
    )
    """What the colour of regions means on pages."""

    @abstractmethod
    def read(self, paths: Sequence[str], settings: Config, log: RejectLog, training: bool) -> tuple[list[Example], int]:
        """The examples of official files that belong together; and how many there are with those in `log`.

        training: whether examples without answers are of no use. Raises UserError if the files cannot be what they
        should be.
        """

    @abstractmethod
    def labels(self, examples: Sequence[Example], settings: Config) -> Labels:
        """What is to be learned from the training examples besides weights."""

    def are_labels(self, found: Labels) -> bool:
        """Whether what was found in a run's file can be what `labels` gave: somebody may have forged it."""
        return True

    def learnable(self, example: Example, labels: Labels) -> bool:
        """Whether the example's answers are among the labels."""
        return True

    def texts(self, examples: Sequence[Example], labels: Labels) -> Iterable[str]:
        """The texts from which word pieces are learned, if no tokenizer is given."""
        return (example.text for example in examples)

    @abstractmethod
    def head(self, setup: Setup[Config], network: Network) -> nn.Module:
        """The task's own layers, with initial values."""

    def begin(self, setup: Setup[Config], network: TaskNetwork) -> None:
        """Before the first step: give the head what else it starts from."""

    @abstractmethod
    def objective(self, setup: Setup[Config], network: TaskNetwork, ranks: Ranks) -> Objective:
        """What is trained. Its `network` must be `network`."""

    @abstractmethod
    def encode(
        self, setup: Setup[Config], examples: Sequence[Example], photos: Sequence[Sequence[Photo]], training: bool
    ) -> list[Encoded]:
        """The examples as the network reads them. `photos`: those of each example."""

    def part(self, setup: Setup[Config], encoded: Sequence[Encoded], random: np.random.Generator) -> Any:
        """What a reader contributes to a step, as plain arrays, which are sent between processes. It has `epoch`."""
        views = [view for one in encoded for view in one.views]
        targets = {name: np.stack([one.target[name] for one in encoded]) for name in encoded[0].target}
        return TaskPart(padded(views), targets, len(encoded))

    def assemble(self, setup: Setup[Config], parts: Sequence[Any]) -> Any:
        """The batch of a step, from the parts of a rank's readers."""
        sequences = joined([part.sequences for part in parts])
        assert sequences is not None  # each reader has at least one example per step
        targets = {name: np.concatenate([part.targets[name] for part in parts]) for name in parts[0].targets}
        return TaskBatch(
            epoch=parts[0].epoch,
            samples=sum(part.examples for part in parts),
            items=int(sequences.mask.sum()),
            sequences=sequences.tensors(),
            targets={name: torch.from_numpy(values) for name, values in targets.items()},
        )

    @abstractmethod
    def evaluate(
        self,
        setup: Setup[Config],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        """Predict and score. `numbers`: (examples, photos) int64, the photos' numbers. `encoded`: the examples in
        order, in blocks, each with the number of its first example."""

    def mattered(
        self, setup: Setup[Config], network: TaskNetwork, encoded: Encoded, answer: str
    ) -> Sequence[np.ndarray] | None:
        """For each photo (regions,) float32: by how much `answer` is less likely without the region, or what else
        `regions_note` says. None if the task does not say."""
        return None

    def right_boxes(self, example: Example) -> np.ndarray:
        """(n, 4) float32, xyxy in pixels of the first photo: the boxes that are right, to be shown on pages."""
        return np.zeros((0, 4), np.float32)
