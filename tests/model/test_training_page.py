"""What docs/training.md says can be copied: its programs run in a folder with a finished run."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.model.world import World, write_shards

from vlmixer.model.config import ModelConfig, Settings, TrainConfig, load_settings
from vlmixer.model.train import main
from vlmixer.model.training import train

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with out/shards and a short run of the default network in out/run."""
    folder = tmp_path_factory.mktemp("page")
    world = World()
    write_shards(str(folder / "out" / "shards"), [world.mixed(number) for number in range(40)], per_shard=20)
    short = TrainConfig(steps=2, batch_size=8, warmup_steps=1, workers=0, shards=str(folder / "out" / "shards"))
    train(Settings(train=short), out=str(folder / "out" / "run"))
    return folder


@pytest.mark.parametrize(("program", "output"), zip(blocks("python"), ["[[", "torch.Size([1, "], strict=True))
def test_the_programs_run(folder, program, output):
    path = {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, env=path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(output)


def test_the_configs_are_read(folder, monkeypatch):
    monkeypatch.chdir(folder)
    alone, base = blocks("yaml")
    Path("train.yaml").write_text(alone)
    settings = load_settings("train.yaml")
    assert (settings.out, settings.train.shards, settings.train.steps) == ("out/", "out/shards", 1000)
    changes = ["train.steps=2", "train.batch_size=8", "train.learning_rate=5e-4", "train.workers=0"]
    assert main(["train.yaml", "--out", "run-2", *(part for change in changes for part in ("--set", change))]) == 0
    assert Path("run-2/model.safetensors").exists()

    Path("base.yaml").write_text(base)
    sizes = replace(ModelConfig(), layers=12, hidden_size=768, heads=12, feed_forward_size=3072)
    found = load_settings("base.yaml").model
    assert replace(found, init=None, tokenizer=None) == sizes
    assert yaml.safe_load(base)["train"]["learning_rate"] == 5e-5
