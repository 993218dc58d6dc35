"""Training: one loop from shards to a network, on one process and one device.

`python -m model.train CONFIG.yaml` and `vlmixer train` are this program. A run that is stopped anywhere and
continued with --resume goes on with the losses that it would have had; on a CPU they agree bit for bit.
"""

import argparse
import json
import math
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from artifacts import files
from artifacts.errors import CallError, UserError
from artifacts.rng import stable_hash
from model import checkpoint, objectives
from model import tokenizer as tokenizers
from model.checkpoint import State
from model.config import Settings, TrainConfig, load_settings
from model.data import Batch, Loader, ShardSet, open_shards
from model.network import Network
from model.tokenizer import Tokenizer

SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Losses:
    """The three losses of a step, scalars; 0 for one that is switched off or had nothing to predict."""

    masked_language: Tensor
    masked_tags: Tensor
    contrastive: Tensor

    def total(self, config: TrainConfig) -> Tensor:
        """Their weighted sum."""
        return (
            config.masked_language_weight * self.masked_language
            + config.masked_tags_weight * self.masked_tags
            + config.contrastive_weight * self.contrastive
        )


def losses_of(network: Network, batch: Batch, config: TrainConfig) -> Losses:
    """The losses of one batch. Masked words are predicted from the mixed view, tags beside an image's regions."""
    nothing = torch.zeros((), device=batch.sentences.device)
    language = tags = contrast = nothing
    if config.masked_language_weight:
        logits = network.words(batch.mixed.sequences, batch.mixed.chosen)
        language = objectives.masked_language_modelling(logits, batch.mixed.targets)
    if config.masked_tags_weight and batch.images is not None:
        logits = network.tag_pieces(batch.images.sequences, batch.images.chosen)
        tags = objectives.masked_tag_prediction(logits, batch.images.targets, batch.images.words)
    if config.contrastive_weight and batch.text is not None and batch.view is not None:
        text, view = network.embed(batch.text), network.embed(batch.view)
        contrast = objectives.contrastive(text, view, batch.sentences, config.temperature)
    return Losses(language, tags, contrast)


def train(settings: Settings, shards: str | None = None, out: str | None = None, resume: bool = False) -> str:
    """Train on the folder `shards` (default: train.shards, or OUT/shards) into the folder `out` (default OUT/run).

    With `resume` a stopped run is continued, and a finished one left as it is. Returns the run's folder. Raises
    CallError or UserError for what the user can mend, such as shards of another width or a loss that is no number.
    """
    run = out or files.join(settings.out, "run")
    source = shards or settings.train.shards or files.join(settings.out, "shards")
    _check_place(run)
    device = _device(settings.train)
    shard_set = open_shards(source)
    settings = checkpoint.with_feature_dim(settings, shard_set.feature_dim, source)
    former = checkpoint.load_checkpoint(run)
    if former is not None:
        if not resume:
            raise CallError(
                f"{run}: holds a run already (step {former.state.step} of {former.state.config['train']['steps']}). "
                "Continue it with --resume, or give another --out."
            )
        checkpoint.check_continuation(run, former.state, settings, shard_set.content_hash)
        if os.path.exists(files.join(run, checkpoint.MODEL)):
            _say(f"{run} is finished ({former.state.step} steps); nothing to do.")
            return run

    tokenizer = _tokenizer(settings, shard_set, run if former else None)
    torch.manual_seed(_torch_seed(settings.seed, "weights"))
    network = Network(settings.model, tokenizer.size, shard_set.feature_dim)
    if former is not None:
        network.load_state_dict(former.network)
    elif settings.model.init is not None:
        checkpoint.load_bert(network, settings.model.init, settings.model)
    network.to(device).train()
    optimizer = _optimizer(network, settings.train)
    if former is not None:
        optimizer.load_state_dict(former.optimizer)
    else:
        checkpoint.save_config(run, settings, tokenizer)
    checkpoint.sweep(run)
    start = former.state.step if former else 0
    _cut_log(run, start)
    loader = Loader(shard_set, tokenizer, settings.model, settings.train, settings.seed)
    _loop(run, settings, shard_set, network, optimizer, loader, start, device)
    checkpoint.save_network(run, network)
    return run


def _loop(
    run: str,
    settings: Settings,
    shard_set: ShardSet,
    network: Network,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    start: int,
    device: torch.device,
) -> None:
    """Steps `start` to the last one, with log lines and checkpoints."""
    config = settings.train
    saved = start or None
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    batches = loader.batches(start)
    with _Progress(run, config.steps, start) as progress:
        for step in range(start, config.steps):
            batch = next(batches).to(device)
            # Dropout, too, follows from the seed and the step alone.
            torch.manual_seed(_torch_seed(settings.seed, step))
            rate = learning_rate(step, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                losses = losses_of(network, batch, config)
            total = losses.total(config)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
            # Before the update, so that the weights stay what they were at the last sound step.
            if not math.isfinite(norm.item()) or not math.isfinite(total.item()):
                raise UserError(_not_finite(run, step + 1, losses, norm, saved))
            optimizer.step()

            done = step + 1
            progress.count(batch)
            if done % config.log_every == 0 or done == config.steps:
                progress.report(done, batch.epoch, losses, total, rate, norm)
            if done % config.checkpoint_every == 0 or done == config.steps:
                state = State(done, batch.epoch, shard_set.content_hash, checkpoint.resolved(settings))
                checkpoint.save_checkpoint(run, network, optimizer, state)
                saved = done


def learning_rate(step: int, config: TrainConfig) -> float:
    """The rate of update `step` (from 0): a linear rise over warmup_steps, then a linear fall towards 0."""
    warmup = min(config.warmup_steps, config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (config.steps - step) / max(config.steps - warmup, 1)


class _Progress:
    """The run's log.jsonl, and on stderr a bar, or a plain line now and then where that is no terminal."""

    def __init__(self, run: str, steps: int, start: int) -> None:
        self._steps, self._start = steps, start
        self._log = open(files.join(run, checkpoint.LOG), "a", encoding="utf-8")  # noqa: SIM115
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=not sys.stderr.isatty())
        self._began = self._last_count = self._last_line = time.monotonic()
        self._samples = self._items = 0

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        self._log.close()

    def count(self, batch: Batch) -> None:
        """A step was done with `batch`."""
        self._samples += batch.samples
        self._items += batch.items
        self._bar.update()

    def report(self, done: int, epoch: int, losses: Losses, total: Tensor, rate: float, norm: Tensor) -> None:
        """Write the losses of the step just done, and the speed since the last report."""
        now = time.monotonic()
        elapsed = max(now - self._last_count, 1e-9)
        left = (now - self._began) / (done - self._start) * (self._steps - done)
        line: dict[str, Any] = {"step": done, "epoch": epoch, "loss": total.item()}
        line |= {name: value.item() for name, value in vars(losses).items()}
        line |= {"learning_rate": rate, "gradient_norm": norm.item()}
        line |= {
            "samples_per_second": round(self._samples / elapsed, 1),
            "items_per_second": round(self._items / elapsed, 1),
            "seconds_left": round(left, 1),
        }
        self._log.write(json.dumps(line) + "\n")
        self._log.flush()
        shown = f"loss {line['loss']:.3f}, {line['samples_per_second']:.0f} samples/s"
        self._bar.set_postfix_str(shown)
        if self._bar.disable and (now - self._last_line > SECONDS_BETWEEN_LINES or done == self._steps):
            _say(f"train: step {done} of {self._steps}, {shown}, {left:.0f} s left")
            self._last_line = now
        self._last_count, self._samples, self._items = now, 0, 0


def _cut_log(run: str, step: int) -> None:
    """Take out of log.jsonl what was logged after `step`, because those steps come again."""
    path = files.join(run, checkpoint.LOG)
    lines = files.read_bytes(path).decode().splitlines() if os.path.exists(path) else []
    kept = []
    for line in lines:
        # A kill may have cut the last line short.
        if not line.endswith("}") or json.loads(line)["step"] > step:
            break
        kept.append(line + "\n")
    files.publish_bytes(path, "".join(kept).encode())


def _optimizer(network: Network, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; biases and LayerNorms, which are vectors, do not decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _tokenizer(settings: Settings, shard_set: ShardSet, former_run: str | None) -> Tokenizer:
    """The run's own tokenizer if it is continued, else the user's, else one learned from the shards."""
    if former_run is not None:
        return tokenizers.load(files.join(former_run, checkpoint.TOKENIZER))
    if settings.model.tokenizer is not None:
        return tokenizers.load(settings.model.tokenizer)
    return tokenizers.learn(shard_set.texts(), settings.model.vocabulary_size)


def _device(config: TrainConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device: cuda, but PyTorch finds no CUDA device here. Set it to auto or cpu.")
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _check_place(run: str) -> None:
    if files.is_url(run):
        raise CallError(f"{run}: training writes to a local folder. Give one with --out, and copy it afterwards.")
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise CallError(f"torchrun started {processes} processes; training runs on one. Use --nproc-per-node=1.")


def _not_finite(run: str, step: int, losses: Losses, norm: Tensor, saved: int | None) -> str:
    values = ", ".join(f"{name} {value.item():g}" for name, value in vars(losses).items())
    good = f"{files.join(run, checkpoint.CHECKPOINT)} (step {saved})" if saved else "none yet"
    return (
        f"step {step}: the loss is no finite number ({values}, gradient norm {norm.item():g}). Last good "
        f"checkpoint: {good}. Look for features that are not finite, or train anew with a lower train.learning_rate."
    )


def _torch_seed(seed: int, key: str | int) -> int:
    return stable_hash(seed, "torch", key, bits=56)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The program `python -m model.train`; returns its exit code (0 done, 1 the work failed, 2 the call was wrong)."""
    parser = argparse.ArgumentParser(prog="python -m model.train", description="Train from a folder of shards.")
    parser.add_argument("config", help="the config file (YAML)")
    parser.add_argument("--out", help="folder of the run (default: OUT/run)")
    parser.add_argument("--resume", action="store_true", help="continue a run that stopped")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="set a key of the config")
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    options = parser.parse_args(arguments)
    try:
        train(load_settings(options.config, options.set), out=options.out, resume=options.resume)
    except UserError as error:
        if options.debug:
            traceback.print_exc()
        _say(f"error: {error}")
        return 2 if isinstance(error, CallError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
