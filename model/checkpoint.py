"""A run's folder: its config, tokenizer and weights, and the checkpoints from which it goes on exactly.

RUN/config.yaml                 the resolved seed, model and train sections
RUN/tokenizer.json              the vocabulary
RUN/log.jsonl, tensorboard/     losses every few steps, see model.progress
RUN/checkpoints/step-00000500/  model.safetensors, optimizer.pt, state.json; the last few and the best
RUN/usual.safetensors           embedded sentences of the training, see model.evaluate.similarity
RUN/model.safetensors           the finished network; not there before the last step
"""

import io
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor

from vlmixer.artifacts import files, settings
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, Settings
from vlmixer.model.network import Network
from vlmixer.model.tokenizer import Tokenizer

CONFIG, TOKENIZER, CHECKPOINTS = "config.yaml", "tokenizer.json", "checkpoints"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.pt", "state.json"
USUAL = "usual.safetensors"

# Settings that may change between a run and its continuation: they do not change what is learned.
FREE = {"device", "shards", "log_every", "checkpoint_every", "keep_checkpoints", "tensorboard", "workers", "compile"}


@dataclass(frozen=True)
class State:
    """Where a checkpoint stands: `step` updates done, in `epoch`. `config`: seed, model and train sections.

    `loss` is the mean of the steps since the former checkpoint, by which the best one is known. `shards` is the content
    hash of the shards' manifest. Shards, places in them and random numbers of later steps follow from the seed and the
    step, so nothing else need be kept.
    """

    step: int
    epoch: int
    loss: float
    shards: str
    config: dict[str, Any]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read: the network's and the optimizer's state, and where it stands."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: State


def resolved(config: Settings) -> dict[str, Any]:
    """What a run's config.yaml holds: everything but the output's own place."""
    return {"seed": config.seed, "model": asdict(config.model), "train": asdict(config.train)}


def save_config(run: str, config: Settings, tokenizer: Tokenizer) -> None:
    """Write config.yaml and tokenizer.json."""
    text = yaml.safe_dump(resolved(config), sort_keys=False)
    files.publish_bytes(files.join(run, CONFIG), text.encode())
    files.publish_bytes(files.join(run, TOKENIZER), tokenizer.to_json().encode())


def sweep(run: str) -> None:
    """Remove what a kill left of files and checkpoints that were being written."""
    for folder in (run, files.join(run, CHECKPOINTS)):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if files.TEMPORARY in name:
                files.remove(files.join(folder, name))


def save_network(run: str, network: Network, usual: np.ndarray) -> None:
    """Write the finished network and, before it, the (m, projection_size) float32 vectors of `usual` texts."""
    files.publish_bytes(files.join(run, USUAL), safetensors.numpy.save({"texts": usual}))
    files.publish_bytes(files.join(run, MODEL), safetensors.torch.save(_plain(network)))


def folder_of(run: str, step: int) -> str:
    """Where the checkpoint of `step` lies."""
    return files.join(run, CHECKPOINTS, f"step-{step:08d}")


def checkpoints(run: str) -> list[str]:
    """The folders of the whole checkpoints of `run`, the last one last."""
    folder = files.join(run, CHECKPOINTS)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [files.join(folder, name) for name in sorted(names) if files.TEMPORARY not in name]


def save_checkpoint(run: str, network: Network, optimizer: torch.optim.Optimizer, state: State, keep: int) -> None:
    """Write a checkpoint, which is there whole or not at all; keep the last `keep` and the one with the lowest loss."""
    folder = folder_of(run, state.step)
    temporary = f"{folder}{files.TEMPORARY}{uuid.uuid4().hex}"
    # By way of memory: what torch itself says where the disk is full helps nobody.
    packed = io.BytesIO()
    torch.save(optimizer.state_dict(), packed)
    try:
        files.publish_bytes(files.join(temporary, MODEL), safetensors.torch.save(_plain(network)))
        files.publish_bytes(files.join(temporary, OPTIMIZER), packed.getvalue())
        files.publish_bytes(files.join(temporary, STATE), json.dumps(asdict(state), indent=1).encode())
    except UserError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    os.rename(temporary, folder)
    found = checkpoints(run)
    best = min(found, key=lambda place: _state(place).loss)
    for place in found[:-keep]:
        if place != best:
            shutil.rmtree(place)


def load_checkpoint(run: str) -> Checkpoint | None:
    """The last checkpoint of `run`, or None. Raises UserError if it is damaged."""
    found = checkpoints(run)
    if not found:
        return None
    folder = found[-1]
    try:
        state = _state(folder)
        network = safetensors.torch.load_file(files.join(folder, MODEL))
        optimizer = torch.load(files.join(folder, OPTIMIZER), map_location="cpu", weights_only=True)
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError, EOFError) as error:
        raise UserError(
            f"{folder}: damaged checkpoint ({error}). Remove it to go on from the one before, if there is one."
        ) from None
    return Checkpoint(network, optimizer, state)


def _state(folder: str) -> State:
    with open(files.join(folder, STATE), encoding="utf-8") as file:
        return State(**json.load(file))


def check_continuation(run: str, former: State, config: Settings, shards: str) -> None:
    """Raises CallError, naming the first difference, if `config` or the shards are not those of the run."""
    if former.shards != shards:
        raise CallError(
            f"{run}: was trained on other shards. Give the same shards to continue, or another --out to start anew."
        )
    now = resolved(config)
    changed = [] if former.config["seed"] == config.seed else ["seed"]
    for section in ("model", "train"):
        before = former.config[section]
        changed += [
            f"{section}.{key}" for key, value in now[section].items() if key not in FREE and before.get(key) != value
        ]
    if changed:
        raise CallError(
            f"{run}: cannot be continued, because {', '.join(changed)} changed since. Set the former value "
            f"(see {files.join(run, CONFIG)}), or give another --out to start anew."
        )


def load_run(run: str) -> tuple[Network, Tokenizer, Settings]:
    """The finished network of `run` (in evaluation mode, on the CPU), its tokenizer and its settings.

    Raises UserError if the run is not finished or a file of it is damaged.
    """
    if not os.path.isfile(files.join(run, MODEL)):
        raise UserError(
            f"{files.join(run, MODEL)}: no such file; there is no finished run. "
            "Train first, with --resume if it stopped."
        )
    config = settings.build(Settings, settings.load_yaml(files.join(run, CONFIG)), where=files.join(run, CONFIG))
    tokenizer = tokenizers.load(files.join(run, TOKENIZER))
    network = Network(config.model, tokenizer.size, config.model.feature_dim or 0)
    try:
        network.load_state_dict(safetensors.torch.load_file(files.join(run, MODEL)))
    except (RuntimeError, SafetensorError) as error:
        raise UserError(f"{files.join(run, MODEL)}: not the weights of this run's config ({error}).") from None
    return network.eval(), tokenizer, config


def load_usual(run: str) -> np.ndarray:
    """(m, projection_size) float32, the vectors of usual texts of a finished run. Raises UserError."""
    path = files.join(run, USUAL)
    try:
        texts: np.ndarray = safetensors.numpy.load_file(path)["texts"]
    except (OSError, KeyError, SafetensorError) as error:
        raise UserError(f"{path}: expected the usual texts of a finished run ({error}). Train anew.") from None
    return texts


def load_bert(network: Network, path: str, config: ModelConfig) -> None:
    """Start the encoder, and the masked-word head where the file has it, from Hugging Face's BERT weights.

    Reads BertModel's and BertForPreTraining's names; parts that BERT has not keep their own start. Raises
    UserError naming the first parameter that is missing or of another shape.
    """
    try:
        given = safetensors.torch.load(files.read_bytes(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"model.init: {path} is not readable as safetensors ({error}).") from None
    renamed: dict[str, Tensor] = {}
    for name, value in given.items():
        # Older files say gamma and beta for LayerNorm's weight and bias.
        new = name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
        renamed[new if new.startswith(("bert.", "cls.")) else f"bert.{new}"] = value
    table = "bert.embeddings.position_embeddings.weight"
    if table in renamed:
        renamed[table] = renamed[table][: config.max_text_tokens]
    own = network.state_dict()
    heads = {name for name in own if name.startswith("cls.")}
    needed = {name for name in own if name.startswith("bert.") and "region_embeddings" not in name}
    for name in sorted(needed | (heads & renamed.keys())):
        found = tuple(renamed[name].shape) if name in renamed else None
        if found != tuple(own[name].shape):
            raise UserError(
                f"model.init: {path} has {name} of shape {found}, the config needs {tuple(own[name].shape)}. "
                "Give the model section the sizes of these weights, and model.tokenizer their vocabulary."
            )
    network.load_state_dict({name: renamed[name] for name in own if name in renamed}, strict=False)


def with_feature_dim(config: Settings, feature_dim: int, where: str) -> Settings:
    """`config` with the shards' width of features. Raises UserError if it asks for another one."""
    if config.model.feature_dim not in (None, feature_dim):
        raise UserError(
            f"model.feature_dim: {config.model.feature_dim}, but the features in {where} are {feature_dim} wide. "
            "Leave the key out to take the shards' width, or give the shards of the other detector."
        )
    return replace(config, model=replace(config.model, feature_dim=feature_dim))


def _plain(network: Network) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
