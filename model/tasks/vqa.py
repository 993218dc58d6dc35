"""VQA v2, and question files of its kind: soft scores of ten answers, the official normalisation and accuracy.

Reads the official questions and annotations, together or apart, and lines of {question_id, image, question, answer},
as DAQUAR is distributed in; `answer` may be a list. There the answer must be the same, after the normalisation.
"""

from collections.abc import Sequence

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.artifacts.texts import encodable
from vlmixer.model.tasks.answers import accuracy, common_answers, normalise, soft_scores
from vlmixer.model.tasks.base import Answer, Example, Labels
from vlmixer.model.tasks.classification import (
    Classification,
    frequent,
    json_result,
    number_or_text,
    read_answers,
    require_answers,
)
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.files import Entry, entries, expand

PEOPLE = 10
LEAST = 9
"""How often an answer of ten people occurs to be learned (VQA's papers)."""
_FORMATS = (
    "Expected VQA's questions (question_id, image_id, question) and annotations (question_id, answers), or lines of "
    '{"question_id": …, "image": …, "question": …, "answer": …}.'
)


class Vqa(Classification):
    """Open questions about a photo."""

    name, title, soft = "vqa", "visual question answering (VQA v2)", True

    def read(
        self, paths: Sequence[str], settings: TaskConfig, log: RejectLog, training: bool
    ) -> tuple[list[Example], int]:
        questions: dict[str, Entry] = {}
        annotations: dict[str, Entry] = {}
        read = 0
        for path in expand(paths, "task.train"):
            before = len(questions) + len(annotations) + log.total
            for entry in entries(path):
                if not isinstance(entry.value, dict) or entry.name in ("info", "license"):
                    continue
                key, asks = entry.identifier("question_id"), "question" in entry.value
                answers = any(name in entry.value for name in ("answer", "answers", "multiple_choice_answer"))
                if not key or not (asks or answers):
                    raise UserError(f"{entry.where}: neither a question nor an annotation. {_FORMATS}")
                read += asks
                if (asks and key in questions) or (answers and key in annotations):
                    read += not asks
                    log.add(path, key, "duplicate_id", "question_id occurs twice; the first is used")
                    continue
                questions |= {key: entry} if asks else {}
                annotations |= {key: entry} if answers else {}
            if before == len(questions) + len(annotations) + log.total:
                raise UserError(f"{path}: no questions in it. {_FORMATS}")
        if not questions:
            raise CallError(f"{', '.join(paths)}: annotations without questions. Name the file of questions, too.")
        found = [example for key, entry in questions.items() if (example := _example(key, entry, annotations, log))]
        if annotations and not any(key in annotations for key in questions):
            raise UserError(
                f"{', '.join(paths)}: none of the {len(questions):,} questions has an annotation; the files are of "
                "different splits. Name those of one split."
            )
        for key, entry in annotations.items():
            if key not in questions:
                read += 1
                log.add(entry.path, key, "unknown_question", "an annotation without its question")
        if training:
            for example in found:
                if not example.answers:
                    log.add(questions[example.key].path, example.key, "no_answer", "no annotation")
            found = [example for example in found if example.answers]
        return found, read

    def labels(self, examples: Sequence[Example], settings: TaskConfig) -> Labels:
        if settings.answers is not None:
            return {"answers": read_answers(settings.answers)}
        several = any(len(example.answers) == PEOPLE for example in examples)
        least = settings.min_answer_count or (LEAST if several else 1)
        found = [example.details for example in examples]
        return {"answers": require_answers(common_answers(found, least) if several else frequent(found, least), least)}

    def scores(self, example: Example) -> dict[str, float]:
        return soft_scores(example.answers) if len(example.answers) == PEOPLE else {example.details: 1.0}

    def value(self, example: Example, answer: str) -> float | None:
        if not example.answers:
            return None
        if len(example.answers) == PEOPLE:
            return accuracy(answer, example.answers)
        return float(normalise(answer) in {normalise(each) for each in example.answers})

    def result(self, examples: Sequence[Example], answers: Sequence[Answer]) -> bytes:
        return json_result(
            [
                {"question_id": number_or_text(example.key), "answer": answer.answer}
                for example, answer in zip(examples, answers, strict=True)
            ]
        )


def _example(key: str, entry: Entry, annotations: dict[str, Entry], log: RejectLog) -> Example | None:
    """The example of a question; None if it cannot be used."""
    image, text = entry.identifier("image_id", "image"), entry.text("question")
    if not image or not text:
        log.add(entry.path, key, "missing_field", "no image" if text else "an empty question")
        return None
    note = annotations.get(key)
    answers, main = _answers(note) if note else ((), "")
    if note and not answers:
        log.add(note.path, key, "empty_answer", "an annotation without an answer")
        return None
    kinds = {"question type": "question_type", "answer type": "answer_type"}
    groups = {kind: note.text(name) for kind, name in kinds.items() if note and note.text(name)}
    return Example(key, (image,), text, answers, groups, main)


def _answers(note: Entry) -> tuple[tuple[str, ...], str]:
    """The answers that people gave, as they gave them, and the one that is counted for the vocabulary."""
    given = note.field("answers")
    listed = (
        [each.get("answer") if isinstance(each, dict) else each for each in given] if isinstance(given, list) else []
    )
    texts = tuple(encodable(answer) for answer in listed if isinstance(answer, str) and answer.strip())
    alone = note.field("answer")
    if isinstance(alone, list):
        alone = ", ".join(each for each in alone if isinstance(each, str))
    if not texts and isinstance(alone, str) and alone.strip():
        texts = (encodable(alone).strip().lower(),)
    main = note.text("multiple_choice_answer") or (texts[0] if texts else "")
    return texts, main
