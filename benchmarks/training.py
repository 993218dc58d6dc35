"""Speed of training steps on this machine, as ratios of runs that take turns.

    python benchmarks/training.py [--shards DIR] [--device cpu] [--rounds 5] [--steps 20] [--also compiled float32]
                                  [--peak-teraflops 989] [--set model.layers=4 …]

Compares masked language modelling (forward, backward, update) on the same sentences, at the same size and batch:

    ours        the encoder and loader of model/
    plain       the same encoder on batches in random order, each padded to its longest sequence
    hf          transformers.BertForMaskedLM with scaled-dot-product attention on the plain batches
    compiled    (--also) ours after torch.compile
    float32     (--also) ours without bfloat16; the others compute in train.precision

The measure is tokens per second without padding. With --peak-teraflops, it also prints the share of the device's peak
that the encoder's arithmetic uses. First it runs the whole program with all three objectives and prints the share of
time spent waiting for data, and memory; then the loader alone. Without --shards, it makes up sentences of 8 to 40
words.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vlmixer.artifacts import files, manifest, settings
from vlmixer.artifacts.details import ShardsDetails
from vlmixer.artifacts.manifest import Manifest
from vlmixer.artifacts.samples import Mention, MixedSample, Patch, write_shard
from vlmixer.model import objectives
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, Settings
from vlmixer.model.data import Loader
from vlmixer.model.network import Network
from vlmixer.model.padding import Masked
from vlmixer.model.shards import ShardSet, open_shards
from vlmixer.model.tokenizer import Tokenizer
from vlmixer.model.training import train

FEATURE_DIM = 448


def made_up(folder: str, count: int = 12_000, per_shard: int = 500) -> str:
    """Write shards of sentences of 8 to 40 made-up words with one patch each; returns the folder."""
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 5)) for _ in range(3000)]
    outputs = []
    for number in range(count // per_shard):
        samples = []
        for row in range(per_shard):
            text = " ".join(random.choice(words, random.integers(8, 41)))
            mention = Mention(0, 5, "thing", text[:5], text[:5])
            patch = Patch(0, f"p{row}", f"i{row}", "thing", 0.9, (1.0, 1.0, 50.0, 50.0), 100, 100)
            feature = random.normal(size=(1, FEATURE_DIM)).astype(np.float16)
            samples.append(
                MixedSample(f"{number}-{row}", f"{number}-{row}", 0, text, (mention,), (0,), (patch,), feature)
            )
        name = f"mixed-{number:06d}.tar"
        with files.publishing(files.join(folder, name)) as file:
            rows = write_shard(file, samples)
        outputs.append(manifest.output_of(folder, name, rows))
    details = ShardsDetails(
        feature_dim=FEATURE_DIM, concepts=("thing",), vocabulary="things", vocabulary_hash="-", detector="random",
        bank="-", replaced={}, seed=0, settings={},
    )  # fmt: skip
    manifest.publish(
        folder,
        Manifest(
            stage="mix", config_hash="-", plan_hash="-", versions={}, inputs=[], outputs=outputs, rejects=[],
            counts={}, details=details,
        ),
    )  # fmt: skip
    return folder


def batches(shards: ShardSet, tokenizer: Tokenizer, chosen: Settings, sorted_together: int) -> Iterator[Masked]:
    """The mixed sentences of each step; in random order if `sorted_together` is 1."""
    train = replace(chosen.train, workers=0, image_ratio=0.0, batches_sorted_together=sorted_together)
    return (batch.mixed for batch in Loader(shards, tokenizer, chosen.model, train, 0).batches(0))


def token_count(batch: Masked) -> int:
    """Word pieces and regions, without padding."""
    return int(batch.sequences.mask.sum())


def measured(step: Callable[[Masked], Tensor], parameters: Sequence[Tensor], given: Sequence[Masked]) -> float:
    """Tokens per second of steps over these batches."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    device = parameters[0].device
    _synchronise(device)
    began = time.perf_counter()
    for batch in given:
        optimizer.zero_grad(set_to_none=True)
        step(batch.to(device)).backward()
        optimizer.step()
    _synchronise(device)
    return sum(map(token_count, given)) / (time.perf_counter() - began)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def hugging_face(chosen: Settings, tokenizer: Tokenizer) -> torch.nn.Module:
    """A BERT of the same size with scaled-dot-product attention."""
    model = chosen.model
    config = BertConfig(  # type: ignore[call-arg]  # attn_implementation is taken, but no field of the class
        vocab_size=tokenizer.size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.feed_forward_size,
        hidden_dropout_prob=model.dropout_rate,
        attention_probs_dropout_prob=model.dropout_rate,
        max_position_embeddings=max(model.max_text_tokens, 8),
        attn_implementation="sdpa",
    )
    return BertForMaskedLM(config).train()


def flops(settings: ModelConfig, batch: Masked) -> int:
    """Floating-point operations of the encoder's layers for a step on a batch, forward and backward, without padding.

    These are 6 per weight and item, and 12 × hidden_size per layer and pair of items of a sequence.
    """
    width = settings.hidden_size
    weights = settings.layers * (4 * width * width + 2 * width * settings.feed_forward_size)
    lengths = batch.sequences.mask.sum(1)
    return int(6 * weights * lengths.sum() + 12 * settings.layers * width * (lengths**2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--also", nargs="+", choices=("compiled", "float32"), default=[])
    parser.add_argument("--peak-teraflops", type=float, help="peak of the device at this precision")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of model or train")
    options = parser.parse_args()
    chosen = settings.build(Settings, settings.override({}, options.set), where="--set")
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.shards or made_up(os.path.join(scratch, "shards"))
        shards = open_shards(folder)
        # Long enough to read several groups of shards; each reader has its own.
        readers = max(chosen.train.workers, 1)
        group = chosen.train.shards_in_memory * readers * shards.mixed[0].rows // chosen.train.batch_size
        training = replace(chosen.train, steps=max(3 * group, 100), log_every=10, device=options.device)
        # First, so that nothing else adds to its memory.
        whole_program(replace(chosen, train=training), folder, os.path.join(scratch, "run"))
        tokenizer = tokenizer_of(chosen, shards)
        load(chosen, shards, tokenizer, 2 * group)
        compare(options, chosen, shards, tokenizer)


def compare(options: argparse.Namespace, chosen: Settings, shards: ShardSet, tokenizer: Tokenizer) -> None:
    """Compare ours, plain, Hugging Face's and those of --also, in turn."""
    device = torch.device(options.device)
    half = chosen.train.precision == "bfloat16" or (chosen.train.precision == "auto" and device.type == "cuda")
    networks = {
        name: Network(chosen.model, tokenizer.size, shards.feature_dim).to(device).train()
        for name in ("ours", "plain", *options.also)
    }
    if "compiled" in networks:
        networks["compiled"].bert.compile(dynamic=True)
    theirs = hugging_face(chosen, tokenizer).to(device)

    def masked_language(network: Network, batch: Masked, bfloat16: bool) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return objectives.masked_language_modelling(
                network.words(network.bert(batch.sequences), batch.chosen), batch.targets
            )

    def bert(batch: Masked) -> Tensor:
        # Text alone: their model has no regions, so it has less to do.
        ids, text = batch.sequences.ids, batch.sequences.ids != 0
        labels = torch.full_like(ids, -100)
        labels[batch.chosen[:, 0], batch.chosen[:, 1]] = batch.targets
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss: Tensor = theirs(input_ids=ids, attention_mask=text.long(), labels=labels).loss
        return loss

    together = (chosen.train.batches_sorted_together, 1)
    bucketed, random = (batches(shards, tokenizer, chosen, number) for number in together)
    speeds: dict[str, list[float]] = {name: [] for name in (*networks, "hf")}
    for number in range(options.rounds + 1):
        sorted_ones, plain_ones = ([next(stream) for _ in range(options.steps)] for stream in (bucketed, random))
        found = {
            name: measured(
                partial(masked_language, network, bfloat16=half and name != "float32"),
                list(network.parameters()),
                plain_ones if name == "plain" else sorted_ones,
            )
            for name, network in networks.items()
        }
        found["hf"] = measured(bert, list(theirs.parameters()), plain_ones)
        if number:  # the first round warms up
            for name, value in found.items():
                speeds[name].append(value)
    what = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    numbers = "bfloat16" if half else "float32"
    print(f"{device} ({what}), torch {torch.__version__}, {numbers}, {chosen.train.batch_size} sentences per batch")
    for name, values in speeds.items():
        ratios = [one / other for one, other in zip(speeds["ours"], values, strict=True)]
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        speed = f"{statistics.median(values):>9.0f} tokens/s"
        print(f"{name:<9} {speed}   ours is {statistics.median(ratios):.2f} times that ({span})")
    if options.peak_teraflops:
        operations = sum(flops(chosen.model, batch) for batch in sorted_ones) / sum(map(token_count, sorted_ones))
        for name in ("ours", *(other for other in options.also if other != "float32")):
            share = operations * statistics.median(speeds[name]) / options.peak_teraflops / 1e12
            print(f"{name:<9} {share:.1%} of {options.peak_teraflops:g} Tflop/s in the encoder's layers")


def tokenizer_of(chosen: Settings, shards: ShardSet) -> Tokenizer:
    known = chosen.model.tokenizer
    return tokenizers.load(known) if known else tokenizers.learn(shards.texts(), chosen.model.vocabulary_size)


def load(chosen: Settings, shards: ShardSet, tokenizer: Tokenizer, steps: int) -> None:
    """Print the speed of the loader alone, and how much of the training process it takes."""
    batches = Loader(shards, tokenizer, chosen.model, chosen.train, 0).batches(0)
    next(batches)
    clock, work = time.perf_counter(), time.process_time()
    samples = sum(batch.samples for batch in itertools.islice(batches, steps))
    speed, own = samples / (time.perf_counter() - clock), samples / (time.process_time() - work)
    print(f"loader alone: {chosen.train.workers} workers make {speed:.0f} samples/s")
    print(f"  the training process could take {own:.0f} samples per second of its own work")


def whole_program(chosen: Settings, folder: str, run: str) -> None:
    """Run all three objectives; print speed, waiting and memory."""
    if chosen.train.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    train(chosen, shards=folder, out=run)
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()]
    # Each line covers about ten steps, so equally many samples: their times are proportional to 1 / speed.
    times = np.array([1 / line["samples_per_second"] for line in lines])
    waiting = np.array([line["share_waiting"] for line in lines])
    share, speed = waiting[1:] @ times[1:] / times[1:].sum(), 1 / times[1:].mean()
    print(f"whole program: {chosen.train.steps} steps, {chosen.train.workers} workers, {speed:.0f} samples/s")
    print(f"waiting for data: {share:.1%} of the time, without the first ten steps")
    if chosen.train.device == "cuda":
        memory = torch.cuda.max_memory_allocated()
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak memory: {memory / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
