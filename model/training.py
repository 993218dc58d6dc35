"""Pre-training: from shards to a network, on one device or, started by torchrun, on several.

The steps themselves are left to model.loop, which samples a step reads to model.data, what a run keeps on disk to
model.checkpoint, the command line to model.train.
"""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from vlmixer.artifacts import files, interrupts
from vlmixer.artifacts.errors import CallError, UserError
from vlmixer.model import checkpoint, finished, objectives
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.bert import load_bert
from vlmixer.model.config import Settings, TrainConfig
from vlmixer.model.data import Batch, Loader
from vlmixer.model.embedding import embed_reference
from vlmixer.model.hub_files import write_hub_files
from vlmixer.model.loop import (
    Objective,
    RunOf,
    alone_in,
    find_device,
    loop,
    optimizer_of,
    precision_of,
    require_local,
    torch_seed,
)
from vlmixer.model.network import Network
from vlmixer.model.padding import Masked
from vlmixer.model.progress import Progress, say
from vlmixer.model.ranks import Ranks, from_environment
from vlmixer.model.readers import readers_of
from vlmixer.model.shards import ShardSet, open_shards
from vlmixer.model.state import lasting, resolved
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.trackers import Tracker, open_trackers

LOG = logging.getLogger("vlmixer")
MAX_UNKNOWN = 0.01
"""A larger share of [UNK] among the word pieces of a sample gives a warning. On 20,000 English captions BERT's lower-
case vocabulary has none; if they are not lower-cased for it, 5.8 %."""
UNKNOWN_SAMPLE = 2000
"""Sentences in this sample."""

LOSSES = ("masked_language", "masked_tags", "contrastive", "masked_text", "replaced_words")


class Losses(Objective):
    """The network with its objectives: a batch in, the losses out, in a single forward pass as DDP needs it.

    Masked words are predicted from the mixed view and, as `masked_text`, from the sentence that is contrasted; masked
    tags from an image's regions and its other tags; replaced words from their patch in the contrastive view. The mean
    of a loss over the ranks is the loss of all ranks' batches taken as one. The same holds for its gradient.
    """

    names = LOSSES

    def __init__(self, network: Network, config: TrainConfig, ranks: Ranks) -> None:
        super().__init__()
        self.network: Network = network
        self.config, self.ranks = config, ranks

    def forward(self, batch: Batch) -> Tensor:
        """(5,) float32, in the order of LOSSES. A loss that is switched off, or has nothing to predict, is 0."""
        network, config, ranks = self.network, self.config, self.ranks
        nothing = torch.zeros((), device=batch.sentences.device)
        found = dict.fromkeys(LOSSES, nothing)
        predicted = {"masked_language": batch.mixed, "masked_text": batch.text, "replaced_words": batch.view}
        counts = {name: 0 if part is None else len(part.targets) for name, part in predicted.items()}
        counts["masked_tags"] = batch.tags
        share = dict(zip(counts, ranks.shares(list(counts.values()), nothing.device), strict=True))
        if config.masked_language_weight:
            logits = network.words(_states(network, batch.mixed), batch.mixed.chosen)
            found["masked_language"] = share["masked_language"] * objectives.masked_language_modelling(
                logits, batch.mixed.targets
            )
        if config.masked_tags_weight and (images := batch.images) is not None:
            logits = network.tag_pieces(_states(network, images), images.chosen)
            found["masked_tags"] = share["masked_tags"] * objectives.masked_tag_prediction(
                logits, images.targets, images.words, batch.tags
            )
        none = torch.zeros(0, network.projection.out_features, device=nothing.device)
        pair = [none, none]
        of_words = (("masked_text", config.masked_text_weight), ("replaced_words", config.replaced_words_weight))
        for side, part in enumerate((batch.text, batch.view)):
            name, weight = of_words[side]
            if part is None or not (weight or config.contrastive_weight):
                continue
            states = _states(network, part)
            if weight:
                logits = network.words(states, part.chosen)
                found[name] = share[name] * objectives.masked_language_modelling(logits, part.targets)
            if config.contrastive_weight:
                pair[side] = network.project(states, part.sequences)
        if config.contrastive_weight:
            text, view, sentences = (ranks.gathered(part) for part in (*pair, batch.sentences))
            contrast = objectives.contrastive(text, view, sentences, config.temperature)
            found["contrastive"] = ranks.summed_gradient(contrast)
        return torch.stack(list(found.values()))

    def total(self, losses: Tensor) -> Tensor:
        """The weighted sum of `losses`, (5,), as a scalar."""
        weighted = [getattr(self.config, f"{name}_weight") * loss for name, loss in zip(LOSSES, losses, strict=True)]
        return torch.stack(weighted).sum()


def _states(network: Network, part: Masked) -> Tensor:
    """(B, L, hidden): what the network makes of a part of a batch, as far as a loss reads it."""
    states: Tensor = network.bert(part.sequences, used=part.used, items=part.items)
    return states


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
    require_local(run)
    device = find_device(settings.train.device)
    shard_set = open_shards(source)
    _check_vocabulary(shard_set, settings, vocabulary_hash)
    settings = checkpoint.with_feature_dim(settings, shard_set.feature_dim, source)
    with alone_in(run, device) as ranks:
        _train(run, settings, shard_set, resume, ranks, device, pipeline)
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
    former = checkpoint.load_checkpoint(run)
    config = settings.train
    recorded = former.state.config["train"].get("precision") if former else None
    config = replace(
        config,
        readers=readers_of(config, ranks.world),
        precision=precision_of(config.precision, device, recorded),
    )
    settings = replace(settings, train=config)
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
    loader = Loader(shard_set, tokenizer, settings.model, settings.train, settings.seed, ranks.rank, ranks.world)
    start = former.state.step if former else 0
    # Before the network, because the processes that read take seconds to start.
    batches = loader.batches(start * config.accumulate)
    torch.manual_seed(torch_seed(settings.seed, "weights"))
    network = Network(settings.model, tokenizer.size, shard_set.feature_dim)
    if former is None and settings.model.init is not None:
        load_bert(network, settings.model.init, settings.model)
    network.to(device).train()
    if config.compile:
        network.bert.compile(dynamic=True)
    optimizer = optimizer_of(network, config)
    if former is not None:
        checkpoint.restore(run, former, network, optimizer)
    if ranks.first:
        finished.begin(run)
        if former is None:
            checkpoint.save_config(run, settings, tokenizer)
        checkpoint.sweep(run)
    content = resolved(settings)
    trackers: Sequence[Tracker] = ()
    if ranks.first:
        trackers = open_trackers(
            run,
            start,
            tensorboard=config.tensorboard,
            wandb=config.wandb,
            mlflow=config.mlflow,
            settings=content,
        )
    with Progress(run, config.steps, start, trackers=trackers, quiet=not ranks.first) as progress:
        module, state = Losses(network, config, ranks), former.state if former else None
        of = RunOf(run, settings.seed, content, shard_set.content_hash)
        with interrupts.noted() as stop:
            loop(of, config, module, optimizer, batches, state, device, progress, stop)
    if ranks.first:
        checkpoint.save_network(run, network, embed_reference(network, tokenizer, settings.model, shard_set))
        details = finished.details_of(shard_set, config.steps)
        write_hub_files(run, settings, tokenizer, details, shard_set.content_hash)
        finished.finish(run, lasting(content), shard_set, config.steps, pipeline)


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
