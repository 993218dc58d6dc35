"""The folder of a run: config, tokenizer, weights, and the checkpoints that it resumes from exactly.

RUN/config.yaml                 the resolved seed, model and train sections
RUN/tokenizer.json              the vocabulary
RUN/log.jsonl, tensorboard/     losses every few steps, see model.progress
RUN/checkpoints/step-00000500/  model.safetensors, optimizer.pt, state.json; the last few and the best
RUN/reference.safetensors       what is likely in the training data, see model.likelihood.Reference
RUN/config.json, tokenizer_config.json, README.md   for Hugging Face, see model.hub_files
RUN/model.safetensors           the finished network; written after the last step
RUN/manifest.json               the hashes of the files of the finished run, see model.finished; written last
"""

import contextlib
import hashlib
import io
import json
import math
import os
import pickle
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, TypeVar

import safetensors.numpy
import safetensors.torch
import torch
import yaml
from safetensors import SafetensorError
from torch import Tensor, nn

from vlmixer.artifacts import files, settings
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model import finished
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, Settings
from vlmixer.model.finished import CONFIG, MODEL, OPTIMIZER, REFERENCE, STATE, TOKENIZER
from vlmixer.model.likelihood import Reference
from vlmixer.model.network import Network
from vlmixer.model.progress import say
from vlmixer.model.state import FREE, State, packed_state, read_state, resolved
from vlmixer.model.tensors import check_weights
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.torch_files import check_optimizer

CHECKPOINTS = "checkpoints"
Module = TypeVar("Module", bound=nn.Module)
_DAMAGE = (
    UserError, OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError, SafetensorError, EOFError,
    pickle.UnpicklingError,
)  # fmt: skip
"""Exceptions that reading a damaged checkpoint raises."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: the state of the network and of the optimizer, and how far it is."""

    network: dict[str, Tensor]
    optimizer: dict[str, Any]
    state: State


def save_config(run: str, config: Settings, tokenizer: Tokenizer) -> None:
    """Write config.yaml and tokenizer.json."""
    save_content(run, resolved(config), tokenizer)


def save_content(run: str, content: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Write config.yaml with this content, and tokenizer.json."""
    text = yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False)
    files.publish_bytes(files.join(run, CONFIG), text.encode())
    files.publish_bytes(files.join(run, TOKENIZER), tokenizer.to_json().encode())


def sweep(run: str) -> None:
    """Remove the files and checkpoints that a killed process was writing."""
    for folder in (run, files.join(run, CHECKPOINTS)):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if files.is_temporary(name):
                files.remove(files.join(folder, name))


def save_network(run: str, network: Network, reference: Reference) -> None:
    """Write the reference and then the finished network."""
    files.publish_bytes(files.join(run, REFERENCE), safetensors.numpy.save(vars(reference)))
    files.publish_bytes(files.join(run, MODEL), safetensors_of(network))


def folder_of(run: str, step: int) -> str:
    """The folder of the checkpoint of `step`."""
    return files.join(run, CHECKPOINTS, f"step-{step:08d}")


def checkpoints(run: str) -> list[str]:
    """The folders of the checkpoints of `run`, in order of their steps."""
    folder = files.join(run, CHECKPOINTS)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return [files.join(folder, name) for name in sorted(names) if finished.is_step(name)]


def save_checkpoint(run: str, network: nn.Module, optimizer: torch.optim.Optimizer, state: State, keep: int) -> None:
    """Write a checkpoint, whole or not at all. Keep the last `keep` checkpoints and the one with the lowest loss."""
    folder = folder_of(run, state.step)
    temporary = f"{folder}{files.TEMPORARY}{uuid.uuid4().hex}"
    # Serialised in memory first, because torch's own error for a full disk does not say so.
    packed = io.BytesIO()
    torch.save(optimizer.state_dict(), packed)
    weights = safetensors_of(network)
    hashes = {
        MODEL: hashlib.sha256(weights).hexdigest(),
        OPTIMIZER: hashlib.sha256(packed.getbuffer()).hexdigest(),
        TOKENIZER: files.sha256(files.join(run, TOKENIZER)),
    }
    try:
        files.publish_bytes(files.join(temporary, MODEL), weights)
        files.publish_bytes(files.join(temporary, OPTIMIZER), packed.getvalue())
        files.publish_bytes(files.join(temporary, STATE), packed_state(asdict(replace(state, files=hashes))))
    except UserError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if os.path.isdir(folder):  # a damaged one, which load_checkpoint skipped
        shutil.rmtree(folder)
    os.rename(temporary, folder)
    found = checkpoints(run)
    best = min(found, key=_loss)
    for place in found[:-keep]:
        if place != best or _loss(place) == math.inf:
            shutil.rmtree(place)


def load_checkpoint(run: str) -> Checkpoint | None:
    """The last sound checkpoint of `run`; None if there are none. Skips damaged ones with a message.

    Raises UserError if all are damaged.
    """
    found = checkpoints(run)
    for folder in reversed(found):
        try:
            state = read_state(folder)
            _check_files(folder, state)
            network = safetensors.torch.load_file(files.join(folder, MODEL))
            check_optimizer(files.join(folder, OPTIMIZER))
            optimizer = torch.load(files.join(folder, OPTIMIZER), map_location="cpu", weights_only=True)
            return Checkpoint(network, optimizer, state)
        except _DAMAGE as error:
            say(f"{folder}: damaged checkpoint, skipped ({error}).")
    if found:
        raise UserError(
            f"{files.join(run, CHECKPOINTS)}: all checkpoints are damaged. Remove the folder to start from the "
            "beginning, or give another --out."
        )
    return None


def restore(run: str, former: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Give network and optimizer the state of a checkpoint.

    Raises UserError if it is that of another network, or no state at all: weights and optimizer are files that anyone
    can replace.
    """
    folder = folder_of(run, former.state.step)
    try:
        network.load_state_dict(former.network)
        # The settings of the groups come from the config, not from the file.
        groups = [{**group} for group in optimizer.param_groups]
        optimizer.load_state_dict(former.optimizer)
        for group, configured in zip(optimizer.param_groups, groups, strict=True):
            group |= {name: value for name, value in configured.items() if name != "params"}
        for parameter, kept in optimizer.state.items():
            wanted = {"step": torch.Size([]), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
            if {name: value.shape for name, value in kept.items()} != wanted:
                raise ValueError("the optimizer's averages do not have the shapes of the weights")
    except _DAMAGE as error:
        raise UserError(
            f"{folder}: does not fit this run's network ({' '.join(str(error).split())[:300]}). Remove the "
            "checkpoint to continue from the one before, or give another --out."
        ) from None


def last_state(run: str) -> State | None:
    """How far the last checkpoint of `run` is that has a readable state; None if there is none."""
    for folder in reversed(checkpoints(run)):
        with contextlib.suppress(*_DAMAGE):
            return read_state(folder)
    return None


def _check_files(folder: str, state: State) -> None:
    """Raises ValueError if a file of the checkpoint is not the one that was written."""
    for name in finished.changed_in_checkpoint(folder, state.files):
        raise ValueError(f"{name} was changed")


def _loss(folder: str) -> float:
    """The loss by which the best checkpoint is chosen. That of an interrupt is never the best."""
    try:
        state = read_state(folder)
        return math.inf if state.since else state.loss
    except _DAMAGE:
        return math.inf


def check_continuation(run: str, former: State, config: Settings, shards: str) -> None:
    """Raises CallError, naming the settings that differ, if `config` or the shards are not those of the run, and
    UserError if its tokenizer.json was changed."""
    check_content(run, former, resolved(config), shards, FREE, "shards")


def check_content(run: str, former: State, now: Mapping[str, Any], data: str, free: Collection[str], what: str) -> None:
    """As `check_continuation`, for a run with the resolved settings `now` and the hash `data` of its data. free: keys
    that may change. what: the data, for messages."""
    tokenizer = files.join(run, TOKENIZER)
    if former.files and files.sha256(tokenizer) != former.files[TOKENIZER]:
        raise UserError(f"{tokenizer}: was changed since the training began. Restore it, or give another --out.")
    if former.shards != data:
        raise CallError(
            f"{run}: was trained on other {what}. Give the same {what} to continue, or another --out for a new run."
        )
    changed = []
    for section, values in json.loads(json.dumps(now)).items():
        before = former.config.get(section)
        if not isinstance(values, dict) or not isinstance(before, dict):
            changed += [section] if before != values else []
            continue
        changed += [f"{section}.{key}" for key, value in values.items() if key not in free and before.get(key) != value]
    if changed:
        raise CallError(
            f"{run}: cannot be continued, because {', '.join(changed)} changed. Restore the value in "
            f"{files.join(run, CONFIG)}, or give another --out for a new run."
        )


def load_run(run: str) -> tuple[Network, Tokenizer, Settings]:
    """The finished network of `run` (in evaluation mode, on the CPU), its tokenizer and its settings.

    Raises UserError if the run is not finished or one of its files is not the one that the training wrote.
    """
    finished.check(run)
    config = settings.build(Settings, settings.load_yaml(files.join(run, CONFIG)), where=files.join(run, CONFIG))
    tokenizer = tokenizers.load(files.join(run, TOKENIZER))
    build = partial(Network, config.model, tokenizer.size, config.model.feature_dim or 0)
    network = with_weights(run, build, config.model, tokenizer)
    return network.eval(), tokenizer, config


def with_weights(
    run: str, build: Callable[[], Module], config: ModelConfig, tokenizer: Tokenizer, prefix: str = ""
) -> Module:
    """What `build` makes, with the weights of a finished run. Raises UserError if they are not those of its config and
    tokenizer, before memory is taken for them, or not finite: no result may be made from them.

    prefix: as of `tensors.check_weights`.
    """
    path = files.join(run, MODEL)
    with _of_config(path):
        check_weights(path, config, tokenizer.size, prefix)
    made = build()
    with _of_config(path):
        made.load_state_dict(safetensors.torch.load_file(path))
    return made


@contextlib.contextmanager
def _of_config(path: str) -> Iterator[None]:
    """Damage found in the block becomes a UserError that names the file of weights."""
    try:
        yield
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise UserError(
            f"{path}: not the weights of this run's config ({' '.join(str(error).split())[:300]}). Copy the run again, "
            "or train again."
        ) from None


def with_feature_dim(config: Settings, feature_dim: int, where: str) -> Settings:
    """`config` with the feature width of the shards. Raises UserError if it asks for another width."""
    if config.model.feature_dim not in (None, feature_dim):
        raise UserError(
            f"model.feature_dim: {config.model.feature_dim}, but the features in {where} are {feature_dim} wide. "
            "Remove the key to use the shards' width, or give shards made with the other detector."
        )
    return replace(config, model=replace(config.model, feature_dim=feature_dim))


def safetensors_of(network: nn.Module) -> bytes:
    """The network's parameters by name as the content of a safetensors file. transformers needs the format there."""
    plain = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    return safetensors.torch.save(plain, {"format": "pt"})
