"""`vlmixer finetune` and `vlmixer eval TASK`, from photos to the result file."""

import json
import shutil
from pathlib import Path

import pytest
from tests.model.tasks.toy import write_json, write_regions

from vlmixer.pipeline.commands.main import main

TINY = ["train.steps=3", "train.batch_size=8", "model.layers=1", "model.hidden_size=16", "model.heads=2",
        "model.feed_forward_size=16", "model.projection_size=8"]  # fmt: skip


def set_to(*assignments):
    return [part for text in assignments for part in ("--set", text)]


@pytest.fixture(scope="module")
def asked(small_run, tmp_path_factory):
    """A copy of the small run's result with a trained network, questions about its photos, and the config."""
    folder = tmp_path_factory.mktemp("finetune")
    out = Path(shutil.copytree(small_run.folder / "out", folder / "out"))
    assert main(["train", str(small_run.write_config()), *set_to(*TINY, f"out={out}")]) == 0
    rows = [
        {"question_id": n, "image": f"{n:04d}.jpg", "question": "which toy?", "answer": "dog" if n % 2 else "kite"}
        for n in range(60)
    ]
    questions = [write_json(folder / name, each) for name, each in (("a.jsonl", rows[:40]), ("b.jsonl", rows[40:]))]
    task = {"init": str(out / "run"), "train": questions[:1], "validation": questions[1:], "workers": 0, "epochs": 2}
    return out, small_run.write_config("finetune.yaml", task={**task, "batch_size": 8}, out=str(out)), questions


@pytest.fixture(scope="module")
def tuned(asked):
    assert main(["finetune", "vqa", str(asked[1]), "--workers", "1"]) == 0
    return asked[0] / "vqa"


def test_a_finetuned_run_is_scored_compared_and_its_result_written(asked, tuned, call, answer, tmp_path):
    found = answer("eval", "vqa", "--run", tuned, "--result", tmp_path / "r.json", "--html", tmp_path / "p.html")
    assert found["counts"] == {"read": 20, "written": 20, "rejected": {}}
    assert [score["name"] for score in found["scores"]] == ["accuracy"]
    rows = json.loads(Path(tmp_path, "r.json").read_text())
    assert sorted(row["question_id"] for row in rows) == list(range(40, 60))
    assert "0040.jpg" in Path(tmp_path, "p.html").read_text()
    code, printed, _ = call("eval", "vqa", "--run", tuned, "--against", tuned, "--split", "train")
    assert code == 0
    assert "40 examples" in printed
    assert "accuracy, ahead of the other" in printed
    assert call("verify", tuned)[0] == 0
    assert call("verify", asked[0])[0] == 0


def test_a_finished_run_is_kept_and_another_needs_resume_or_out(asked, tuned, call):
    before = Path(tuned, "manifest.json").read_bytes()
    code, _, said = call("finetune", "vqa", asked[1], "--workers", 1)
    assert code == 2
    assert "already holds a run (step 10 of 10). Continue it with --resume" in said
    code, _, said = call("finetune", "vqa", asked[1], "--workers", 1, "--resume")
    assert code == 0
    assert "is finished (10 steps); nothing to do." in said
    assert Path(tuned, "manifest.json").read_bytes() == before


def test_a_dry_run_reads_everything_and_writes_nothing(asked, call, tmp_path):
    code, printed, said = call("finetune", "vqa", asked[1], "--dry-run", "--out", tmp_path / "x")
    assert code == 0
    assert "concepts of" not in said
    assert "fine-tuning for visual question answering (VQA v2): 40 examples, 2 answers" in printed
    assert not (tmp_path / "x").exists()
    before = call("finetune", "vqa", asked[1], "--dry-run", *set_to(f"out={tmp_path / 'new'}"))
    assert before[0] == 0
    assert "fine-tuning for" not in before[1]  # the photos' regions are yet to be found
    assert not (tmp_path / "new").exists()


def test_tags_of_another_vocabulary_get_a_warning(asked, call, tmp_path):
    regions = write_regions(tmp_path / "regions", photos=40, name=lambda photo: f"{photo:04d}.jpg")
    _, _, said = call("finetune", "vqa", asked[1], "--dry-run", *set_to(f"task.regions={regions}"))
    assert "the regions have concepts of v, but" in said


def test_wrong_calls_are_one_message(asked, tuned, call, tmp_path):
    out, config, questions = asked
    for arguments, code, message in [
        (["finetune", "vqa", config, *set_to("task.epoch=2")], 2, "unknown key 'epoch'; did you mean 'epochs'?"),
        (["finetune", "vqa", config, *set_to("task.train=[]")], 2, "task.train: empty"),
        (["finetune", "gqa", config, "--out", tmp_path / "x"], 1, "entry 1: not a question. Expected GQA's"),
        (["finetune", "vqa", config, "--out", tmp_path / "x", *set_to("task.regions=/nowhere")], 2, "/nowhere has no"),
        (["eval", "gqa", "--run", tuned], 2, "is fine-tuned for vqa, not for gqa"),
        (["eval", "vqa", "--run", out / "run"], 2, "holds what stage 'train' wrote, expected the folder of stage"),
        (["eval", "vqa", "--run", tmp_path], 1, "there is no finished run"),
        (["eval", "vqa", "--run", tuned, "--regions", tmp_path], 2, "has no manifest.json"),
        (
            ["finetune", "vqa", config, "--out", tmp_path / "x", *set_to("model.layers=7")],
            2,
            "model.layers: 7, but the",
        ),
    ]:
        found, _, said = call(*arguments)
        assert (found, message in said) == (code, True), f"{arguments}: {said}"
        assert "Traceback" not in said
    assert not (tmp_path / "x" / "manifest.json").exists()
    absent = write_json(
        tmp_path / "absent.jsonl", [{"question_id": 1, "image": "z.jpg", "question": "?", "answer": "a"}]
    )
    code, _, said = call("eval", "vqa", "--run", tuned, absent, questions[1])
    assert code == 0
    assert "not used: 1 missing_photo" in said
    code, _, said = call("eval", "vqa", "--run", tuned, absent)
    assert code == 1
    assert "1 of 1 examples cannot be used" in said
