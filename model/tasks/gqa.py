"""GQA: compositional questions about a photo, one answer each, scored by exact match.

Reads the official objects of question id -> {imageId, question, answer, isBalanced, types}, and folders of them, as
"all" is distributed. Everything is trained on; where a file has balanced questions, these alone are scored.
"""

from collections.abc import Sequence

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.texts import encodable
from vlmixer.model.tasks.base import Answer, Example, Labels
from vlmixer.model.tasks.classification import Classification, frequent, json_result, read_answers, require_answers
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import Entry, entries, expand

_FORMAT = "Expected GQA's questions: an object of question id -> {imageId, question, answer, …}."


class Gqa(Classification):
    """Questions with one answer."""

    name, title = "gqa", "compositional questions (GQA)"

    def read(
        self, paths: Sequence[str], settings: TaskConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        found: dict[str, Example] = {}
        unbalanced: list[tuple[str, str]] = []
        read = 0
        for path in expand(paths, "task.train"):
            before = read
            for entry in entries(path):
                # The questions of VQA and others are lists, and have ids of their own.
                fields = entry.value if isinstance(entry.value, dict) else {}
                if "question" not in fields or "question_id" in fields or not entry.name:
                    raise UserError(f"{entry.where}: not a question. {_FORMAT}")
                read += 1
                example = _example(entry, training, log)
                if example is None:
                    continue
                if example.key in found:
                    log.add(path, example.key, "duplicate_id", "the question's id occurs twice; the first is used")
                    continue
                found[example.key] = example
                if entry.value.get("isBalanced") is False:
                    unbalanced.append((path, example.key))
            if before == read:
                raise UserError(f"{path}: no questions in it. {_FORMAT}")
        if not training and len(unbalanced) < len(found):
            for path, key in unbalanced:
                del found[key]
                log.add(path, key, "not_balanced")
        return list(found.values()), read

    def labels(self, examples: Sequence[Example], settings: TaskConfig) -> Labels:
        if settings.answers is not None:
            return {"answers": read_answers(settings.answers)}
        least = settings.min_answer_count or 1
        answers = frequent((answer for example in examples for answer in example.answers), least)
        return {"answers": require_answers(answers, least)}

    def value(self, example: Example, answer: str) -> float | None:
        return float(answer in example.answers) if example.answers else None

    def result(self, examples: Sequence[Example], answers: Sequence[Answer]) -> bytes:
        pairs = zip(examples, answers, strict=True)
        return json_result([{"questionId": example.key, "prediction": answer.answer} for example, answer in pairs])


def _example(entry: Entry, training: bool, log: RejectLog) -> Example | None:
    """The example of a question; None if it cannot be used."""
    image, text, answer = entry.identifier("imageId"), entry.text("question"), entry.text("answer")
    if not image or not text:
        log.add(entry.path, entry.name, "missing_field", "no imageId" if text else "an empty question")
        return None
    if "answer" in entry.value and not answer:
        log.add(entry.path, entry.name, "empty_answer")
        return None
    if training and not answer:
        log.add(entry.path, entry.name, "no_answer", "a question of a test split?")
        return None
    types = entry.field("types")
    groups = {}
    if isinstance(types, dict):
        groups = {f"{kind} type": encodable(str(types[kind])) for kind in ("structural", "semantic") if types.get(kind)}
        if "structural type" in groups:  # as the official evaluation has it
            groups["answer type"] = "open" if groups["structural type"] == "query" else "binary"
    return Example(entry.name, (image,), text, (answer,) if answer else (), groups)
