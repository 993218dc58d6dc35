"""Speed of training steps on this machine, as ratios of things run alternately.

    python benchmarks/training.py [--shards DIR] [--device cpu] [--rounds 5] [--steps 20] [--set model.layers=4 …]

Compared at the same size and batch, forward, backward and update of masked language modelling on the same sentences:
`ours`, the encoder and loader of model/; `plain`, the same encoder fed with batches in random order, each padded to its
longest; `hf`, transformers.BertForMaskedLM with scaled-dot-product attention on the plain batches. What counts are real
tokens a second, padding left out. Then one run of the whole program, all three objectives: share of its time spent
waiting for data, memory, and on an accelerator the share of its peak that the model's arithmetic makes up
(--peak-teraflops). Without --shards sentences are made up with lengths of 8 to 40 words.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import BertConfig, BertForMaskedLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from artifacts import files, manifest, settings
from artifacts.manifest import Manifest
from artifacts.samples import Mention, MixedSample, Patch, write_shard
from model import objectives
from model import tokenizer as tokenizers
from model.config import Settings
from model.data import Loader, Masked
from model.network import Network
from model.shards import ShardSet, open_shards
from model.tokenizer import Tokenizer
from model.train import train

FEATURE_DIM = 448


def made_up(folder: str, count: int = 4000, per_shard: int = 1000) -> str:
    """Shards of sentences of 8 to 40 made-up words with one patch each; returns the folder."""
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
        outputs.append(manifest.describe(folder, name, rows))
    details = {"feature_dim": FEATURE_DIM}
    hashes = {"config_hash": "-", "plan_hash": "-"}
    manifest.publish(
        folder,
        Manifest(
            stage="mix", versions={}, inputs=[], outputs=outputs, rejects=[], counts={}, details=details, **hashes
        ),
    )
    return folder


def batches(shards: ShardSet, tokenizer: Tokenizer, chosen: Settings, sorted_together: int) -> Iterator[Masked]:
    """The mixed sentences of each step; with `sorted_together` 1 in random order."""
    train = replace(chosen.train, workers=0, image_ratio=0.0, batches_sorted_together=sorted_together)
    return (batch.mixed for batch in Loader(shards, tokenizer, chosen.model, train, 0).batches(0))


def real_tokens(batch: Masked) -> int:
    """Word pieces and regions, without padding."""
    return int(batch.sequences.mask.sum())


def measured(step: Callable[[Masked], Tensor], parameters: Sequence[Tensor], given: Sequence[Masked]) -> float:
    """Real tokens a second of steps over these batches."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    device = parameters[0].device
    _synchronise(device)
    began = time.perf_counter()
    for batch in given:
        optimizer.zero_grad(set_to_none=True)
        step(batch.to(device)).backward()
        optimizer.step()
    _synchronise(device)
    return sum(map(real_tokens, given)) / (time.perf_counter() - began)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def hugging_face(chosen: Settings, tokenizer: Tokenizer) -> BertForMaskedLM:
    """BERT of the same size with scaled-dot-product attention."""
    model = chosen.model
    config = BertConfig(
        vocab_size=tokenizer.size,
        hidden_size=model.hidden_size,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        intermediate_size=model.feed_forward_size,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.dropout,
        max_position_embeddings=max(model.max_text_tokens, 8),
        attn_implementation="sdpa",
    )
    return BertForMaskedLM(config).train()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--peak-teraflops", type=float, help="of the accelerator, at the precision used")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of model or train")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        compare(options, options.shards or made_up(os.path.join(scratch, "shards")), scratch)


def compare(options: argparse.Namespace, folder: str, scratch: str) -> None:
    chosen = settings.build(Settings, settings.override({}, options.set), where="--set")
    shards = open_shards(folder)
    tokenizer = tokenizers.learn(shards.texts(), chosen.model.vocabulary_size)
    device = torch.device(options.device)
    own = Network(chosen.model, tokenizer.size, shards.feature_dim).to(device).train()
    theirs = hugging_face(chosen, tokenizer).to(device)
    bfloat16 = device.type == "cuda"

    def ours(batch: Masked) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            return objectives.masked_language_modelling(own.words(batch.sequences, batch.chosen), batch.targets)

    def bert(batch: Masked) -> Tensor:
        # Text alone: their model has no regions, so it is given less to do.
        ids, text = batch.sequences.ids, batch.sequences.ids != 0
        labels = torch.full_like(ids, -100)
        labels[batch.chosen[:, 0], batch.chosen[:, 1]] = batch.targets
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss: Tensor = theirs(input_ids=ids, attention_mask=text.long(), labels=labels).loss
        return loss

    together = (chosen.train.batches_sorted_together, 1)
    bucketed, random = (batches(shards, tokenizer, chosen, number) for number in together)
    speeds: dict[str, list[float]] = {"ours": [], "plain": [], "hf": []}
    for number in range(options.rounds + 1):
        sorted_ones, plain_ones = ([next(stream) for _ in range(options.steps)] for stream in (bucketed, random))
        found = {
            "ours": measured(ours, list(own.parameters()), sorted_ones),
            "plain": measured(ours, list(own.parameters()), plain_ones),
            "hf": measured(bert, list(theirs.parameters()), plain_ones),
        }
        if number:  # the first round warms up
            for name, value in found.items():
                speeds[name].append(value)
    print(f"device {device}, {torch.get_num_threads()} threads, {chosen.train.batch_size} sentences a batch")
    for name, values in speeds.items():
        ratios = [one / other for one, other in zip(speeds["ours"], values, strict=True)]
        span = f"{min(ratios):.2f} to {max(ratios):.2f}"
        speed = f"{statistics.median(values):>9.0f} real tokens/s"
        print(f"{name:<6} {speed}   ours is {statistics.median(ratios):.2f} times that ({span})")

    training = replace(chosen.train, steps=4 * options.steps, log_every=options.steps, device=device.type)
    run = train(replace(chosen, train=training), shards=folder, out=os.path.join(scratch, "run"))
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text().splitlines()][1:]
    waiting = statistics.mean(line["share_waiting"] for line in lines)
    items = statistics.mean(line["items_per_second"] for line in lines)
    print(f"whole program: {items:.0f} items/s, {100 * waiting:.1f} % of the time waiting for data")
    if device.type == "cuda":
        memory = torch.cuda.max_memory_allocated()
        layers = sum(parameter.numel() for parameter in own.bert.encoder.parameters())
        if options.peak_teraflops:
            print(f"model FLOPs: {6 * layers * items / options.peak_teraflops / 1e12:.1%} of the peak (layers only)")
    else:
        memory = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"memory: {memory / 1e9:.2f} GB at most")


if __name__ == "__main__":
    main()
