"""Weights & Biases, offline: its own file gets the numbers of log.jsonl, and a resumed run goes on under its id."""

import json
import sys
from pathlib import Path

import pytest
from tests.model.runs import Killed, losses, settings, stop_after
from wandb.proto import wandb_internal_pb2 as written

from vlmixer.artifacts.errors import UserError
from vlmixer.model.training import train

BLOCK, HEADER, FILE_HEADER = 32768, 7, 7
FULL, LAST = 1, 4


def records(path):
    """The records of W&B's file: a log of LevelDB's kind, records in parts that do not cross blocks."""
    data, at, whole = path.read_bytes(), FILE_HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (FULL, LAST):
            yield written.Record.FromString(whole)
            whole = b""


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Where W&B writes; nothing leaves this machine."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "wandb"


def test_weights_and_biases_gets_the_same_numbers_and_a_resumed_run_goes_on(shards, tmp_path, monkeypatch, offline):
    run = str(tmp_path / "run")
    asked = settings(shards, wandb="toy", steps=6, checkpoint_every=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Killed):
            train(asked, out=run)
    train(asked, out=run, resume=True)

    found = [record for path in sorted(offline.glob("offline-run-*/*.wandb")) for record in records(path)]
    assert {record.run.run_id for record in found if record.HasField("run")} == {Path(run, "wandb-id").read_text()}
    assert {record.run.project for record in found if record.HasField("run")} == {"toy"}
    history = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
        for record in found
        if record.HasField("history")
    ]
    steps = {entry["_step"]: entry for entry in history}
    for line in losses(run):
        for name in ("loss", "contrastive", "learning_rate"):
            assert steps[line["step"]][name] == pytest.approx(line[name], rel=1e-6)
    assert not any(record.HasField("environment") for record in found)  # nothing about the machine


def test_where_it_is_not_installed_is_an_error(shards, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match=r"train.wandb: needs wandb. Run `pip install"):
        train(settings(shards, wandb="toy"), out=str(tmp_path / "run"))
