"""VQA's files: what is read, what is counted as unusable, what is learned, the scores and the result file."""

import gzip
import json

import pytest
from tests.model.tasks.toy import lines, official, settings, write_json, write_regions

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.vqa import Vqa


def read(paths, training=True):
    log = RejectLog("finetune")
    examples, number = Vqa().read([str(path) for path in paths], TaskConfig(), log, training)
    assert number == len(examples) + log.total
    return examples, log.counts()


def test_official_files_are_read_plain_packed_or_from_a_folder(tmp_path):
    questions, annotations = official(2)
    plain = [write_json(tmp_path / "plain" / f"{n}.json", each) for n, each in enumerate([annotations, questions])]
    examples, rejects = read(plain)
    assert [(one.key, one.images, one.text) for one in examples[:2]] == [
        ("0", ("0",), "what is in it?"),
        ("1", ("0",), "a photo?"),
    ]
    assert examples[0].answers == ("dog",) * 7 + ("maybe",) * 3
    assert examples[0].groups == {"question type": "what is", "answer type": "other"}
    assert rejects == {}
    packed = tmp_path / "packed.json.gz"
    packed.write_bytes(gzip.compress(json.dumps({**annotations, **questions}).encode()))
    assert read([packed])[0] == read([tmp_path / "plain"])[0] == examples


def test_lines_with_answers_and_lists_of_answers(tmp_path):
    given = [{"question_id": "a", "image": "1.jpg", "question": "what?", "answer": ["chair", "table"]}]
    examples, _ = read([write_json(tmp_path / "x.jsonl", given)])
    assert examples[0].answers == ("chair, table",)
    assert Vqa().scores(examples[0]) == {"chair, table": 1.0}
    assert Vqa().value(examples[0], "Chair, table") == 1
    assert Vqa().value(examples[0], "chair") == 0


def test_unusable_records_are_counted(tmp_path):
    questions, annotations = official(3)
    questions["questions"] += [questions["questions"][0], {"question_id": 99, "image_id": 1, "question": " "}]
    annotations["annotations"][1]["answers"] = []
    annotations["annotations"][1]["multiple_choice_answer"] = ""
    del annotations["annotations"][2]
    annotations["annotations"].append({**annotations["annotations"][0], "question_id": 1000})
    examples, rejects = read(
        [write_json(tmp_path / f"{n}.json", each) for n, each in enumerate([questions, annotations])]
    )
    assert rejects == {
        "duplicate_id": 1, "empty_answer": 1, "missing_field": 1, "no_answer": 1, "unknown_question": 1,
    }  # fmt: skip
    assert len(examples) == 4


def test_files_of_different_splits_are_refused(tmp_path):
    questions, annotations = official(2)
    for each in annotations["annotations"]:
        each["question_id"] += 1000
    paths = [write_json(tmp_path / f"{n}.json", each) for n, each in enumerate([questions, annotations])]
    with pytest.raises(UserError, match="none of the 4 questions has an annotation; the files are of different splits"):
        read(paths)
    with pytest.raises(CallError, match="annotations without questions"):
        read(paths[1:])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"questions": [{"question_id": 1', "cannot be read as JSON"),
        ('{"images": [{"id": 3, "file_name": "a.jpg"}]}', "entry 1 of 'images': neither a question nor an annotation"),
        ("[]", "no questions in it"),
    ],
)
def test_other_files_are_refused_with_their_place(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=message):
        read([tmp_path / "x.json"])


def test_answers_of_ten_people_are_learned_if_nine_questions_have_them(tmp_path):
    questions, annotations = official(36)
    paths = [write_json(tmp_path / f"{n}.json", each) for n, each in enumerate([questions, annotations])]
    examples, _ = read(paths)
    task = Vqa()
    assert task.labels(examples, TaskConfig())["answers"] == ["yes", "boat", "cat", "dog", "kite"]
    assert task.labels(examples, TaskConfig(min_answer_count=10))["answers"] == ["yes"]
    with pytest.raises(UserError, match="no answer occurs 37 times"):
        task.labels(examples, TaskConfig(min_answer_count=37))
    given = write_json(tmp_path / "answers.json", ["yes", "no"])
    labels = task.labels(examples, TaskConfig(answers=given))
    assert labels == {"answers": ["yes", "no"]}
    assert [task.learnable(one, labels) for one in examples[:2]] == [False, True]
    assert task.scores(examples[0]) == {"dog": 1.0, "maybe": pytest.approx(0.9)}


def test_the_scores_and_the_result_file_of_a_run(tmp_path):
    regions = write_regions(tmp_path / "regions")
    questions, annotations = official()
    paths = [write_json(tmp_path / f"{n}.json", each) for n, each in enumerate([questions, annotations])]
    asked = settings(regions, paths, epochs=40, learning_rate=5e-3, min_answer_count=1)
    run = finetune(Vqa(), asked, str(tmp_path / "run"))
    scored = evaluate_run(run, "vqa")
    found = scored.to_json()
    assert found["scores"][0] == {"name": "accuracy", "units": 48, "value": 100.0, "low": 100.0, "high": 100.0}
    assert {(group["kind"], group["name"], group["units"]) for group in found["groups"]} == {
        ("question type", "what is", 24), ("question type", "a photo?", 24), ("answer type", "other", 48),
    }  # fmt: skip
    result = json.loads(scored.evaluation.result)
    assert result[:2] == [{"question_id": 0, "answer": "dog"}, {"question_id": 1, "answer": "yes"}]
    assert len(result) == 48
    assert scored.evaluation.note == ""
    other = [{**line, "answer": "a unicorn"} if line["question_id"] < 12 else line for line in lines()]
    scores = evaluate_run(run, "vqa", [write_json(tmp_path / "other.jsonl", other)])
    assert scores.evaluation.measures[0].value == 75
    assert scores.evaluation.note == (
        "12 of 48 examples have no right answer among the 5 learned ones; at best 75.00 can be reached"
    )
    # The test split has no annotations: nothing is scored, all is answered.
    test = evaluate_run(run, "vqa", paths[:1])
    assert [answer.value for answer in test.evaluation.answers] == [None] * 48
    assert test.evaluation.result == scored.evaluation.result
    with pytest.raises(CallError, match="scored on different examples"):
        scored.to_table(evaluate_run(run, "vqa", [write_json(tmp_path / "x.jsonl", lines(3))]))
    assert "ahead of the other" in scored.to_table(scored)


def test_answers_begin_unlikely(tmp_path):
    """Each as likely as one of all of them, so that the first steps are not spent on that."""
    regions = write_regions(tmp_path / "regions")
    train = write_json(tmp_path / "train.jsonl", lines())
    run = finetune(Vqa(), settings(regions, [train], steps=1, learning_rate=1e-9), str(tmp_path / "run"))
    likely = [answer.confidence or 0 for answer in evaluate_run(run, "vqa").evaluation.answers]
    assert all(0.16 < value < 0.25 for value in likely)  # the best of five that begin with the sigmoid of -log(5)
