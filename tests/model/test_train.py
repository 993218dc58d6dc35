"""A training run: its files, its log and its settings; and the program."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch
import torch
import yaml
from tensorboardX.proto import event_pb2
from tests.model.runs import SHORT, SMALL, STEPS, losses, settings
from tests.model.world import FEATURE_DIM

from vlmixer.artifacts.errors import UserError
from vlmixer.model import checkpoint
from vlmixer.model.checkpoint import load_run
from vlmixer.model.config import TrainConfig
from vlmixer.model.loop import learning_rate
from vlmixer.model.shards import open_shards
from vlmixer.model.train import main
from vlmixer.model.training import LOSSES, train


def test_a_run_leaves_what_is_needed_to_use_it(straight):
    assert sorted(os.listdir(straight)) == [
        "README.md",
        "checkpoints",
        "config.json",
        "config.yaml",
        "log.jsonl",
        "manifest.json",
        "model.safetensors",
        "reference.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    # The last two, and the best, which here is the last.
    assert sorted(os.listdir(f"{straight}/checkpoints")) == ["step-00000008", "step-00000012"]
    for folder in checkpoint.checkpoints(straight):
        assert sorted(os.listdir(folder)) == ["model.safetensors", "optimizer.pt", "state.json"]
    config = yaml.safe_load(Path(straight, "config.yaml").read_text())
    assert config["model"]["feature_dim"] == FEATURE_DIM
    assert config["seed"] == 1
    network, tokenizer, loaded = load_run(straight)
    assert not network.training
    assert (loaded.model.layers, loaded.train.steps) == (1, STEPS)
    assert network.bert.embeddings.word_embeddings.weight.shape == (tokenizer.size, 16)


def test_the_log_has_each_loss_of_each_step(straight):
    log = losses(straight)
    assert [line["step"] for line in log] == list(range(1, STEPS + 1))
    for line in log:
        weights = {name: getattr(SHORT, f"{name}_weight") for name in LOSSES}
        assert line["loss"] == pytest.approx(sum(weight * line[name] for name, weight in weights.items()))
    assert all(any(line[name] for line in log) == bool(weight) for name, weight in weights.items())


def test_another_seed_is_another_run(shards, straight, tmp_path):
    other = train(replace(settings(shards), seed=2), out=str(tmp_path / "run"))
    assert losses(other) != losses(straight)


def test_shards_of_another_width_are_refused_at_the_start(shards, tmp_path):
    wide = replace(settings(shards), model=replace(SMALL, feature_dim=2048))
    with pytest.raises(UserError, match=r"model.feature_dim: 2048, but the features in .*shards are 16 wide"):
        train(wide, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_shards_of_another_vocabulary_are_refused_at_the_start(shards, tmp_path):
    for told in ("other", None):
        asked = replace(settings(shards), vocabulary="lvis")
        with pytest.raises(UserError, match=r"vocabulary: lvis, but .*shards was made with toy"):
            train(asked, out=str(tmp_path / "run"), vocabulary_hash=told)
    assert not (tmp_path / "run").exists()
    train(replace(settings(shards, steps=1), vocabulary="toy"), out=str(tmp_path / "run"), vocabulary_hash="-")


def test_tensorboard_gets_the_same_numbers(shards, tmp_path):
    run = train(settings(shards, steps=2, tensorboard=True), out=str(tmp_path / "run"))
    (events,) = Path(run, "tensorboard").iterdir()
    scalars: dict[tuple[str, int], Any] = {}
    data = events.read_bytes()
    while data:
        length = int.from_bytes(data[:8], "little")
        event = event_pb2.Event.FromString(data[12 : 12 + length])
        scalars |= {(value.tag, event.step): value.simple_value for value in event.summary.value}
        data = data[16 + length :]
    for line in losses(run):
        for name in ("loss", "masked_language", "masked_tags", "contrastive", "learning_rate"):
            assert scalars[name, line["step"]] == pytest.approx(line[name], rel=1e-6)


def test_tensorboard_where_it_is_not_installed_is_an_error(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match=r"train.tensorboard: needs tensorboardX. Run `pip install"):
        train(settings(shards, tensorboard=True), out=str(tmp_path / "run"))


def test_freed_memory_goes_back_to_the_system_now_and_then(shards, straight, tmp_path, monkeypatch):
    given = []
    for module in ("loop", "shards"):
        noted = SimpleNamespace(give_back=lambda module=module: given.append(module))
        monkeypatch.setattr(f"vlmixer.model.{module}.memory", noted)
    monkeypatch.setattr("vlmixer.model.loop.GIVE_BACK_EVERY", 5)
    run = train(settings(shards), out=str(tmp_path / "run"))
    folder = open_shards(shards)
    assert given.count("loop") == STEPS // 5
    assert given.count("shards") >= len(folder.mixed) + len(folder.images)
    assert losses(run) == losses(straight)


def test_accumulated_batches_are_one_update(shards, tmp_path):
    """Losses are means over the batches, and the gradient is that of their mean."""
    model_settings = replace(SMALL, dropout=0.0)
    base = settings(shards, learning_rate=1e-12, clip_norm=1e9, weight_decay=0.0)
    plain = losses(train(replace(base, model=model_settings), out=str(tmp_path / "plain")))
    two = replace(base, model=model_settings, train=replace(base.train, accumulate=2, steps=6))
    summed = losses(train(two, out=str(tmp_path / "two")))
    for step, line in enumerate(summed):
        for name in ("loss", "masked_language", "masked_tags", "contrastive"):
            expected = (plain[2 * step][name] + plain[2 * step + 1][name]) / 2
            assert line[name] == pytest.approx(expected, rel=1e-5)
        assert line["gradient_norm"] <= (plain[2 * step]["gradient_norm"] + plain[2 * step + 1]["gradient_norm"]) / 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_an_error(shards, tmp_path):
    with pytest.raises(UserError, match=r"train.device: cuda, but"):
        train(settings(shards, device="cuda"), out=str(tmp_path / "run"))


@pytest.mark.parametrize("changes", [{"precision": "bfloat16"}, {"masked_language_weight": 0.0}, {"image_ratio": 0.0}])
def test_variants_train(shards, tmp_path, changes):
    log = losses(train(settings(shards, **changes, steps=2), out=str(tmp_path / "run")))
    assert all(line["masked_language"] == 0 for line in log) == ("masked_language_weight" in changes)
    assert all(line["masked_tags"] == 0 for line in log) == ("image_ratio" in changes)
    assert log[-1]["contrastive"] > 0


def test_a_run_started_from_berts_weights(shards, straight, tmp_path):
    vocabulary = json.loads(Path(straight, "tokenizer.json").read_text())["model"]["vocab"]
    (tmp_path / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.get)))
    model = replace(SMALL, tokenizer=str(tmp_path / "vocab.txt"), init=f"{straight}/model.safetensors")
    run = train(replace(settings(shards, steps=1, learning_rate=1e-9), model=model), out=str(tmp_path / "run"))
    found, given = (safetensors.torch.load_file(f"{place}/model.safetensors") for place in (run, straight))
    name = "bert.encoder.layer.0.output.dense.weight"
    assert torch.allclose(found[name], given[name], atol=1e-6)


def test_the_rate_rises_to_its_peak_and_falls_towards_zero():
    config = TrainConfig(steps=10, warmup_steps=4, learning_rate=1.0)
    expected = [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [learning_rate(step, config) for step in range(10)] == pytest.approx(expected)
    assert learning_rate(1, TrainConfig(steps=2, warmup_steps=100, learning_rate=1.0)) == 1


def test_the_program_trains_and_resumes(shards, straight, tmp_path):
    config = {"seed": 1, "out": str(tmp_path), "mix": {"views": 1}, "model": vars(SMALL), "train": vars(SHORT)}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(shards, tmp_path / "shards")
    call = [sys.executable, "-m", "vlmixer.model.train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "mine")]
    first = subprocess.run([*call, "--set", "train.steps=2"], capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    assert "step 2 of 2" in first.stderr
    assert first.stdout == ""
    assert [line["step"] for line in losses(tmp_path / "mine")] == [1, 2]


def test_the_programs_exit_codes(shards, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(f"out: {tmp_path}\ntrain: {{shards: {tmp_path}}}\n")
    path = str(tmp_path / "config.yaml")
    assert main([path]) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert main([path, "--set", "train.stps=3"]) == 2
    assert "did you mean 'steps'" in capsys.readouterr().err
    assert main([str(tmp_path / "none.yaml")]) == 2


def test_a_vocabulary_that_does_not_know_the_texts_is_said(shards, tmp_path, caplog):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nein\nhund\n")
    changed = settings(shards, steps=1)
    changed = replace(changed, model=replace(changed.model, tokenizer=str(tmp_path / "vocab.txt")))
    train(changed, out=str(tmp_path / "run"))
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("model.tokenizer: 100.0% of the word pieces of the shards' texts are [UNK]")
