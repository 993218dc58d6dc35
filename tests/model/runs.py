"""Short training runs for tests: settings, the log, and ways to stop or damage a run."""

import json
from dataclasses import replace
from pathlib import Path

from vlmixer.model.config import ModelConfig, Settings, TrainConfig
from vlmixer.model.data import Loader

SMALL = ModelConfig(layers=1, hidden_size=16, heads=2, feed_forward_size=32, projection_size=8, vocabulary_size=200)
STEPS = 12
# In float32, whatever the processor, because some tests compare runs that add in another order.
SHORT = TrainConfig(
    steps=STEPS, batch_size=8, log_every=1, checkpoint_every=4, warmup_steps=3, workers=0, precision="float32"
)


def settings(shards, **changes):
    return Settings(seed=1, model=SMALL, train=replace(SHORT, shards=shards, **changes))


def losses(run):
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
    clock = ("samples_per_second", "items_per_second", "share_waiting", "seconds_left")
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


class Killed(BaseException):
    """Stands for a kill: nothing catches it."""


def stop_after(monkeypatch, steps):
    """Let training be killed when it asks for its batch number `steps`."""

    def kill():
        raise Killed

    call_at(monkeypatch, steps, kill)


def call_at(monkeypatch, number, do):
    """Call `do` when training asks for its batch `number`, counted from 0."""
    whole = Loader.batches

    def batches(self, start):
        for step, batch in enumerate(whole(self, start), start):
            if step == number:
                do()
            yield batch

    monkeypatch.setattr(Loader, "batches", batches)


def damage(folder):
    with open(f"{folder}/model.safetensors", "r+b") as file:
        file.truncate(100)
