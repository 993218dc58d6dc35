"""GQA, NLVR2 and SNLI-VE: their official files, what is unusable, scores, result files, end to end on toy photos."""

import json

import pytest
from tests.model.tasks.toy import concept_of, settings, write_json, write_regions

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import RejectLog
from vlmixer.model.finetuning import finetune
from vlmixer.model.tasks import TASKS, find_task
from vlmixer.model.tasks.base import Answer
from vlmixer.model.tasks.config import TaskConfig
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.gqa import Gqa
from vlmixer.model.tasks.nlvr2 import Nlvr2
from vlmixer.model.tasks.snli_ve import SnliVe


def read(task, path, training=True):
    log = RejectLog("finetune")
    examples, number = task.read([str(path)], TaskConfig(), log, training)
    assert number == len(examples) + log.total
    return examples, log.counts()


def gqa_file(photos=24, **changes):
    """Questions as GQA has them, in the official fields."""
    return {
        f"q{photo:03d}": {
            "imageId": str(photo), "question": "What animal is it?", "answer": concept_of(photo),
            "fullAnswer": f"It is a {concept_of(photo)}.", "isBalanced": photo % 3 > 0,
            "groups": {"global": "animal", "local": "x"}, "entailed": [], "equivalent": [f"q{photo:03d}"],
            "types": {"structural": "query" if photo % 2 else "verify", "semantic": "obj", "detailed": "categoryThis"},
            "semantic": [], "semanticStr": "", "annotations": {}, **changes,
        }
        for photo in range(photos)
    }  # fmt: skip


def test_gqa_is_trained_on_everything_and_scored_on_the_balanced_questions(tmp_path):
    path = write_json(tmp_path / "all" / "train_0.json", gqa_file(6))
    write_json(tmp_path / "all" / "train_1.json", {"z1": {"imageId": "1", "question": "?", "answer": "x", "types": {}}})
    assert len(read(Gqa(), tmp_path / "all")[0]) == 7
    scored, rejects = read(Gqa(), path, training=False)
    assert [one.key for one in scored] == ["q001", "q002", "q004", "q005"]
    assert rejects == {"not_balanced": 2}
    assert scored[0].groups == {"structural type": "query", "semantic type": "obj", "answer type": "open"}
    assert [Gqa().value(scored[0], answer) for answer in ("cat", "cats", "Cat")] == [1, 0, 0]
    assert read(Gqa(), write_json(tmp_path / "x.json", gqa_file(2, answer="")))[1] == {"empty_answer": 2}
    with pytest.raises(UserError, match=r"entry 1 of 'questions': not a question. Expected GQA's questions"):
        read(Gqa(), write_json(tmp_path / "vqa.json", {"questions": [{"question_id": 1, "question": "?"}]}))


def nlvr2_lines(sets=6, pairs=4):
    """Sentences as NLVR2 has them: of each set, a sentence that is true of every second pair."""
    return [
        {
            "sentence": "one of the photos shows a dog", "label": str(pair % 2 == 0), "synset": "dog",
            "identifier": f"dev-{group}-{pair}-0", "left_url": "", "right_url": "", "query": "dogs", "writer": "1",
            "validation": {}, "extra_validations": {},
        }
        for group in range(sets)
        for pair in range(pairs)
    ]  # fmt: skip


def test_nlvr2_reads_two_photos_a_sentence(tmp_path):
    examples, _ = read(Nlvr2(), write_json(tmp_path / "dev.jsonl", nlvr2_lines(1, 2)))
    assert [(one.key, one.images, one.answers, one.details) for one in examples] == [
        ("dev-0-0-0", ("dev-0-0-img0", "dev-0-0-img1"), ("True",), "dev-0-0"),
        ("dev-0-1-0", ("dev-0-1-img0", "dev-0-1-img1"), ("False",), "dev-0-0"),
    ]
    first = {"sentence": "a box", "label": "true", "identifier": "1572-3", "image": "dev-1572-0-3.png"}
    (one,), _ = read(Nlvr2(), write_json(tmp_path / "nlvr.jsonl", [first]))
    assert (one.images, one.answers, one.details) == (("dev-1572-0-3.png",) * 2, ("True",), "1572-")
    odd = [{"sentence": "a", "label": "maybe", "identifier": "dev-0-0-0"}, {"sentence": "a", "identifier": "x"}]
    assert read(Nlvr2(), write_json(tmp_path / "odd.jsonl", odd))[1] == {"missing_field": 1, "unknown_answer": 1}


def test_a_sentence_is_consistent_if_all_its_pairs_are_right(tmp_path):
    examples, _ = read(Nlvr2(), write_json(tmp_path / "dev.jsonl", nlvr2_lines(3, 4)))
    answers = [Answer("True", 1.0)] * 7 + [Answer("True", 0.0)] + [Answer("True", 1.0)] * 4
    accuracy, consistency = Nlvr2().measures(examples, answers)
    assert accuracy.value == pytest.approx(100 * 11 / 12)
    assert consistency.value == pytest.approx(100 * 2 / 3)
    assert consistency.units == ["dev-0-0", "dev-1-0", "dev-2-0"]
    assert accuracy.photos == ["dev-0"] * 4 + ["dev-1"] * 4 + ["dev-2"] * 4
    assert Nlvr2().result(examples[:2], answers[:2]) == b"dev-0-0-0,True\ndev-0-1-0,True\n"


def snli_lines(photos=24):
    """Pairs as SNLI-VE has them."""
    labels = {"dog": "entailment", "cat": "contradiction", "kite": "neutral", "boat": "neutral"}
    return [
        {
            "Flikr30kID": str(photo), "captionID": f"{photo}.jpg#0", "pairID": f"{photo}.jpg#0r1n",
            "sentence1": "A photo.", "sentence2": "A dog is there.", "gold_label": labels[concept_of(photo)],
            "annotator_labels": [],
        }
        for photo in range(photos)
    ]  # fmt: skip


def test_snli_ve_reads_the_hypothesis_and_leaves_out_pairs_without_a_label(tmp_path):
    pairs = snli_lines(4)
    pairs[3]["gold_label"] = "-"
    examples, rejects = read(SnliVe(), write_json(tmp_path / "dev.jsonl", pairs))
    assert [(one.images, one.text, one.answers) for one in examples] == [
        (("0",), "A dog is there.", ("entailment",)),
        (("1",), "A dog is there.", ("contradiction",)),
        (("2",), "A dog is there.", ("neutral",)),
    ]
    assert rejects == {"unknown_answer": 1}


@pytest.mark.parametrize("name", ["gqa", "snli_ve"])
def test_a_run_learns_the_task_and_writes_the_result_file(name, tmp_path):
    regions = write_regions(tmp_path / "regions")
    files = {"gqa": ("train.json", gqa_file()), "snli_ve": ("train.jsonl", snli_lines())}
    path = write_json(tmp_path / files[name][0], files[name][1])
    task = find_task(name)
    run = finetune(task, settings(regions, [path], epochs=60, learning_rate=5e-3), str(tmp_path / "run"))
    scored = evaluate_run(run, name)
    assert scored.evaluation.measures[0].value == 100
    rows = json.loads(scored.evaluation.result)
    if name == "gqa":
        assert rows[0] == {"questionId": "q001", "prediction": "cat"}
        assert len(rows) == 16
    else:
        assert rows[0] == {"pairID": "0.jpg#0r1n", "prediction": "entailment"}


def test_nlvr2_runs_end_to_end_with_two_views_a_sentence(tmp_path):
    # Photo n is that of side n % 2 of pair n // 2: the left one of every second pair shows a dog.
    def name(photo):
        return f"images/dev-{photo // 8}-{photo // 2 % 4}-img{photo % 2}.png"

    regions = write_regions(tmp_path / "regions", photos=48, name=name)
    path = write_json(tmp_path / "dev.jsonl", nlvr2_lines())
    run = finetune(Nlvr2(), settings(regions, [path], epochs=60, learning_rate=5e-3), str(tmp_path / "run"))
    scored = evaluate_run(run, "nlvr2")
    assert [measure.value for measure in scored.evaluation.measures] == [100, 100]
    assert scored.evaluation.result.decode().splitlines()[0] == "dev-0-0-0,True"
    assert scored.evaluation.ending == ".csv"


def test_the_table_of_tasks_names_each_by_its_own_name():
    assert [find_task(name).name for name in TASKS] == list(TASKS)
