"""Checks the folder of a run: its config, word pieces, weights, reference and checkpoints, each against the others.

Needs no torch and runs no pickle. What is read here when a run is loaded is checked by the same functions there.
"""

import json
from typing import Any

from vlmixer.artifacts import files, json_files, manifest, settings
from vlmixer.artifacts.details import FineTunedDetails, RunDetails
from vlmixer.model import finished
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, Settings
from vlmixer.model.finished import CONFIG, HUB_CONFIG, HUB_TOKENIZER, LABELS, MODEL, OPTIMIZER, REFERENCE, TOKENIZER
from vlmixer.model.hub_files import network_config, tokenizer_config
from vlmixer.model.reference import load_reference
from vlmixer.model.state import lasting, read_state
from vlmixer.model.tasks import TASKS
from vlmixer.model.tensors import check_weights
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.torch_files import check_optimizer
from vlmixer.pipeline.verification.checks import StageFolder

Run = StageFolder[RunDetails] | StageFolder[FineTunedDetails]


def check(stage: Run) -> None:
    """Read the files of the run and every checkpoint."""
    present = {output.name: output for output in stage.outputs}
    tokenizer = model = None
    if CONFIG in present:
        with stage.report.reading(stage.path(present[CONFIG])):
            model = _model(stage)
    if TOKENIZER in present:
        with stage.report.reading(stage.path(present[TOKENIZER])):
            tokenizer = _tokenizer(stage.path(present[TOKENIZER]))
    if MODEL in present and model is not None and tokenizer is not None:
        tuned = isinstance(stage.manifest.details, FineTunedDetails)
        with stage.report.reading(path := stage.path(present[MODEL])):
            check_weights(path, model, tokenizer.size, "network." if tuned else "")
    if REFERENCE in present and MODEL in present:
        with stage.report.reading(stage.path(present[REFERENCE])):
            load_reference(stage.folder)
    if LABELS in present:
        with stage.report.reading(path := stage.path(present[LABELS])):
            _check_labels(stage, path)
    if model is not None and tokenizer is not None:
        for name, expected in ((HUB_CONFIG, network_config), (HUB_TOKENIZER, tokenizer_config)):
            if name in present:
                with stage.report.reading(path := stage.path(present[name])):
                    _check_for_hub(path, expected(model, tokenizer))
    names = {name.partition("/")[0] for name in files.list_files(files.join(stage.folder, "checkpoints"))}
    for name in sorted(filter(finished.is_step, names)):
        with stage.report.reading(folder := files.join(stage.folder, "checkpoints", name)):
            _check_checkpoint(stage, folder)
        stage.report.rows["checkpoints"] += 1


def _model(stage: Run) -> ModelConfig:
    """The network that config.yaml describes. Raises ValueError or UserError if that is not what was trained."""
    details, path = stage.manifest.details, files.join(stage.folder, CONFIG)
    content = settings.load_yaml(path)
    _check_settings(stage, content)
    if isinstance(details, FineTunedDetails):
        if details.task not in TASKS or content.get("finetune") != details.task:
            raise ValueError(f"fine-tuned for {str(content.get('finetune'))[:40]!r}, the manifest says another task")
        model = settings.build(ModelConfig, content["model"], where=path)
        steps = content["task"]["steps"]
    else:
        whole = settings.build(Settings, content, where=path)
        model, steps = whole.model, whole.train.steps
    if (model.feature_dim, steps) != (details.feature_dim, details.steps):
        raise ValueError(
            f"features {model.feature_dim} wide and {steps} steps, the manifest says {details.feature_dim} and "
            f"{details.steps}"
        )
    return model


def _check_settings(stage: Run, content: dict[str, Any]) -> None:
    """Raises ValueError if the settings that the network depends on are not those that config_hash covers."""
    if manifest.digest(lasting(content)) != stage.manifest.config_hash:
        raise ValueError("its settings are not those that the manifest says the run was made with")


def _tokenizer(path: str) -> Tokenizer:
    content = json_files.parse(json_files.read_limited(path, advice=""), dict[str, Any])
    if content.get("truncation") is not None or content.get("padding") is not None:
        raise ValueError("it cuts texts or pads them, which a run's own word pieces do not")
    return tokenizers.load(path)


def _check_labels(stage: Run, path: str) -> None:
    """Raises ValueError if the labels are not those that the manifest has among its inputs."""
    labels = json_files.parse(json_files.read_limited(path, advice=""), dict[str, Any])
    if manifest.digest(labels) not in [entry.sha256 for entry in stage.manifest.inputs if entry.name == "labels"]:
        raise ValueError("not the labels that the run learned")


def _check_for_hub(path: str, expected: dict[str, Any]) -> None:
    """Raises ValueError if what transformers reads is not the run's, or has keys that we do not write: some of these
    make it run code."""
    found = json_files.parse(json_files.read_limited(path, advice=""), dict[str, Any])
    for key, value in found.items():
        if key not in expected or json.dumps(value) != json.dumps(expected[key]):
            raise ValueError(f"{key[:40]}: {str(value)[:40]}, expected {str(expected.get(key, 'no such key'))[:40]}")


def _check_checkpoint(stage: Run, folder: str) -> None:
    """Raises ValueError or UserError if the checkpoint is none of this run."""
    state, details = read_state(folder), stage.manifest.details
    changed = finished.changed_in_checkpoint(folder, state.files)
    for name in changed:
        stage.report.add(files.join(folder, name), "its bytes changed: its SHA-256 is not in state.json")
    if OPTIMIZER not in changed:
        with stage.report.reading(path := files.join(folder, OPTIMIZER)):
            check_optimizer(path)
    _check_settings(stage, state.config)
    hashes = {output.name: output.sha256 for output in stage.manifest.outputs}
    if state.step > details.steps or state.shards != _data(stage):
        raise ValueError(f"of step {state.step}, or of other data than the run")
    same = (MODEL, TOKENIZER) if state.step == details.steps else (TOKENIZER,)
    if other := [name for name in same if state.files.get(name, hashes.get(name)) != hashes.get(name)]:
        raise ValueError(f"its {other[0]} is not the run's")


def _data(stage: Run) -> str:
    """The hash of what the run was trained on, as its checkpoints have it."""
    inputs = [entry.sha256 for entry in stage.manifest.inputs]
    return manifest.digest(inputs) if isinstance(stage.manifest.details, FineTunedDetails) else inputs[0]
