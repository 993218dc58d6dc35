"""Benchmarks are run by hand, so at least what they take from the packages must be there. One is for a machine that we
seldom have: it is run on a CPU."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vlmixer.model.config import Settings, TrainConfig
from vlmixer.model.data import Loader
from vlmixer.model.network import Network
from vlmixer.model.shards import open_shards

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"vlmixer"}
SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_a_benchmark_imports_from_the_packages_is_there(name):
    tree = ast.parse((ROOT / "benchmarks" / name).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in PACKAGES:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")


def test_the_script_for_an_accelerator_measures_on_a_cpu_what_is_missing(tmp_path):
    results = tmp_path / "tiny.jsonl"
    results.write_text('{"case": "float32 16"}\n')
    call = [sys.executable, str(ROOT / "benchmarks" / "accelerator.py"), "--size", "tiny", "--device", "cpu"]
    done = subprocess.run([*call, "--results", str(results)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, *lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["case"] for line in lines] == ["ours 16", "detect 1", "hf 16"]
    assert not [line for line in lines if "error" in line]
    assert lines[0]["samples_per_second"] > 0
    assert 0 <= lines[0]["share_waiting"] < 1
    assert len(lines[1]["regions_hash"]) == 64


def test_batches_of_few_shapes_are_the_same_batches(tmp_path):
    accelerator = importlib.import_module("benchmarks.accelerator")
    shards = open_shards(accelerator.made_up(str(tmp_path), 40, 20))
    model = accelerator.SIZES["tiny"].model
    tokenizer = accelerator.tokenizer_of(Settings(model=model), shards)
    train = TrainConfig(batch_size=8, image_ratio=0.0, workers=0)
    batch = next(Loader(shards, tokenizer, model, train, 0).batches(0)).mixed
    network = Network(model, tokenizer.size, shards.feature_dim).eval()
    fixed = accelerator.of_few_shapes(batch)
    assert fixed.sequences.ids.shape[1] % 16 == 0
    assert fixed.sequences.mask.shape[1] == fixed.sequences.ids.shape[1] + 4
    before, after = (network.words(network.bert(each.sequences), each.chosen) for each in (batch, fixed))
    assert torch.allclose(before, after, atol=1e-5)
