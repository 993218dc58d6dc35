"""NLVR2: whether a sentence is true of two photos. Also reads NLVR's first edition, which has one picture a sentence.

Each photo makes a sequence with the sentence; the states of both go into the head side by side. A picture of NLVR is
read as both photos. Consistency is the share of sentences that are right for all their pairs.
"""

from collections.abc import Sequence

import numpy as np

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.texts import encodable
from vlmixer.model.tasks.base import Answer, Example, Labels
from vlmixer.model.tasks.classification import Classification
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import Entry, entries, expand
from vlmixer.model.tasks.scores import Measure

LABELS = ("False", "True")
_FORMAT = "Expected NLVR2's lines of {sentence, identifier, label}, or NLVR's, with an image."


class Nlvr2(Classification):
    """A sentence about two photos."""

    name, title, photos, ending = "nlvr2", "reasoning about two photos (NLVR2)", 2, ".csv"

    def read(
        self, paths: Sequence[str], settings: TaskConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        found: dict[str, Example] = {}
        read = 0
        for path in expand(paths, "task.train"):
            for entry in entries(path):
                if not isinstance(entry.value, dict) or "sentence" not in entry.value:
                    raise UserError(f"{entry.where}: not a sentence. {_FORMAT}")
                read += 1
                key, text = entry.identifier("identifier"), entry.text("sentence")
                images, sentence = _photos(entry, key)
                label = entry.field("label")
                label = "" if label is None else encodable(str(label)).strip().capitalize()
                if not images or not text:
                    log.add(path, key, "missing_field", "no identifier of two photos" if text else "an empty sentence")
                elif key in found:
                    log.add(path, key, "duplicate_id", "the identifier occurs twice; the first is used")
                elif label not in LABELS and (training or label):
                    log.add(path, key, "unknown_answer" if label else "no_answer", label)
                else:
                    found[key] = Example(key, images, text, (label,) if label else (), {}, sentence)
        if not read:
            raise UserError(f"{', '.join(paths)}: no sentences. {_FORMAT}")
        return list(found.values()), read

    def labels(self, examples: Sequence[Example], settings: TaskConfig) -> Labels:
        return {"answers": list(LABELS)}

    def value(self, example: Example, answer: str) -> float | None:
        return float(answer in example.answers) if example.answers else None

    def result(self, examples: Sequence[Example], answers: Sequence[Answer]) -> bytes:
        rows = sorted(f"{example.key},{answer.answer}\n" for example, answer in zip(examples, answers, strict=True))
        return "".join(rows).encode()

    def measures(self, examples: Sequence[Example], answers: Sequence[Answer]) -> list[Measure]:
        """Accuracy, and consistency. What was asked of one set of photos is drawn together."""
        accuracy = super().measures(examples, answers)[0]
        sentences: dict[str, list[float]] = {}
        for example, answer in zip(examples, answers, strict=True):
            if answer.value is not None:
                sentences.setdefault(example.details, []).append(answer.value)
        values = np.array([min(each) for each in sentences.values()], np.float64)
        sets = [sentence.rpartition("-")[0] for sentence in sentences]
        of_set = [_sentence(unit).rpartition("-")[0] for unit in accuracy.units]
        return [
            Measure("accuracy", accuracy.values, accuracy.units, of_set),
            Measure("consistency", values, list(sentences), sets),
        ]


def _photos(entry: Entry, key: str) -> tuple[tuple[str, ...], str]:
    """The names of the two photos, () if they are unknown; and what the sentence is called without its pair."""
    if image := entry.identifier("image"):
        return ((image, image) if key else ()), _sentence(key)
    split, _, _ = key.rpartition("-")
    if len(key.split("-")) < 4:
        return (), key
    return (f"{split}-img0", f"{split}-img1"), _sentence(key)


def _sentence(key: str) -> str:
    """NLVR2's "dev-850-2-0" is sentence 0 of set 850 with pair 2, and NLVR's "1572-0" is sentence 1572 with picture 0;
    the sentences are "dev-850-0" and "1572-"."""
    parts = key.split("-")
    return "-".join([*parts[:-2], parts[-1]]) if len(parts) >= 4 else f"{parts[0]}-"
