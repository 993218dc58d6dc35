"""Stopping and resuming a run, and what its folder keeps."""

import json
import os
import shutil
import signal
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from tests.model.runs import SMALL, STEPS, Killed, call_at, damage, losses, settings, stop_after
from tests.model.world import World, write_shards

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.interrupts import Interrupted
from vlmixer.model import checkpoint, finished
from vlmixer.model.checkpoint import load_run
from vlmixer.model.data import Loader
from vlmixer.model.loop import has_bfloat16, precision_of
from vlmixer.model.training import train


# Before the first checkpoint, between two, right after one, and twice.
@pytest.mark.parametrize("stops", [[2], [6], [8], [5, 11]])
def test_a_stopped_and_resumed_run_is_bit_for_bit_the_run_that_was_not(shards, straight, tmp_path, monkeypatch, stops):
    run = str(tmp_path / "run")
    for stop in stops:
        with monkeypatch.context() as patch:
            stop_after(patch, stop)
            with pytest.raises(Killed):
                train(settings(shards), out=run, resume=True)
        assert losses(run)[-1]["step"] == stop
    train(settings(shards), out=run, resume=True)
    assert losses(run) == losses(straight)
    for name in ("model.safetensors", "config.yaml", "tokenizer.json", "checkpoints/step-00000012/state.json"):
        assert Path(run, name).read_bytes() == Path(straight, name).read_bytes(), name


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_loses_no_step_and_ends_like_one_that_was_not(
    shards, straight, tmp_path, monkeypatch, number
):
    run = str(tmp_path / "run")
    for step in (6, 9):  # interrupted while its batch is read: the step is done, then a checkpoint saved
        with monkeypatch.context() as patch:
            call_at(patch, step, lambda: signal.raise_signal(number))
            with pytest.raises(Interrupted, match=rf"run: checkpoint saved at step {step + 1} of 12") as raised:
                train(settings(shards), out=run, resume=True)
        assert raised.value.number == number
        last = checkpoint.last_state(run)
        assert last is not None
        assert last.step == step + 1
    train(settings(shards), out=run, resume=True)
    assert losses(run) == losses(straight)
    for name in ("model.safetensors", "checkpoints/step-00000012/state.json"):
        assert Path(run, name).read_bytes() == Path(straight, name).read_bytes(), name


@pytest.mark.parametrize("recorded", ["float32", "bfloat16"])
def test_auto_is_recorded_and_a_resumed_run_keeps_it(shards, tmp_path, monkeypatch, recorded):
    whole, run = (str(tmp_path / name) for name in ("whole", "run"))
    train(settings(shards, precision=recorded), out=whole)
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Killed):
            train(settings(shards, precision=recorded), out=run)
    # As on a processor where auto would mean the other one.
    train(settings(shards, precision="auto"), out=run, resume=True)
    assert losses(run) == losses(whole)
    fresh = train(settings(shards, precision="auto", steps=1), out=str(tmp_path / "fresh"))
    found = yaml.safe_load(Path(fresh, "config.yaml").read_text())["train"]["precision"]
    assert found == ("bfloat16" if has_bfloat16() else "float32")


def test_a_precision():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert precision_of("auto", cuda, None) == "bfloat16"
    assert precision_of("auto", cuda, "float32") == "float32"
    # A run of an earlier version recorded the word.
    assert precision_of("auto", cpu, "auto") == "auto"
    assert precision_of("float32", cuda, "bfloat16") == "float32"


def test_resuming_a_finished_run_says_so_and_changes_nothing(shards, straight, capsys):
    before = {name: os.stat(f"{straight}/{name}").st_mtime_ns for name in os.listdir(straight)}
    train(settings(shards), out=straight, resume=True)
    assert "is finished (12 steps)" in capsys.readouterr().err
    assert before == {name: os.stat(f"{straight}/{name}").st_mtime_ns for name in os.listdir(straight)}


def test_a_run_is_not_overwritten(shards, straight):
    with pytest.raises(CallError, match=r"already holds a run \(step 12 of 12\)"):
        train(settings(shards), out=straight)


def test_a_run_is_not_continued_with_other_settings(shards, stopped):
    changed = replace(settings(shards, learning_rate=0.5), model=replace(SMALL, dropout=0.0))
    with pytest.raises(CallError, match=r"because model.dropout, train.learning_rate changed"):
        train(changed, out=stopped, resume=True)


def test_a_run_is_not_continued_on_other_shards(stopped, tmp_path):
    other = write_shards(str(tmp_path / "other"), [World(seed=9).mixed(number) for number in range(9)])
    with pytest.raises(CallError, match="trained on other shards"):
        train(settings(other), out=stopped, resume=True)


def test_a_run_goes_on_where_its_shards_were_moved_and_it_logs_less(shards, stopped, tmp_path):
    moved = shutil.copytree(shards, tmp_path / "moved")
    train(settings(str(moved), log_every=5), out=stopped, resume=True)
    assert [line["step"] for line in losses(stopped)] == [1, 2, 3, 4, 5, 10, 12]


def test_what_a_kill_left_half_written_is_swept_away(shards, stopped, straight):
    os.makedirs(f"{stopped}/checkpoints/step-00000008.tmp-0123/")
    for name in ("checkpoints/step-00000008.tmp-0123/model.safetensors", "model.safetensors.tmp-4567"):
        Path(stopped, name).write_bytes(b"half")
    with open(f"{stopped}/log.jsonl", "ab") as log:
        log.write(b'{"step": 7, "lo\xff')
    train(settings(shards), out=stopped, resume=True)
    for folder in ("", "checkpoints"):
        assert sorted(os.listdir(f"{stopped}/{folder}")) == sorted(os.listdir(f"{straight}/{folder}"))
    assert losses(stopped) == losses(straight)


def test_a_damaged_checkpoint_is_skipped_and_written_again(shards, straight, tmp_path, capsys):
    run = str(tmp_path / "run")
    shutil.copytree(straight, run)
    Path(run, "model.safetensors").unlink()
    damage(f"{run}/checkpoints/step-00000012")
    train(settings(shards), out=run, resume=True)
    assert "step-00000012: damaged checkpoint, skipped" in capsys.readouterr().err
    assert losses(run) == losses(straight)
    assert sorted(os.listdir(f"{run}/checkpoints")) == ["step-00000008", "step-00000012"]
    for name in ("model.safetensors", "checkpoints/step-00000012/model.safetensors"):
        assert Path(run, name).read_bytes() == Path(straight, name).read_bytes()


def test_an_optimizer_that_would_fill_the_memory_is_damage(straight, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch, "load", None)
    folder = shutil.copytree(f"{straight}/checkpoints/step-00000012", tmp_path / "checkpoints" / "step-00000012")
    state = json.loads((folder / "state.json").read_text())
    del state["files"], state["content_hash"]  # as in a run of an earlier version
    (folder / "state.json").write_text(json.dumps(state))
    with zipfile.ZipFile(folder / "optimizer.pt", "w") as packed:
        packed.writestr("a/data.pkl", b"\x80\2cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.")
    with pytest.raises(UserError, match="all checkpoints are damaged"):
        checkpoint.load_checkpoint(str(tmp_path))
    assert "its pickle names 'builtins bytearray'" in capsys.readouterr().err


def test_a_run_whose_checkpoints_are_all_damaged_is_not_started_over(shards, stopped):
    damage(f"{stopped}/checkpoints/step-00000004")
    with pytest.raises(UserError, match="all checkpoints are damaged"):
        train(settings(shards), out=stopped, resume=True)


def test_what_users_keep_beside_the_checkpoints_is_neither_read_nor_touched(shards, straight, stopped):
    folder = Path(stopped, "checkpoints")
    for name in ("step-00000004-good", "zz-backup"):
        shutil.copytree(folder / "step-00000004", folder / name)
    (folder / ".ipynb_checkpoints").mkdir()
    mine = {".ipynb_checkpoints", "step-00000004-good", "zz-backup", ".DS_Store", "README.md", "model.tmp-backup"}
    for name in (".DS_Store", "README.md", "model.tmp-backup"):
        (folder / name).write_text("mine")
    train(settings(shards, keep_checkpoints=1), out=stopped, resume=True)
    assert {name for name in os.listdir(folder) if not finished.is_step(name)} == mine
    assert losses(stopped) == losses(straight)


def test_the_optimizer_file_loads_without_pickle(straight):
    state = torch.load(f"{straight}/checkpoints/step-00000012/optimizer.pt", weights_only=True)
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.0, 0.01}


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(shards, tmp_path, monkeypatch):
    whole = Loader.batches

    def poisoned(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == 6:
                assert batch.view
                batch.view.sequences.regions[0, 0, 0] = float("inf")
            yield batch

    monkeypatch.setattr(Loader, "batches", poisoned)
    run = str(tmp_path / "run")
    with pytest.raises(UserError, match=r"step 7: the loss is not finite .*step-00000004 \(step 4\)"):
        train(settings(shards), out=run)
    kept = safetensors.torch.load_file(f"{run}/checkpoints/step-00000004/model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_a_run_that_is_not_finished_cannot_be_used(stopped):
    with pytest.raises(UserError, match="there is no finished run"):
        load_run(stopped)


def test_the_last_checkpoints_and_the_best_are_kept(shards, tmp_path, monkeypatch):
    """With a rate that ruins the network after a while, the best checkpoint is not among the last."""
    monkeypatch.setattr("vlmixer.model.loop.learning_rate", lambda step, config: 1e-3 if step < 6 else 0.5)
    run = train(settings(shards, checkpoint_every=2, keep_checkpoints=1), out=str(tmp_path / "run"))
    kept = [json.loads(Path(folder, "state.json").read_text()) for folder in checkpoint.checkpoints(run)]
    log = [line["loss"] for line in losses(run)]
    means = {step: np.mean(log[step - 2 : step]) for step in range(2, STEPS + 1, 2)}
    best = min(means, key=means.__getitem__)
    assert best < STEPS
    assert [(state["step"], state["loss"]) for state in kept] == [
        (step, pytest.approx(means[step])) for step in (best, STEPS)
    ]
