"""A fine-tuned run: its files, that it learns to look, that it resumes to the same bytes, and what it refuses."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import pytest
import yaml
from tests.model.runs import Killed, losses
from tests.model.tasks.toy import DIM, MODEL, SHORT, lines, settings, write_json, write_regions

from vlmixer.artifacts import manifest
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.rejects import read_rejects
from vlmixer.artifacts.stages import FINETUNE
from vlmixer.model.finetuning import finetune, load_finetuned
from vlmixer.model.tasks.data import Encoding, TaskLoader
from vlmixer.model.tasks.evaluation import evaluate_run
from vlmixer.model.tasks.photos import Regions
from vlmixer.model.tasks.vqa import Vqa
from vlmixer.pipeline.verification.verify import verify


@pytest.fixture(scope="module")
def regions(tmp_path_factory):
    return write_regions(tmp_path_factory.mktemp("tasks") / "regions")


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    return write_json(tmp_path_factory.mktemp("tasks") / "train.jsonl", lines())


@pytest.fixture(scope="module")
def short(regions, questions):
    return settings(regions, [questions], steps=12)


@pytest.fixture(scope="module")
def straight(short, tmp_path_factory):
    return finetune(Vqa(), short, str(tmp_path_factory.mktemp("tasks") / "run"))


def test_a_run_leaves_what_is_needed_to_use_it(straight):
    names = ["README.md", "checkpoints", "config.yaml", "labels.json", "log.jsonl", "manifest.json"]
    assert sorted(os.listdir(straight)) == [*names, "model.safetensors", "photos.json", "tokenizer.json"]
    assert json.loads(Path(straight, "photos.json").read_text()) == sorted(f"{number}.jpg" for number in range(24))
    assert yaml.safe_load(Path(straight, "config.yaml").read_text())["finetune"] == "vqa"
    assert json.loads(Path(straight, "labels.json").read_text())["answers"] == ["yes", "boat", "cat", "dog", "kite"]
    found = manifest.read(straight, FINETUNE)
    assert (found.details.task, found.details.steps, found.details.feature_dim) == ("vqa", 12, DIM)
    assert vars(found.counts["examples"]) == {"read": 48, "written": 48, "rejected": {}}


def test_the_card_says_what_the_run_was_and_its_program_runs(straight, tmp_path):
    card = Path(straight, "README.md").read_text(encoding="utf-8")
    _, head, text = card.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "vlmixer", "pipeline_tag": "visual-question-answering",
        "tags": ["vlmixer", "vlmixer-run", "vqa"],
    }  # fmt: skip
    last = losses(straight)[-1]
    assert text.startswith("\n# Visual question answering (VQA v2)\n")
    assert "| data | 48 of 48 examples; their files, with hashes, are in `manifest.json` |" in card
    assert "| answers | 5, in `labels.json` |" in card
    assert f"| photos | regions with features {DIM} wide |\n| tags | detector |" in card
    assert "| start | random |\n| training | 12 steps of 8 examples, learning rate 0.0005, seed 1 |" in card
    assert f"| loss | {last['loss']:.4f} |" in card
    assert "samples per second" not in card
    (tmp_path / "run").symlink_to(straight)
    (program,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    weights = sum(value.numel() for value in load_finetuned(straight).network.parameters())
    assert done.stdout == f"visual question answering (VQA v2) {weights}\n"
    Path(straight, "README.md").write_text(card + "of our own")
    load_finetuned(straight)  # the card may be changed
    Path(straight, "README.md").write_text(card)


def test_it_learns_to_look(regions, questions, tmp_path):
    sees = settings(regions, [questions], tags="none", epochs=40, learning_rate=5e-3)
    assert evaluate_run(finetune(Vqa(), sees, str(tmp_path / "sees")), "vqa").evaluation.measures[0].value == 100
    blind = replace(sees, task=replace(sees.task, regions="none"))
    value = evaluate_run(finetune(Vqa(), blind, str(tmp_path / "blind")), "vqa").evaluation.measures[0].value
    assert value == pytest.approx(100 * (24 + 6) / 48)
    shuffled = replace(sees, task=replace(sees.task, shuffled_photos=True, steps=1))
    scored = evaluate_run(finetune(Vqa(), shuffled, str(tmp_path / "shuffled")), "vqa")
    own = [int(example.images[0].removesuffix(".jpg")) for example in scored.examples.examples]
    assert all(mine != other for mine, other in zip(own, scored.examples.photos[:, 0].tolist(), strict=True))
    assert sorted(own) == scored.examples.photos[:, 0].tolist()


def test_photos_that_were_trained_on_are_counted(straight, regions, tmp_path):
    fewer = write_json(tmp_path / "fewer.jsonl", lines()[:20])
    run = finetune(Vqa(), settings(regions, [fewer], steps=1), str(tmp_path / "run"))
    mixed = evaluate_run(run, "vqa", [write_json(tmp_path / "mixed.jsonl", lines()[10:40])])
    assert mixed.to_json()["photos"] == {"different": 15, "trained_on": 5}
    assert "5 of the 15 photos were trained on: not scores of unseen photos" in mixed.to_table()
    other = evaluate_run(run, "vqa", [write_json(tmp_path / "other.jsonl", lines()[20:])])
    assert other.to_json()["photos"] == {"different": 14, "trained_on": 0}
    assert "trained on" not in other.to_table()


def test_a_killed_run_resumes_to_the_same_bytes(short, straight, tmp_path, monkeypatch):
    whole = TaskLoader.batches

    def batches(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == 6:
                raise Killed
            yield batch

    run = str(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(TaskLoader, "batches", batches)
        with pytest.raises(Killed):
            finetune(Vqa(), short, run)
    with pytest.raises(CallError, match=r"already holds a run \(step 4 of 12\)\. Continue it with --resume"):
        finetune(Vqa(), short, run)
    finetune(Vqa(), short, run, resume=True)
    assert losses(run) == losses(straight)
    for name in ("model.safetensors", "labels.json", "manifest.json", "checkpoints/step-00000012/model.safetensors"):
        assert Path(run, name).read_bytes() == Path(straight, name).read_bytes()


def test_worker_processes_and_the_order_of_reading_change_nothing(short, tmp_path):
    base = replace(short.task, readers=2, steps=4)
    runs = [
        finetune(Vqa(), replace(short, task=replace(base, workers=workers)), str(tmp_path / str(workers)))
        for workers in (0, 2)
    ]
    assert losses(runs[0]) == losses(runs[1])


def test_features_are_read_in_order_once_per_photo_and_epoch(short, regions, tmp_path, monkeypatch):
    read, encoded = [], []
    photos_of, examples_of = Regions.read, Encoding.encode

    def counted(self, numbers):
        read.append(list(numbers))
        return photos_of(self, numbers)

    def noted(self, examples, start, stop, training):
        encoded.append(stop - start)
        return examples_of(self, examples, start, stop, training)

    monkeypatch.setattr(Regions, "read", counted)
    monkeypatch.setattr(Encoding, "encode", noted)
    chunked = replace(short.task, photos_per_chunk=6, shards_in_memory=1, steps=4, batch_size=12)
    finetune(Vqa(), replace(short, task=chunked), str(tmp_path / "run"))
    assert list(accumulate(encoded))[3] == 48  # the first epoch: a chunk in each of four groups of batches
    assert all(numbers == list(range(numbers[0], numbers[0] + 6)) for numbers in read[:4])
    assert sorted(number for numbers in read[:4] for number in numbers) == list(range(24))


def test_a_damaged_list_of_photos_is_written_again(short, straight, tmp_path):
    run = shutil.copytree(straight, tmp_path / "run")
    (run / "photos.json").write_text("[]\n")
    finetune(Vqa(), short, str(run), resume=True)
    for name in ("photos.json", "model.safetensors", "manifest.json"):
        assert (run / name).read_bytes() == Path(straight, name).read_bytes()


def test_a_changed_file_of_a_run_is_refused(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    Path(tmp_path, "run", "labels.json").write_text('{"answers": ["yes"]}')
    with pytest.raises(UserError, match=r"labels.json: missing, or not the file that the training wrote"):
        load_finetuned(str(tmp_path / "run"))


def test_a_tracker_that_is_not_installed_is_named_with_its_section(regions, questions, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"^task.wandb: needs wandb. Run `pip install"):
        finetune(Vqa(), settings(regions, [questions], steps=1, wandb="toy"), str(tmp_path / "run"))


def test_other_data_or_settings_are_not_continued(short, straight, regions, tmp_path):
    fewer = write_json(tmp_path / "train.jsonl", lines()[:-1])
    other = replace(short, task=replace(short.task, train=(fewer,)))
    with pytest.raises(CallError, match="was trained on other annotation files, photos or init"):
        finetune(Vqa(), other, straight, resume=True)
    faster = replace(short, task=replace(short.task, learning_rate=1.0))
    with pytest.raises(CallError, match=r"cannot be continued, because task.learning_rate changed"):
        finetune(Vqa(), faster, straight, resume=True)


def test_features_that_are_not_finite_stop_the_work(questions, tmp_path):
    regions = write_regions(tmp_path / "regions", feature=float("nan"))
    with pytest.raises(
        UserError, match=r"part-00000\.parquet: cannot be read \(a number that is not finite in column feature\)"
    ):
        finetune(Vqa(), settings(regions, [questions]), str(tmp_path / "run"))


def test_missing_photos_are_counted_and_too_many_stop_the_work(regions, tmp_path):
    absent = write_json(tmp_path / "train.jsonl", lines(25))
    run = finetune(Vqa(), settings(regions, [absent], steps=1), str(tmp_path / "run"))
    counts = manifest.read(run, FINETUNE).counts["examples"]
    assert vars(counts) == {"read": 50, "written": 48, "rejected": {"missing_photo": 2}}
    assert [(reject.key, reject.detail) for reject in read_rejects(f"{run}/rejects.parquet")] == [
        ("48", "24.jpg"),
        ("49", "24.jpg"),
    ]
    many = write_json(tmp_path / "many.jsonl", lines(30))
    with pytest.raises(UserError, match=r"(?s)12 of 60 examples cannot be used, expected at most 5%.*12 missing_photo"):
        finetune(Vqa(), settings(regions, [many]), str(tmp_path / "other"))


def test_two_processes_train_as_one(short, tmp_path):
    """Same examples in a step, summed: the losses of two ranks are those of one with two readers."""
    task = {**SHORT, "steps": 3, "readers": 2, "device": "cpu", "precision": "float32"}
    task |= {"regions": short.task.regions, "train": list(short.task.train)}
    config = {"seed": 1, "model": MODEL, "task": task}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    call = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    call += ["vlmixer.model.finetune", "vqa", str(path), "--out", str(tmp_path / "two")]
    done = subprocess.run(call, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    alone = replace(short.task, readers=2, steps=3, precision="float32")
    one = finetune(Vqa(), replace(short, task=alone), str(tmp_path / "one"))
    for mine, theirs in zip(losses(one), losses(str(tmp_path / "two")), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)


def test_a_run_is_verified(straight, tmp_path):
    assert verify(straight).sound
    shutil.copytree(straight, tmp_path / "run")
    Path(tmp_path, "run", "checkpoints", "step-00000012", "optimizer.pt").write_bytes(b"x")
    (problem,) = verify(str(tmp_path / "run")).problems
    assert problem.what.startswith("its bytes changed")
