"""Official files of the tasks that somebody made in malice: one message or a count, never a traceback."""

import gzip
import json

import pytest

from vlmixer.artifacts.errors import UserError
from vlmixer.artifacts.rejects import CappedRejects
from vlmixer.artifacts.texts import blank_lines
from vlmixer.model.tasks import find_task
from vlmixer.model.tasks.base import Answer
from vlmixer.model.tasks.classification import read_answers
from vlmixer.model.tasks.files import entries

HALF = "\ud800"
"""Half a surrogate pair: JSON can hold it, UTF-8 cannot."""

LINES = {
    "vqa": {"question_id": HALF, "image": HALF, "question": HALF, "answers": [{"answer": HALF}], "answer": HALF},
    "nlvr2": {"sentence": HALF, "identifier": f"{HALF}-1-2-0", "label": True},
    "snli_ve": {"Flikr30kID": HALF, "pairID": HALF, "sentence2": HALF, "gold_label": "neutral"},
    "refcoco": {"image": HALF, "expression": HALF, "bbox": [0, 0, 1, 1], "split": "train"},
    "captioning": {"image": HALF, "captions": [HALF]},
    "retrieval": {"image": HALF, "captions": [HALF]},
    "gqa": {HALF: {"imageId": HALF, "question": HALF, "answer": HALF, "types": {"semantic": HALF}}},
}


@pytest.mark.parametrize("name", LINES)
def test_texts_that_no_file_can_hold_get_question_marks(tmp_path, name):
    path, task = tmp_path / "a.json", find_task(name)
    path.write_text(json.dumps(LINES[name]) + "\n")
    if name != "gqa":
        path = path.rename(tmp_path / "a.jsonl")
    log = CappedRejects("finetune")
    (example,), _ = task.read([str(path)], task.config(), log, training=True)
    known = [example.key, *example.images, example.text, *example.answers, *example.groups.values()]
    assert "?" in "".join(known).encode().decode()


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_blank_lines_are_counted_together(tmp_path, monkeypatch, pack):
    path = tmp_path / ("a.jsonl" if pack is bytes else "a.jsonl.gz")
    path.write_bytes(pack(b"[1]\n" + b"\n \n\t\r\n" * 50_000 + b"[2]\n\n[3]"))
    reads = []
    monkeypatch.setattr("vlmixer.model.tasks.files.blank_lines", lambda *call: reads.append(call) or blank_lines(*call))
    assert [(entry.number, entry.value) for entry in entries(str(path))] == [(1, [1]), (150_002, [2]), (150_004, [3])]
    assert len(reads) < 1000


def test_an_id_of_many_digits_is_a_text_in_the_result_file(tmp_path):
    path, task = tmp_path / "a.jsonl", find_task("vqa")
    path.write_text(json.dumps({"question_id": "9" * 5000, "image": "a", "question": "what?", "answer": "dog"}) + "\n")
    examples, _ = task.read([str(path)], task.config(), CappedRejects("eval"), training=False)
    assert json.loads(task.result(examples, [Answer("dog")]))[0]["question_id"] == "9" * 5000  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "good", "key"),
    [
        ("vqa", {"answers": ["dog", "cat"]}, "answers"),
        ("nlvr2", {"answers": ["False", "True"]}, "answers"),
        ("retrieval", {"temperature": 0.1, "texts": 3, "photos": 0}, "texts"),
        ("retrieval", {"temperature": 0.1, "texts": 3, "photos": 0}, "temperature"),
        ("captioning", {"images": 3, "runs": {"a dog": 2}}, "runs"),
    ],
)
def test_forged_labels_of_a_run_are_refused(name, good, key):
    task = find_task(name)
    assert task.are_labels(good)
    for bad in (None, [], -1, "x", ["dog", "dog"], ["dog", {}], [None], {"a": None}, True, float("inf"), 10**12):
        assert not task.are_labels({**good, key: bad}) or (key, bad) == ("temperature", 10**12)


def test_learned_answers_are_texts_that_a_file_can_hold(tmp_path):
    (tmp_path / "answers.json").write_text(json.dumps(["dog", HALF]))
    with pytest.raises(UserError, match="damaged"):
        read_answers(str(tmp_path / "answers.json"))


@pytest.mark.parametrize("ending", ["json.gz", "jsonl.gz"])
def test_a_packed_file_of_equal_lines_ends(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    with gzip.open(path, "wb", 9) as file:
        for _ in range(80):
            file.write(b" " * (1 << 20))
    with pytest.raises(UserError, match=r"more than 200 times its size|has more than"):
        list(entries(str(path)))
