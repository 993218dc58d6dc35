"""Training: one loop from shards to a network, on one device or, started by torchrun, on several.

A run that is stopped anywhere and then resumed has the losses of a run that was never stopped; on a CPU they agree bit
for bit. Which samples a step reads is left to model.data, what a run keeps on disk to model.checkpoint, the command
line to model.train.
"""

import itertools
import logging
import math
import signal
import time
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from vlmixer.artifacts import files, interrupts
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.artifacts.lock import locked
from vlmixer.artifacts.rng import stable_hash
from vlmixer.model import checkpoint, finished, objectives
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.bert import load_bert
from vlmixer.model.checkpoint import State
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.model.data import Batch, Loader, readers_of
from vlmixer.model.embedding import embed_reference
from vlmixer.model.network import Network
from vlmixer.model.progress import Progress, say
from vlmixer.model.ranks import Ranks, connected_ranks, from_environment
from vlmixer.model.shards import ShardSet, open_shards
from vlmixer.model.tokenizer import Tokenizer

LOG = logging.getLogger("vlmixer")
MAX_UNKNOWN = 0.01
"""A larger share of [UNK] among the word pieces of a sample gives a warning. On 20,000 English captions BERT's lower-
case vocabulary has none; if they are not lower-cased for it, 5.8 %."""
UNKNOWN_SAMPLE = 2000
"""Sentences in this sample."""

LOSSES = ("masked_language", "masked_tags", "contrastive", "masked_text", "replaced_words")


class Losses(nn.Module):
    """The network with its objectives: a batch in, the losses out, in a single forward pass as DDP needs it.

    Masked words are predicted from the mixed view and, as `masked_text`, from the sentence that is contrasted; masked
    tags from an image's regions and its other tags; replaced words from their patch in the contrastive view. The mean
    of a loss over the ranks is the loss of all ranks' batches taken as one. The same holds for its gradient.
    """

    def __init__(self, network: Network, config: TrainConfig, ranks: Ranks) -> None:
        super().__init__()
        self.network, self.config, self.ranks = network, config, ranks

    def forward(self, batch: Batch) -> Tensor:
        """(5,) float32, in the order of LOSSES. A loss that is switched off, or has nothing to predict, is 0."""
        network, config, ranks = self.network, self.config, self.ranks
        nothing = torch.zeros((), device=batch.sentences.device)
        found = dict.fromkeys(LOSSES, nothing)
        counts = [0 if part is None else len(part.targets) for part in (batch.mixed, batch.text, batch.view)]
        mine = torch.tensor([*counts, batch.tags], dtype=torch.float32, device=nothing.device)
        # A rank's mean is weighted by its share of all the ranks' targets.
        weights = ranks.world * mine / ranks.total(mine).clamp(min=1)
        if config.masked_language_weight:
            logits = network.words(network.bert(batch.mixed.sequences), batch.mixed.chosen)
            found["masked_language"] = weights[0] * objectives.masked_language_modelling(logits, batch.mixed.targets)
        if config.masked_tags_weight and (images := batch.images) is not None:
            logits = network.tag_pieces(network.bert(images.sequences), images.chosen)
            found["masked_tags"] = weights[3] * objectives.masked_tag_prediction(logits, images.targets, images.words)
        none = torch.zeros(0, network.projection.out_features, device=nothing.device)
        pair = [none, none]
        of_words = (("masked_text", config.masked_text_weight), ("replaced_words", config.replaced_words_weight))
        for side, part in enumerate((batch.text, batch.view)):
            name, weight = of_words[side]
            if part is None or not (weight or config.contrastive_weight):
                continue
            states = network.bert(part.sequences)
            if weight:
                logits = network.words(states, part.chosen)
                found[name] = weights[1 + side] * objectives.masked_language_modelling(logits, part.targets)
            if config.contrastive_weight:
                pair[side] = network.project(states, part.sequences)
        if config.contrastive_weight:
            text, view, sentences = (ranks.gathered(part) for part in (*pair, batch.sentences))
            contrast = objectives.contrastive(text, view, sentences, config.temperature)
            found["contrastive"] = ranks.summed_gradient(contrast)
        return torch.stack(list(found.values()))

    def total(self, losses: Tensor) -> Tensor:
        """The weighted sum of `losses`, (5,), as a scalar."""
        weights = [getattr(self.config, f"{name}_weight") for name in LOSSES]
        return (losses * torch.tensor(weights, device=losses.device)).sum()


def train(
    settings: Settings,
    shards: str | None = None,
    out: str | None = None,
    resume: bool = False,
    vocabulary_hash: str | None = None,
    pipeline: str | None = None,
) -> str:
    """Train on the folder `shards` (default: train.shards, or OUT/shards) and write the folder `out` (default OUT/run).

    `resume`: continue a stopped run; a finished run is left as it is. `vocabulary_hash`: hash of the concept vocabulary
    that the shards must have been made with. `pipeline`: the config of the whole pipeline, which evaluation needs, as
    the text of RUN/pipeline.yaml; None leaves that file out. Returns the run's folder. Raises CallError or UserError
    for what the user can correct, such as shards of another feature width or a loss that is not finite.
    """
    run = out or files.join(settings.out, "run")
    source = shards or settings.train.shards or files.join(settings.out, "shards")
    if files.is_url(run):
        raise CallError(f"{run}: training writes to a local folder only. Give one with --out, and copy it afterwards.")
    device = find_device(settings.train)
    shard_set = open_shards(source)
    _check_vocabulary(shard_set, settings, vocabulary_hash)
    settings = checkpoint.with_feature_dim(settings, shard_set.feature_dim, source)
    with connected_ranks(device.type == "cuda") as ranks, locked(run) if ranks.first else nullcontext():
        try:
            _train(run, settings, shard_set, resume, ranks, device, pipeline)
        except RuntimeError as error:
            # PyTorch raises this in the main thread, wherever it is, when a process that reads ahead ends.
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(
                f"{run}: a process that reads samples ended ({error}). If it was killed for lack of memory, set "
                "train.workers or train.shards_in_memory lower. Continue with --resume."
            ) from None
    return run


def _train(
    run: str,
    settings: Settings,
    shard_set: ShardSet,
    resume: bool,
    ranks: Ranks,
    device: torch.device,
    pipeline: str | None,
) -> None:
    config = settings.train
    settings = replace(settings, train=replace(config, readers=readers_of(config, ranks.world)))
    former = checkpoint.load_checkpoint(run)
    if former is not None:
        if not resume:
            done, steps = former.state.step, former.state.config["train"].get("steps")
            raise CallError(
                f"{run}: already holds a run (step {done} of {steps}). Continue it with --resume, or give "
                "another --out."
            )
        checkpoint.check_continuation(run, former.state, settings, shard_set.content_hash)
        if finished.is_sound(run):
            say(f"{run} is finished ({former.state.step} steps); nothing to do.")
            if ranks.first:
                finished.keep(run, pipeline)
            return

    tokenizer = _tokenizer(settings, shard_set, run if former else None)
    torch.manual_seed(_torch_seed(settings.seed, "weights"))
    network = Network(settings.model, tokenizer.size, shard_set.feature_dim)
    if former is None and settings.model.init is not None:
        load_bert(network, settings.model.init, settings.model)
    network.to(device).train()
    if config.compile:
        network.bert.compile(dynamic=True)
    optimizer = _optimizer(network, config)
    if former is not None:
        checkpoint.restore(run, former, network, optimizer)
    loader = Loader(shard_set, tokenizer, settings.model, settings.train, settings.seed, ranks.rank, ranks.world)
    start = former.state.step if former else 0
    if ranks.first:
        finished.begin(run)
        if former is None:
            checkpoint.save_config(run, settings, tokenizer)
        checkpoint.sweep(run)
    with Progress(run, config.steps, start, tensorboard=config.tensorboard, quiet=not ranks.first) as progress:
        module, state = Losses(network, config, ranks), former.state if former else None
        with interrupts.noted() as stop:
            _loop(run, settings, shard_set, module, optimizer, loader, state, device, progress, stop)
    if ranks.first:
        checkpoint.save_network(run, network, embed_reference(network, tokenizer, settings.model, shard_set))
        finished.finish(run, checkpoint.lasting(settings), shard_set, config.steps, pipeline)


def _loop(
    run: str,
    settings: Settings,
    shard_set: ShardSet,
    module: Losses,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    former: State | None,
    device: torch.device,
    progress: Progress,
    stop: interrupts.Noted,
) -> None:
    """All steps after those of the `former` state, with log lines and checkpoints.

    Raises Interrupted, after a checkpoint, if any rank was asked to stop.
    """
    config, ranks, network = settings.train, module.ranks, module.network
    bfloat16 = config.precision == "bfloat16" or (config.precision == "auto" and device.type == "cuda")
    # A batch without images leaves the head for tags unused.
    losses_of: nn.Module = DistributedDataParallel(module, find_unused_parameters=True) if ranks.world > 1 else module
    start = former.step if former else 0
    batches = loader.batches(start * config.accumulate)
    saved = start or None
    since_saved = list(former.since) if former else []
    for step in range(start, config.steps):
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        losses = torch.zeros(len(LOSSES), device=device)
        samples = items = 0
        waited = 0.0
        for turn in range(config.accumulate):
            began = time.monotonic()
            batch = next(batches)
            waited += time.monotonic() - began
            batch = batch.to(device)
            # Dropout, like the data, depends on nothing but the seed, the step and the rank.
            torch.manual_seed(_torch_seed(settings.seed, step * config.accumulate + turn, ranks.rank))
            last = turn == config.accumulate - 1
            with nullcontext() if last or ranks.world == 1 else losses_of.no_sync():  # type: ignore[operator]
                with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                    found = losses_of(batch)
                (module.total(found) / config.accumulate).backward()
            losses += found.detach() / config.accumulate
            samples, items, epoch = samples + batch.samples, items + batch.items, batch.epoch
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm)
        counted = losses.new_tensor([samples, items, stop.number])
        sums = ranks.total(torch.cat([losses / ranks.world, counted])).tolist()
        values = dict(zip(LOSSES, sums, strict=False))
        values = {"loss": module.total(losses.new_tensor(sums[: len(LOSSES)])).item()} | values
        # Checked before the update, so that the weights stay those of the last sound step.
        if not math.isfinite(norm.item()) or not math.isfinite(values["loss"]):
            raise UserError(_not_finite(run, step + 1, values, norm.item(), saved))
        optimizer.step()

        done = step + 1
        since_saved.append(values["loss"])
        progress.count(int(sums[-3]), int(sums[-2]), waited)
        if done % config.log_every == 0 or done == config.steps:
            progress.report(done, epoch, values | {"learning_rate": rate, "gradient_norm": norm.item()})
        due = done % config.checkpoint_every == 0 or done == config.steps
        if due or sums[-1]:
            mean = sum(since_saved) / len(since_saved)
            since_saved = [] if due else since_saved
            content = checkpoint.resolved(settings)
            state = State(done, epoch, mean, shard_set.content_hash, content, since=since_saved)
            if ranks.first:
                checkpoint.save_checkpoint(run, network, optimizer, state, config.keep_checkpoints)
            saved = done
        if sums[-1]:
            message = f"{run}: checkpoint saved at step {done} of {config.steps}."
            raise interrupts.Interrupted(message, stop.number or signal.SIGTERM)


def learning_rate(step: int, config: TrainConfig) -> float:
    """The learning rate of update `step` (from 0): a linear rise over warmup_steps, then a linear fall towards 0."""
    warmup = min(config.warmup_steps, config.steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (config.steps - step) / max(config.steps - warmup, 1)


def _optimizer(network: Network, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW. Biases and LayerNorms, the parameters that are vectors, do not decay."""
    matrices = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)


def _tokenizer(settings: Settings, shard_set: ShardSet, former_run: str | None) -> Tokenizer:
    """A resumed run's own tokenizer; else the user's; else one learned from the shards."""
    if former_run is not None:
        return tokenizers.load(files.join(former_run, checkpoint.TOKENIZER))
    if settings.model.tokenizer is not None:
        given = tokenizers.load(settings.model.tokenizer, settings.model.lower_case)
        if from_environment().first:
            _warn_of_unknown(given, settings.model.tokenizer, shard_set)
        return given
    return tokenizers.learn(shard_set.texts(), settings.model.vocabulary_size)


def _warn_of_unknown(tokenizer: Tokenizer, name: str, shard_set: ShardSet) -> None:
    samples = itertools.islice(shard_set.mixed_samples(), UNKNOWN_SAMPLE)
    share = tokenizers.unknown_share(tokenizer, [sample.text for sample in samples])
    if share > MAX_UNKNOWN:
        LOG.warning(
            "model.tokenizer: %.1f%% of the word pieces of the shards' texts are [UNK]: words that the network cannot "
            "tell apart. %s may be of another language, or need another model.lower_case.",
            100 * share,
            name,
        )


def find_device(config: TrainConfig) -> torch.device:
    """The device that the config asks for. Raises UserError if it is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("train.device: cuda, but PyTorch finds no CUDA device here. Set it to auto or cpu.")
    name = ("cuda" if torch.cuda.is_available() else "cpu") if config.device == "auto" else config.device
    return torch.device(name, from_environment().local) if name == "cuda" else torch.device(name)


def _check_vocabulary(shards: ShardSet, settings: Settings, vocabulary_hash: str | None) -> None:
    asked, found = (
        (settings.vocabulary, shards.vocabulary)
        if vocabulary_hash is None
        else (vocabulary_hash, shards.vocabulary_hash)
    )
    if None not in (asked, found) and asked != found:
        raise UserError(
            f"vocabulary: {settings.vocabulary or 'of the config'}, but {shards.folder} was made with "
            f"{shards.vocabulary} (hash {shards.vocabulary_hash}). Give shards of the config's vocabulary, or name "
            "the shards' vocabulary."
        )


def _not_finite(run: str, step: int, values: dict[str, float], norm: float, saved: int | None) -> str:
    listed = ", ".join(f"{name} {values[name]:g}" for name in LOSSES)
    good = f"{checkpoint.folder_of(run, saved)} (step {saved})" if saved else "none yet"
    return (
        f"step {step}: the loss is not finite ({listed}, gradient norm {norm:g}). Last good checkpoint: {good}. Look "
        "for features that are not finite, or start a new run with a lower train.learning_rate."
    )


def _torch_seed(seed: int, *key: str | int) -> int:
    return stable_hash(seed, "torch", *key, bits=56)
