"""Tasks that choose one of a list of answers: the head, the losses, the prediction. The tasks themselves only read."""

import json
import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vlmixer.artifacts.errors import UserError
from vlmixer.model.loop import Objective
from vlmixer.model.network import Network, Sequences, initialise, pooled
from vlmixer.model.padding import pad
from vlmixer.model.ranks import Ranks
from vlmixer.model.tasks.base import Answer, Encoded, Evaluation, Example, Labels, Setup, Task, TaskBatch, TaskNetwork
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import document
from vlmixer.model.tasks.photos import Photo
from vlmixer.model.tasks.scores import Measure
from vlmixer.model.views import View, text_and_tags_view, without_region

BATCH = 256
"""Examples that are predicted together."""


class Head(nn.Module):
    """LXMERT's: dropout, Linear(views × hidden, 2 × hidden), GELU, LayerNorm, Linear(2 × hidden, answers).

    soft: for sigmoids. Then each answer begins with a probability of one in all answers: from one half, the first
    hundred steps would only teach that each single answer is unlikely.
    """

    def __init__(self, width: int, hidden: int, answers: int, dropout: float, soft: bool) -> None:
        super().__init__()
        last = nn.Linear(2 * hidden, answers)
        self.layers = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, 2 * hidden), nn.GELU(), nn.LayerNorm(2 * hidden), last
        )
        self.apply(initialise)
        if soft:
            nn.init.constant_(last.bias, -math.log(answers))

    def forward(self, states: Tensor) -> Tensor:
        """(B, answers), from (B, width)."""
        found: Tensor = self.layers(states)
        return found


class Classifier(Objective):
    """The logits of the answers, and their loss. `soft`: sigmoids and soft scores; else a softmax and one answer."""

    names = ("answers",)

    def __init__(self, setup: Setup[Any], network: TaskNetwork, photos: int, soft: bool, ranks: Ranks) -> None:
        super().__init__()
        self.network: TaskNetwork = network
        self.photos, self.soft, self.ranks = photos, soft, ranks
        self.smoothing = setup.settings.label_smoothing
        self.pooling = setup.settings.pooling or setup.model.pooling

    def logits(self, sequences: Sequences) -> Tensor:
        """(examples, answers). `sequences`: the views of all examples, example by example."""
        states = pooled(self.network.network.bert(sequences), sequences, self.pooling)
        logits: Tensor = self.network.head(states.unflatten(0, (-1, self.photos)).flatten(1))
        return logits.float()

    def forward(self, batch: TaskBatch) -> Tensor:
        """(1,) float32. Of soft scores the sum over the answers, which VQA's papers descend on."""
        logits, target = self.logits(batch.sequences), batch.targets["answers"]
        if self.soft:
            loss = functional.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)
        else:
            loss = functional.cross_entropy(logits, target, label_smoothing=self.smoothing)
        return self.ranks.shares([len(logits)], logits.device) * loss


class Classification(Task[TaskConfig]):
    """A task with a list of answers, `labels["answers"]`."""

    config = TaskConfig
    soft: ClassVar[bool] = False
    """Whether an example may have several answers that are right, each with a score."""
    ending: ClassVar[str] = ".json"

    @abstractmethod
    def value(self, example: Example, answer: str) -> float | None:
        """How right the answer is, 0 … 1; None if the example has no answers."""

    def scores(self, example: Example) -> Mapping[str, float]:
        """The training scores of its answers."""
        return dict.fromkeys(example.answers, 1.0)

    @abstractmethod
    def result(self, examples: Sequence[Example], answers: Sequence[Answer]) -> bytes:
        """The official result file."""

    def are_labels(self, found: Labels) -> bool:
        answers = found.get("answers")
        if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
            return False
        return 0 < len(set(answers)) == len(answers)

    def learnable(self, example: Example, labels: Labels) -> bool:
        known = _places(labels)
        return any(answer in known for answer in self.scores(example))

    def texts(self, examples: Sequence[Example], labels: Labels) -> Iterable[str]:
        yield from (example.text for example in examples)
        yield from labels["answers"]

    def head(self, setup: Setup[TaskConfig], network: Network) -> nn.Module:
        hidden, dropout = setup.model.hidden_size, setup.settings.dropout
        rate = setup.model.dropout_rate if dropout is None else dropout
        return Head(self.photos * hidden, hidden, len(setup.labels["answers"]), rate, self.soft)

    def objective(self, setup: Setup[TaskConfig], network: TaskNetwork, ranks: Ranks) -> Classifier:
        return Classifier(setup, network, self.photos, self.soft, ranks)

    def encode(
        self, setup: Setup[TaskConfig], examples: Sequence[Example], photos: Sequence[Sequence[Photo]], training: bool
    ) -> list[Encoded]:
        """One view per photo: [CLS] text [SEP] tags [SEP] and the regions."""
        places = _places(setup.labels)
        return [
            Encoded(views, self._target(example, places) if training else {})
            for example, views in zip(examples, views_of(setup, examples, photos), strict=True)
        ]

    def _target(self, example: Example, places: Mapping[str, int]) -> dict[str, np.ndarray]:
        scores = {places[answer]: score for answer, score in self.scores(example).items() if answer in places}
        if not self.soft:
            return {"answers": np.array(max(scores, key=lambda place: scores[place]), np.int64)}
        row = np.zeros(len(places), np.float32)
        row[list(scores)] = list(scores.values())
        return {"answers": row}

    def evaluate(
        self,
        setup: Setup[TaskConfig],
        network: TaskNetwork,
        examples: Sequence[Example],
        numbers: np.ndarray,
        encoded: Iterator[tuple[int, list[Encoded]]],
    ) -> Evaluation:
        answers = self.predict(setup, network, encoded)
        answers = [
            Answer(each.answer, self.value(example, each.answer), each.confidence)
            for example, each in zip(examples, answers, strict=True)
        ]
        return Evaluation(
            answers,
            self.measures(examples, answers),
            self.result(examples, answers),
            self.ending,
            self._reachable(examples, setup.labels),
        )

    def _reachable(self, examples: Sequence[Example], labels: Labels) -> str:
        """What the answers that were learned allow at best, if that is not everything."""
        known, best = set(labels["answers"]), []
        for example in examples:
            if example.answers:
                values = [self.value(example, answer) or 0.0 for answer in {*example.answers} & known]
                best.append(max(values, default=0.0))
        if not best or min(best) == 1:
            return ""
        return (
            f"{sum(not value for value in best):,} of {len(best):,} examples have no right answer among the "
            f"{len(known):,} learned ones; at best {100 * sum(best) / len(best):.2f} can be reached"
        )

    def predict(
        self, setup: Setup[TaskConfig], network: TaskNetwork, encoded: Iterator[tuple[int, list[Encoded]]]
    ) -> list[Answer]:
        """The best answer for each example, with its probability."""
        names, module = setup.labels["answers"], self.objective(setup, network, Ranks()).eval()
        device = next(network.parameters()).device
        found: list[Answer] = []
        with torch.inference_mode():
            for _, block in encoded:
                placed: list[Answer] = [Answer("")] * len(block)
                order = np.argsort([len(one) for one in block], kind="stable")
                for start in range(0, len(order), BATCH):
                    rows = order[start : start + BATCH]
                    logits = module.logits(pad([view for row in rows for view in block[row].views]).to(device))
                    likely = logits.sigmoid() if self.soft else logits.softmax(-1)
                    best = likely.max(-1)
                    for row, at, value in zip(rows, best.indices.tolist(), best.values.tolist(), strict=True):
                        placed[row] = Answer(names[at], confidence=value)
                found += placed
        return found

    def mattered(
        self, setup: Setup[TaskConfig], network: TaskNetwork, encoded: Encoded, answer: str
    ) -> Sequence[np.ndarray]:
        """For each photo (regions,) float32: the probability of `answer`, minus that without the region."""
        at, module = _places(setup.labels)[answer], self.objective(setup, network, Ranks()).eval()
        device = next(network.parameters()).device
        views, owner = [*encoded.views], []
        for photo, view in enumerate(encoded.views):
            for region in range(len(view.regions)):
                views += [*encoded.views[:photo], without_region(view, region), *encoded.views[photo + 1 :]]
                owner.append(photo)
        with torch.inference_mode():
            logits = module.logits(pad(views).to(device))
            likely = (logits.sigmoid() if self.soft else logits.softmax(-1))[:, at].cpu().numpy()
        lost = likely[0] - likely[1:]
        return [lost[np.array(owner, np.int64) == photo] for photo in range(self.photos)]

    def measures(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[Measure]:
        """The accuracy over the examples that have answers."""
        known = [(example, answer.value) for example, answer in zip(examples, answers, strict=True)]
        scored = [(example, value) for example, value in known if value is not None]
        return [
            Measure(
                "accuracy",
                np.array([value for _, value in scored], np.float64),
                [example.key for example, _ in scored],
                [example.images[0] for example, _ in scored],
                [example.groups for example, _ in scored],
            )
        ]


def views_of(
    setup: Setup[Any], examples: Sequence[Example], photos: Sequence[Sequence[Photo]]
) -> list[tuple[View, ...]]:
    """For each example a view per photo: [CLS] text [SEP] tags [SEP] and the regions. `photos`: those of each."""
    tokenizer, limits = setup.tokenizer, (setup.model.max_text_tokens, setup.settings.text_tokens)
    names = sorted({tag for row in photos for photo in row for tag in photo.tags})
    tags = dict(zip(names, tokenizer.encode(names), strict=True))
    regions = {id(photo): setup.regions(photo) for row in photos for photo in row}
    texts = tokenizer.encode([example.text for example in examples])
    return [
        tuple(
            text_and_tags_view(
                pieces, [tags[tag] for tag in photo.tags], tokenizer, limits[0], regions[id(photo)], limits[1]
            )
            for photo in row
        )
        for pieces, row in zip(texts, photos, strict=True)
    ]


def json_result(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """A result file in JSON, a row a line."""
    return ("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]\n").encode()


def frequent(answers: Iterable[str], least: int) -> list[str]:
    """The answers that occur at least `least` times, the most frequent first."""
    counts = Counter(answers)
    return sorted((answer for answer, count in counts.items() if count >= least), key=lambda one: (-counts[one], one))


def require_answers(answers: list[str], least: int) -> list[str]:
    """`answers`. Raises UserError if there are none to learn."""
    if not answers:
        raise UserError(f"no answer occurs {least} times. Set task.min_answer_count lower, or name task.answers.")
    return answers


def read_answers(path: str) -> list[str]:
    """A JSON list of answers, as VQA's 3,129. Raises UserError for anything else."""
    found = document(path, "Name a JSON list of answers.")
    if isinstance(found, dict) and sorted(found.values(), key=str) == sorted(range(len(found)), key=str):
        found = sorted(found, key=lambda answer: found[answer])
    if not isinstance(found, list) or not found or not all(isinstance(answer, str) for answer in found):
        raise UserError(f"task.answers: {path}: expected a JSON list of answers, or an object of answer -> number.")
    if len(set(found)) != len(found):
        raise UserError(f"task.answers: {path}: an answer occurs twice.")
    return found


def number_or_text(key: str) -> int | str:
    """An id as the official files have it: digits are numbers."""
    return int(key) if len(key) < 20 and key.isdecimal() and str(int(key)) == key else key


def _places(labels: Labels) -> dict[str, int]:
    return {answer: place for place, answer in enumerate(labels["answers"])}
