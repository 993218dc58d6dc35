"""SNLI-VE: whether a photo entails a sentence, contradicts it, or neither. Reads the official lines of JSON."""

from collections.abc import Sequence

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.tasks.base import Answer, Example, Labels
from vlmixer.model.tasks.classification import Classification, json_result
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import entries, expand

LABELS = ("entailment", "neutral", "contradiction")
_FORMAT = "Expected SNLI-VE's lines of {Flikr30kID, pairID, sentence2, gold_label}."


class SnliVe(Classification):
    """A photo and a sentence about it."""

    name, title = "snli_ve", "visual entailment (SNLI-VE)"

    def read(
        self, paths: Sequence[str], settings: TaskConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        found: dict[str, Example] = {}
        read = 0
        for path in expand(paths, "task.train"):
            for entry in entries(path):
                # "Flikr" is how the official files spell it.
                image, key = entry.identifier("Flikr30kID", "Flickr30kID"), entry.identifier("pairID")
                if not isinstance(entry.value, dict) or not key or "sentence2" not in entry.value:
                    raise UserError(f"{entry.where}: not a pair. {_FORMAT}")
                read += 1
                text, label = entry.text("sentence2"), entry.text("gold_label")
                if not image or not text:
                    log.add(path, key, "missing_field", "no Flikr30kID" if text else "an empty sentence")
                elif key in found:
                    log.add(path, key, "duplicate_id", "pairID occurs twice; the first is used")
                elif label not in LABELS and (training or label):
                    log.add(path, key, "unknown_answer" if label else "no_answer", label)
                else:
                    found[key] = Example(
                        key, (image,), text, (label,) if label else (), {"label": label} if label else {}
                    )
        if not read:
            raise UserError(f"{', '.join(paths)}: no pairs. {_FORMAT}")
        return list(found.values()), read

    def labels(self, examples: Sequence[Example], settings: TaskConfig) -> Labels:
        return {"answers": list(LABELS)}

    def value(self, example: Example, answer: str) -> float | None:
        return float(answer in example.answers) if example.answers else None

    def result(self, examples: Sequence[Example], answers: Sequence[Answer]) -> bytes:
        pairs = zip(examples, answers, strict=True)
        return json_result([{"pairID": example.key, "prediction": answer.answer} for example, answer in pairs])
