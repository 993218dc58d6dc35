"""Weights & Biases, offline: its own file gets the numbers of log.jsonl, and a resumed run goes on under its id.
MLflow: what its client is asked to send."""

import json
import sys
from collections import namedtuple
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from tests.model.runs import Killed, losses, settings, stop_after
from wandb.proto import wandb_internal_pb2 as written

from vlmixer.artifacts.errors import UserError
from vlmixer.model.trackers import WeightsAndBiases
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


@pytest.mark.parametrize("project", ["../x", "x" * 5000])
def test_a_project_that_cannot_be_is_an_error(tmp_path, offline, project):
    with pytest.raises(UserError, match=r"wandb: project '.* cannot be used \(.*log\.jsonl has the same numbers"):
        WeightsAndBiases(str(tmp_path), 0, project, {})


def test_where_it_is_not_installed_is_an_error(shards, tmp_path, monkeypatch):
    for name in ("wandb", "mlflow"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=rf"train.{name}: needs {name}. Run `pip install"):
            train(settings(shards, **{name: "toy"}), out=str(tmp_path / "run"))


Metric = namedtuple("Metric", "key value timestamp step")
Param = namedtuple("Param", "key value")


class Server:
    """What MLflow's client says to a server, kept in lists. broken: from this call of log_batch on it fails."""

    def __init__(self, broken=None):
        self.experiments: dict[str, str] = {}
        self.runs: list[tuple[str, str]] = []
        self.settings: dict[str, str] = {}
        self.numbers: list[tuple[int, str, float]] = []
        self.states: list[str] = []
        self.calls, self.broken = 0, broken


@pytest.fixture
def mlflow(monkeypatch):
    """A stand-in for mlflow-skinny, with the names and arguments of its 3.17.2."""

    class MlflowException(Exception):
        pass

    class MlflowClient:
        def get_experiment_by_name(self, name):
            found = server.experiments.get(name)
            return found and SimpleNamespace(experiment_id=found)

        def create_experiment(self, name):
            return server.experiments.setdefault(name, f"id of {name}")

        def create_run(self, experiment_id, run_name):
            server.runs.append((experiment_id, run_name))
            return SimpleNamespace(info=SimpleNamespace(run_id=f"run {len(server.runs)}"))

        def log_batch(self, run_id, metrics=(), params=()):
            server.calls += 1
            if server.broken is not None and server.calls >= server.broken:
                raise MlflowException("no answer")
            assert run_id == f"run {len(server.runs)}"
            assert len(params) <= 100
            server.settings.update(params)
            server.numbers += [(step, name, value) for name, value, _, step in metrics]

        def update_run(self, run_id, status):
            server.states.append(f"{run_id} {status}")

        def set_terminated(self, run_id):
            server.states.append(f"{run_id} ended")

    server = Server()
    package: Any = ModuleType("mlflow")
    package.MlflowClient, package.MlflowException = MlflowClient, MlflowException
    package.get_tracking_uri = lambda: "http://tracking"
    package.entities = ModuleType("mlflow.entities")
    package.entities.Metric, package.entities.Param = Metric, Param
    monkeypatch.setitem(sys.modules, "mlflow", package)
    monkeypatch.setitem(sys.modules, "mlflow.entities", package.entities)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return server


def test_mlflow_gets_the_same_numbers_and_a_resumed_run_goes_on(shards, tmp_path, monkeypatch, mlflow):
    run = str(tmp_path / "toy-run")
    asked = settings(shards, mlflow="toy", steps=6, checkpoint_every=2)
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        with pytest.raises(Killed):
            train(asked, out=run)
    train(asked, out=run, resume=True)

    assert mlflow.runs == [("id of toy", "toy-run")]
    assert Path(run, "mlflow-id").read_text() == "run 1"
    assert mlflow.settings["train.steps"] == "6"
    assert mlflow.states == ["run 1 ended", "run 1 RUNNING", "run 1 ended"]
    sent = {(step, name): value for step, name, value in mlflow.numbers}
    for line in losses(run):
        for name in ("loss", "contrastive", "learning_rate"):
            assert sent[line["step"], name] == line[name]


def test_training_goes_on_without_a_server_that_fails(shards, tmp_path, mlflow, caplog):
    mlflow.broken = 3  # the settings, the first numbers, then nothing more
    train(settings(shards, mlflow="toy", steps=4, log_every=1), out=str(tmp_path / "run"))
    assert {step for step, *_ in mlflow.numbers} == {1}
    assert [record.message for record in caplog.records if "MLflow" in record.message] == [
        "MLflow: no answer. From step 2 on, the numbers are in log.jsonl alone."
    ]
    assert len(losses(str(tmp_path / "run"))) == 4


def test_a_server_that_takes_no_run_is_an_error(shards, tmp_path, mlflow):
    mlflow.broken = 1
    with pytest.raises(UserError, match=r"^MLflow at http://tracking: no answer\. Set MLFLOW_TRACKING_URI to a server"):
        train(settings(shards, mlflow="toy"), out=str(tmp_path / "run"))
