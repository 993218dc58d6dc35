"""Training with several processes: those that read ahead, and those of torchrun."""

import importlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import repeat
from pathlib import Path

import pytest
import yaml
from tests.model.runs import SHORT, SMALL, STEPS, losses, settings
from tests.model.world import World, write_shards

from vlmixer.artifacts.errors import CallError
from vlmixer.model import readers
from vlmixer.model.ranks import Ranks, from_environment
from vlmixer.model.readers import PartLoader
from vlmixer.model.train import main
from vlmixer.model.training import train


def test_worker_processes_change_nothing(shards, straight, tmp_path):
    with_workers = settings(shards, workers=2, readers=2)
    without = settings(shards, workers=0, readers=2)
    runs = [train(one, out=str(tmp_path / name)) for one, name in ((with_workers, "with"), (without, "without"))]
    assert losses(runs[0]) == losses(runs[1])


class _StartMethods(PartLoader[str, str]):
    """Its parts: how the process that reads was started."""

    def parts(self, start, readers):
        return repeat(multiprocessing.get_start_method())

    def assemble(self, parts):
        return parts[0]


def test_a_process_that_ran_a_beam_job_is_not_forked():
    """A fork while gRPC's threads run aborts now and then."""
    assert importlib.import_module("grpc")
    assert next(_StartMethods([0], workers=1).batches(0)) == "spawn"


def test_a_signal_waits_until_the_process_that_reads_is_ready_for_it(monkeypatch):
    ready = readers.leave_to_parent

    def signalled():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        ready()

    monkeypatch.setattr(readers, "leave_to_parent", signalled)
    monkeypatch.setattr(readers, "_start_method", lambda: "fork")
    assert next(_StartMethods([0], workers=1).batches(0)) == "fork"
    assert not {signal.SIGINT, signal.SIGTERM} & signal.pthread_sigmask(signal.SIG_BLOCK, ())


@pytest.fixture
def reading_ahead(tmp_path):
    """An endless training, and the id of its process that reads ahead. A batch of it is too large for a pipe."""
    world = World()
    folder = write_shards(str(tmp_path / "shards"), [world.mixed(number) for number in range(400)], per_shard=400)
    config = {"shards": folder, "batch_size": 200, "workers": 1, "steps": 10**6, "log_every": 1, "device": "cpu"}
    Path(tmp_path, "config.yaml").write_text(yaml.safe_dump({"model": vars(SMALL), "train": config}))
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmixer.model.train", str(tmp_path / "config.yaml"), "--out", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        log = tmp_path / "run" / "log.jsonl"
        _wait_until(lambda: log.exists() and log.stat().st_size > 0)
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield process, int(worker)
    finally:
        process.kill()
        process.communicate()


def test_a_killed_training_leaves_no_worker_behind(reading_ahead):
    process, worker = reading_ahead
    assert _runs(worker)
    process.kill()
    process.wait()
    _wait_until(lambda: not _runs(worker))


def test_a_killed_worker_ends_the_training_with_a_line(reading_ahead):
    process, worker = reading_ahead
    os.kill(worker, signal.SIGKILL)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "Traceback" not in said
    assert "run: a process that reads samples ended (DataLoader worker" in said
    assert "Continue with --resume." in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_training_saves_a_checkpoint(reading_ahead, tmp_path, number, code):
    """The process that reads ahead gets the signal, too, as from a terminal or a cluster."""
    process, worker = reading_ahead
    for each in (worker, process.pid):
        os.kill(each, number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    (folder,) = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(folder.name.removeprefix("step-"))
    *before, last = said.splitlines()
    assert last == (
        f"interrupted: {tmp_path / 'run'}: checkpoint saved at step {step} of 1000000. Continue with --resume."
    )
    assert all(line.startswith("train: step ") for line in before)


@pytest.mark.parametrize("world", [None, "", "1"])
def test_one_process_is_the_default(monkeypatch, world):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    if world is not None:
        monkeypatch.setenv("WORLD_SIZE", world)
    assert from_environment() == Ranks(0, 1, 0)


def test_torchruns_environment_says_which_rank_this_is(monkeypatch):
    for name, value in (("WORLD_SIZE", "4"), ("RANK", "3"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert from_environment() == Ranks(3, 4, 1)
    monkeypatch.setenv("RANK", "")
    monkeypatch.delenv("LOCAL_RANK")
    with pytest.raises(CallError, match=r"WORLD_SIZE is '4' .* but RANK, LOCAL_RANK is not a number\. Start the pro"):
        from_environment()


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


def torchrun_call(processes, config, run, *more):
    call = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    return [*call, "-m", "vlmixer.model.train", config, "--out", run, *more]


def torchrun(processes, config, run, *more):
    call, one_thread = torchrun_call(processes, config, run, *more), {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(call, capture_output=True, text=True, timeout=300, env=one_thread)


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
    assert "arning" not in done.stderr
    for place in ("model.safetensors", "checkpoints/step-00000012"):
        shutil.rmtree(tmp_path / "two" / place, ignore_errors=True)
    (tmp_path / "two" / "model.safetensors").unlink()
    again = torchrun(2, config, str(tmp_path / "two"), "--resume")
    assert again.returncode == 0, again.stderr
    assert losses(tmp_path / "two") == two


NOTHING_LEFT = """
import weakref
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from vlmixer.model import readers
from vlmixer.model.ranks import connected_ranks

with connected_ranks(cuda=False):
    group = weakref.ref(distributed.group.WORLD)
    module = DistributedDataParallel(torch.nn.Linear(2, 2))
    module(torch.ones(1, 2)).sum().backward()
    del module
assert group() is None
"""


def test_no_thread_of_a_connection_outlives_it(tmp_path):
    """Such a thread aborts the process now and then, if the interpreter ends first."""
    script = tmp_path / "script.py"
    script.write_text(NOTHING_LEFT)
    call = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run(call, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr


def test_two_processes_that_are_interrupted_save_one_checkpoint(shards, tmp_path):
    """A terminal sends Ctrl-C to all processes, and torchrun sends it to its processes again."""
    training = vars(SHORT) | {
        "shards": shards,
        "device": "cpu",
        "steps": 10**6,
        "log_every": 1,
        "checkpoint_every": 10**6,
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"seed": 1, "model": vars(SMALL), "train": training}))
    run = tmp_path / "run"
    process = subprocess.Popen(
        torchrun_call(2, str(config), str(run)), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        log = run / "log.jsonl"
        _wait_until(lambda: log.exists() and log.stat().st_size > 0)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=120)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    (folder,) = (run / "checkpoints").iterdir()
    step = int(folder.name.removeprefix("step-"))
    ours = [line for line in said.splitlines() if "interrupted" in line]
    assert ours == [f"interrupted: {run}: checkpoint saved at step {step} of 1000000. Continue with --resume."]
    assert losses(run)[-1]["step"] == step
