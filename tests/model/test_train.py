import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from tensorboardX.proto import event_pb2
from tests.model.world import CONCEPTS, FEATURE_DIM, SIDE, World, write_shards

from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model import checkpoint
from vlmixer.model.checkpoint import load_run
from vlmixer.model.config import ModelConfig, Settings, TrainConfig
from vlmixer.model.data import Loader
from vlmixer.model.embedding import ImageRegions
from vlmixer.model.evaluate import retrieval
from vlmixer.model.train import main
from vlmixer.model.training import learning_rate, train

SMALL = ModelConfig(layers=1, hidden_size=16, heads=2, feed_forward_size=32, projection_size=8, vocabulary_size=200)
STEPS = 12
SHORT = TrainConfig(steps=STEPS, batch_size=8, log_every=1, checkpoint_every=4, warmup_steps=3, workers=0)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    world = World()
    samples = [world.mixed(number) for number in range(40)] + [world.image(number) for number in range(12)]
    return write_shards(str(tmp_path_factory.mktemp("train") / "shards"), samples, per_shard=16)


def settings(shards, **changes):
    return Settings(seed=1, model=SMALL, train=replace(SHORT, shards=shards, **changes))


def losses(run):
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
    clock = ("samples_per_second", "items_per_second", "share_waiting", "seconds_left")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


@pytest.fixture(scope="module")
def straight(shards, tmp_path_factory):
    """A run that was never stopped."""
    return train(settings(shards), out=str(tmp_path_factory.mktemp("train") / "run"))


def test_a_run_leaves_what_is_needed_to_use_it(straight):
    assert sorted(os.listdir(straight)) == [
        "checkpoints",
        "config.yaml",
        "log.jsonl",
        "model.safetensors",
        "reference_texts.safetensors",
        "tokenizer.json",
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
        assert line["loss"] == pytest.approx(line["masked_language"] + line["masked_tags"] + line["contrastive"])


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def stop_after(monkeypatch, steps):
    """Let training be killed when it asks for its batch number `steps`."""
    whole = Loader.batches

    def batches(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == steps:
                raise Killed
            yield batch

    monkeypatch.setattr(Loader, "batches", batches)


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


def test_another_seed_is_another_run(shards, straight, tmp_path):
    other = train(replace(settings(shards), seed=2), out=str(tmp_path / "run"))
    assert losses(other) != losses(straight)


def test_resuming_a_finished_run_says_so_and_changes_nothing(shards, straight, capsys):
    before = {name: os.stat(f"{straight}/{name}").st_mtime_ns for name in os.listdir(straight)}
    train(settings(shards), out=straight, resume=True)
    assert "is finished (12 steps)" in capsys.readouterr().err
    assert before == {name: os.stat(f"{straight}/{name}").st_mtime_ns for name in os.listdir(straight)}


def test_a_run_is_not_overwritten(shards, straight):
    with pytest.raises(CallError, match=r"already holds a run \(step 12 of 12\)"):
        train(settings(shards), out=straight)


@pytest.fixture
def stopped(shards, tmp_path, monkeypatch):
    """A run that stopped after step 6, with a checkpoint of step 4."""
    with monkeypatch.context() as patch:
        stop_after(patch, 6)
        with pytest.raises(Killed):
            train(settings(shards), out=str(tmp_path / "run"))
    return str(tmp_path / "run")


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
    with open(f"{stopped}/log.jsonl", "a") as log:
        log.write('{"step": 7, "lo')
    train(settings(shards), out=stopped, resume=True)
    for folder in ("", "checkpoints"):
        assert sorted(os.listdir(f"{stopped}/{folder}")) == sorted(os.listdir(f"{straight}/{folder}"))
    assert losses(stopped) == losses(straight)


def damage(folder):
    with open(f"{folder}/model.safetensors", "r+b") as file:
        file.truncate(100)


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
    assert {name for name in os.listdir(folder) if not checkpoint.is_step(name)} == mine
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
                batch.view.regions[0, 0, 0] = float("inf")
            yield batch

    monkeypatch.setattr(Loader, "batches", poisoned)
    run = str(tmp_path / "run")
    with pytest.raises(UserError, match=r"step 7: the loss is not finite .*step-00000004 \(step 4\)"):
        train(settings(shards), out=run)
    kept = safetensors.torch.load_file(f"{run}/checkpoints/step-00000004/model.safetensors")
    assert all(torch.isfinite(value).all() for value in kept.values())


def test_shards_of_another_width_are_refused_at_the_start(shards, tmp_path):
    wide = replace(settings(shards), model=replace(SMALL, feature_dim=2048))
    with pytest.raises(UserError, match=r"model.feature_dim: 2048, but the features in .*shards are 16 wide"):
        train(wide, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_not_finished_cannot_be_used(stopped):
    with pytest.raises(UserError, match="there is no finished run"):
        load_run(stopped)


def test_shards_of_another_vocabulary_are_refused_at_the_start(shards, tmp_path):
    for told in ("other", None):
        asked = replace(settings(shards), vocabulary="lvis")
        with pytest.raises(UserError, match=r"vocabulary: lvis, but .*shards was made with toy"):
            train(asked, out=str(tmp_path / "run"), vocabulary_hash=told)
    assert not (tmp_path / "run").exists()
    train(replace(settings(shards, steps=1), vocabulary="toy"), out=str(tmp_path / "run"), vocabulary_hash="-")


def test_the_last_checkpoints_and_the_best_are_kept(shards, tmp_path, monkeypatch):
    """With a rate that ruins the network after a while, the best checkpoint is not among the last."""
    monkeypatch.setattr("vlmixer.model.training.learning_rate", lambda step, config: 1e-3 if step < 6 else 0.5)
    run = train(settings(shards, checkpoint_every=2, keep_checkpoints=1), out=str(tmp_path / "run"))
    kept = [json.loads(Path(folder, "state.json").read_text()) for folder in checkpoint.checkpoints(run)]
    log = [line["loss"] for line in losses(run)]
    means = {step: np.mean(log[step - 2 : step]) for step in range(2, STEPS + 1, 2)}
    best = min(means, key=means.__getitem__)
    assert best < STEPS
    assert [(state["step"], state["loss"]) for state in kept] == [
        (step, pytest.approx(means[step])) for step in (best, STEPS)
    ]


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


def test_worker_processes_change_nothing(shards, straight, tmp_path):
    with_workers = settings(shards, workers=2, readers=2)
    without = settings(shards, workers=0, readers=2)
    runs = [train(one, out=str(tmp_path / name)) for one, name in ((with_workers, "with"), (without, "without"))]
    assert losses(runs[0]) == losses(runs[1])


def test_a_killed_training_leaves_no_worker_behind(tmp_path):
    """A worker that has a batch ready, too large for a pipe, would wait for ever for its being read."""
    world = World()
    folder = write_shards(str(tmp_path / "shards"), [world.mixed(number) for number in range(400)], per_shard=400)
    config = {"shards": folder, "batch_size": 200, "workers": 1, "steps": 10**6, "log_every": 1, "device": "cpu"}
    Path(tmp_path, "config.yaml").write_text(yaml.safe_dump({"model": vars(SMALL), "train": config}))
    run = str(tmp_path / "run")
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmixer.model.train", str(tmp_path / "config.yaml"), "--out", run],
        stderr=subprocess.DEVNULL,
    )
    try:
        log = Path(run, "log.jsonl")
        _wait_until(lambda: log.exists() and log.stat().st_size > 0)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert _runs(worker)
    finally:
        process.kill()
        process.wait()
    _wait_until(lambda: not _runs(worker))


def _runs(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _wait_until(true):
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def torchrun(processes, config, run, *more):
    call = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    call += ["-m", "vlmixer.model.train", config, "--out", run, *more]
    return subprocess.run(call, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})


def test_two_processes_have_the_losses_of_one_with_the_same_batches_and_resume(shards, tmp_path):
    model_settings = vars(SMALL) | {"dropout": 0.0}
    training = vars(SHORT) | {"readers": 2, "shards": shards, "device": "cpu", "accumulate": 2}
    config = str(tmp_path / "config.yaml")
    Path(config).write_text(yaml.safe_dump({"seed": 1, "model": model_settings, "train": training}))
    assert main([config, "--out", str(tmp_path / "one")]) == 0
    done = torchrun(2, config, str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == STEPS
    for expected, found in zip(one, two, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)
    assert done.stderr.count("step 12 of 12") == 1
    for place in ("model.safetensors", "checkpoints/step-00000012"):
        shutil.rmtree(tmp_path / "two" / place, ignore_errors=True)
    (tmp_path / "two" / "model.safetensors").unlink()
    again = torchrun(2, config, str(tmp_path / "two"), "--resume")
    assert again.returncode == 0, again.stderr
    assert losses(tmp_path / "two") == two


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


def found_in(scene):
    tags = tuple(CONCEPTS[number] for number in scene.concepts)
    return ImageRegions(scene.features, scene.boxes, SIDE, SIDE, tags)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A small network that has trained for some seconds, and true pairs that it has never seen."""
    world = World(noise=0.3)
    samples = [world.mixed(number) for number in range(1500)] + [world.image(number) for number in range(200)]
    folder = write_shards(str(tmp_path_factory.mktemp("learned") / "shards"), samples, per_shard=800)
    model = replace(SMALL, hidden_size=64, feed_forward_size=128, projection_size=32, dropout=0.0)
    config = TrainConfig(steps=150, batch_size=48, learning_rate=3e-3, warmup_steps=20, shards=folder)
    run = train(Settings(model=model, train=config), out=f"{folder}/../run")
    return run, [world.scene(number) for number in range(100)]


def test_the_losses_fall(learned):
    log = losses(learned[0])
    for name in ("masked_language", "masked_tags", "contrastive"):
        first, last = (np.mean([line[name] for line in part]) for part in (log[:3], log[-3:]))
        assert last < 0.75 * first, name


def test_retrieval_without_any_pair_is_far_above_chance(learned):
    run, scenes = learned
    concepts = [[{CONCEPTS[number] for number in scene.concepts}] for scene in scenes]
    report = retrieval(run, [found_in(scene) for scene in scenes], [[scene.caption] for scene in scenes], concepts)
    assert (report.images, report.captions) == (100, 100)
    for direction in ("text to image", "image to text"):
        assert report.score("chance", direction).recall[10].value == pytest.approx(10)
        assert report.score("regions", direction).recall[10].value > 50
        assert report.score("regions + tags", direction).recall[10].value > 50
    # The toy world's tags are perfect, so this baseline finds nearly all.
    assert report.score("tag overlap").recall[10].value > 90


def test_retrieval_refuses_what_does_not_fit(learned):
    run, scenes = learned
    image = found_in(scenes[0])
    with pytest.raises(UserError, match="No images"):
        retrieval(run, [], [], [])
    with pytest.raises(UserError, match="Image 1 of the list has no caption"):
        retrieval(run, [image], [[]], [[]])
    with pytest.raises(UserError, match=r"features of shape \(3, 4\), but the run was trained on width 16"):
        retrieval(run, [replace(image, features=image.features[:, :4])], [["a dog"]], [[{"dog"}]])


def test_an_image_in_which_nothing_was_found_is_evaluated_like_any_other(learned):
    run, scenes = learned
    nothing = ImageRegions(np.zeros((0, FEATURE_DIM), np.float32), np.zeros((0, 4), np.float32), SIDE, SIDE, ())
    report = retrieval(run, [found_in(scenes[0]), nothing], [["a dog"], ["a cat"]], [[{"dog"}], [{"cat"}]])
    assert report.score("regions").recall[5].value == 100
