"""Speed of `mix`, and of reading its shards, as ratios of calls that take turns.

    python benchmarks/mixing.py --out OUT --spacy-model PIPELINE [--sentences N] [--copies 1] [--rounds 3] [--memory]

OUT is a finished output folder. Its sentences, or the first N, in --copies copies with other ids, are mixed again with
its regions/ and bank/.

    mix            `vlmixer mix` in a process of its own: imports, Beam, shuffling, drawing, features, tars, hashes,
                   summary and page; "start" is the same for a single sentence
    tars           the same members from memory, only written by Python's tarfile
    writer         the same with our own writer
    on the fly     what a collate function does instead: tag 96 sentences, draw, read features patch by patch
    layouts        the same samples as one, two and three members: bytes, and samples read per second
    reads          features of a shard's patches from the bank: one by one as drawn, and sorted all together
    loader, step   the trainer's loader alone, and whole training steps of the default network

Figures are CPU seconds of all processes, except for two workers: wall seconds. --memory compares the own memory
(without mapped files) of the largest process with that for ten times as many sentences.
"""

import argparse
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import pyarrow.parquet as pq
import torch
from benchmarks.timing import in_turn, median, timed
from benchmarks.watching import MIB, vlmixer, watch

from vlmixer.artifacts import manifest, schemas
from vlmixer.artifacts.samples import MixedSample, encode, read_shard, write_shard
from vlmixer.artifacts.stages import TAG
from vlmixer.bank.concepts import HARDLY_VISUAL, load_vocabulary
from vlmixer.bank.store import PatchBank
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import ModelConfig, TrainConfig
from vlmixer.model.data import Batch, Loader
from vlmixer.model.network import Network
from vlmixer.model.ranks import connected_ranks
from vlmixer.model.shards import open_shards
from vlmixer.model.training import Losses
from vlmixer.pipeline.mix.samples import Sentence, mix_sentences
from vlmixer.pipeline.mix.settings import CutMixSettings
from vlmixer.pipeline.text.tagger import Tagger

BATCH = 96
STEPS = 40
SHARDS_HELD = 4
"""Shards whose samples are held in memory for the comparisons."""


def make_corpus(out: Path, folder: Path, sentences: int | None, copies: int = 1) -> Path:
    """An output folder with the first sentences of OUT's tagged/, in `copies` copies with other ids, and with its
    regions/ and bank/."""
    made = folder / f"out-{sentences}-{copies}"
    (made / "tagged").mkdir(parents=True)
    for name in ("regions", "bank"):
        (made / name).symlink_to(out / name)
    tagged = manifest.read(str(out / "tagged"))
    outputs: list[manifest.Output] = []
    for copy in range(copies):
        left = sentences
        for part in tagged.parts:
            table = pq.read_table(out / "tagged" / part.name).slice(0, left)
            left = None if left is None else left - len(table)
            if not len(table):
                break
            ids = [f"{copy:012d}-{sentence_id.partition('-')[2]}" for sentence_id in table["sentence_id"].to_pylist()]
            name = f"part-{len(outputs):05d}.parquet"
            with schemas.writing_parquet(str(made / "tagged" / name), schemas.TAGGED) as writer:
                writer.write_table(table.set_column(0, schemas.TAGGED.field("sentence_id"), [ids]))
            outputs.append(manifest.output_of(str(made / "tagged"), name, len(table)))
    rows = sum(entry.rows for entry in outputs)
    counts = {"sentences": manifest.Counts(rows, rows)}
    manifest.publish(str(made / "tagged"), replace(tagged, outputs=outputs, rejects=[], counts=counts))
    return made


def stage(out: Path, workers: int, *settings: str) -> int:
    """Run `vlmixer mix` in a process of its own; returns the peak of a process's own memory in bytes."""
    config = out / "config.yaml"
    config.write_text(f"out: {out}\n")
    return watch(vlmixer("mix", config, "--overwrite", "--workers", workers, *settings)).largest


def write_tars(samples: Sequence[Sequence[tuple[str, bytes]]], folder: Path) -> None:
    """Write the members with tarfile and nothing else."""
    for start in range(0, len(samples), 5000):
        with tarfile.open(folder / f"bare-{start}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            for name, data in (member for sample in samples[start : start + 5000] for member in sample):
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))


def write_ours(samples: Sequence[MixedSample], folder: Path) -> None:
    """Encode and write the samples."""
    with open(folder / "ours.tar", "wb") as file:
        write_shard(file, samples)


def on_the_fly(texts: Sequence[str], tagger: Tagger, bank: PatchBank) -> None:
    """Make batches as a collate function does."""
    settings = CutMixSettings()
    for start in range(0, len(texts), BATCH):
        batch = list(texts[start : start + BATCH])
        for number, (text, tagged) in enumerate(zip(batch, tagger.tag(batch), strict=True)):
            if tagged.mentions:
                # One sample at a time: features are read as they are drawn.
                mix_sentences([Sentence(f"{start}-{number}", text, tuple(tagged.mentions))], bank, settings, 0)


def layouts(samples: Sequence[MixedSample]) -> dict[str, list[list[tuple[str, bytes]]]]:
    """The same samples with fewer members: with the text, then also the features, only in the record."""
    three = [encode(sample) for sample in samples]
    one = []
    for (json_name, record), _, (_, array) in three:
        content = json.loads(record) | {"features": np.load(io.BytesIO(array)).tolist()}
        one.append([(json_name, json.dumps(content, ensure_ascii=False).encode())])
    return {
        "json txt npy": three,
        "json npy": [[sample[0], sample[2]] for sample in three],
        "json": one,
    }


def read_members(path: Path) -> int:
    """Read a tar as loaders do, and decode records and arrays; returns the number of samples."""
    count = 0
    with tarfile.open(path, "r|") as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            data = file.read()
            if member.name.endswith(".json"):
                record = json.loads(data)
                if "features" in record:
                    np.array(record["features"], np.float16)
                count += 1
            elif member.name.endswith(".npy"):
                np.load(io.BytesIO(data), allow_pickle=False)
    return count


def compare_layouts(samples: Sequence[MixedSample], folder: Path, rounds: int) -> None:
    """Bytes and reading speed of each layout."""
    payload = sum(len(data) for sample in samples for _, data in encode(sample))
    taken: dict[str, list[float]] = {}
    made = layouts(samples)
    for name, members in made.items():
        write_tars(members, folder)
        (folder / "bare-0.tar").rename(folder / f"{name}.tar")
    for _ in range(rounds):
        for name in made:
            taken.setdefault(name, []).append(timed(partial(read_members, folder / f"{name}.tar")).cpu)
    print(f"\nlayouts: {len(samples):,} samples, {payload / len(samples):,.0f} bytes of content each")
    for name, seconds in taken.items():
        size = (folder / f"{name}.tar").stat().st_size / len(samples)
        rate = len(samples) / statistics.median(seconds)
        print(f"  {name:<16}{size:>8,.0f} bytes per sample{rate:>10,.0f} read per second")


def compare_reads(bank: PatchBank, samples: Sequence[MixedSample], rounds: int) -> None:
    """Print how much slower it is to read features patch by patch than sorted, all of a shard."""
    rows = bank.rows([patch.patch_id for sample in samples for patch in sample.patches])
    ratios = []
    for _ in range(rounds):
        one = timed(lambda: [bank.features(rows[at : at + 1]) for at in range(len(rows))]).cpu
        ratios.append(one / timed(lambda: bank.features(rows)).cpu)
    print(f"\nreads of {len(rows):,} features, one by one / sorted together, CPU: {statistics.median(ratios):.1f}")


def reading(shards: Path, feature_dim: int, rounds: int) -> None:
    """Print samples per CPU second of reading, of the trainer's loader, and of training steps; one thread."""
    torch.set_num_threads(1)
    shard_set = open_shards(str(shards))
    tokenizer = tokenizers.learn(islice(shard_set.texts(), 20_000), 8000)
    model, config = replace(ModelConfig(), feature_dim=feature_dim), TrainConfig()
    network = Network(model, tokenizer.size, feature_dim).train()
    path = shard_set.mixed[0]
    total = sum(shard.rows for shard in shard_set.mixed)

    def epoch() -> list[Batch]:
        """All of one epoch: reading, tokenising, sorting, masking, padding."""
        return list(islice(Loader(shard_set, tokenizer, model, config, 0).batches(0), total // BATCH))

    def steps(batches: Sequence[Batch]) -> None:
        with connected_ranks(False) as ranks:
            module = Losses(network, config, ranks)
            for batch in batches:
                module.total(module(batch)).backward()

    batches = epoch()
    some = batches[:: max(len(batches) // STEPS, 1)][:STEPS]
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "read_shard": (lambda: list(read_shard(path.path)), path.rows),
        "loader": (epoch, sum(batch.samples for batch in batches)),
        "step": (partial(steps, some), sum(batch.samples for batch in some)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (do, samples) in ways.items():
            rates[name].append(samples / timed(do).cpu)
    print("\nreading, samples per CPU second")
    for name, values in rates.items():
        print(f"  {name:<12}{statistics.median(values):>10,.0f}")
    ratios = [one / other for one, other in zip(rates["loader"], rates["step"], strict=True)]
    each = ", ".join(f"{ratio:.1f}" for ratio in ratios)
    print(f"  loader / step (goal 5): {statistics.median(ratios):.1f}  ({each})")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--spacy-model", required=True)
    parser.add_argument("--sentences", type=int, help="number of sentences of OUT's tagged/ (default: all)")
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="also mix ten times as many sentences")
    parser.add_argument("--stage-only", action="store_true", help="leave out layouts, reads and the loader")
    parser.add_argument("--work", help="folder for the shards (default: the system's folder for temporary files)")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    out = options.out.resolve()
    with tempfile.TemporaryDirectory(dir=options.work) as name:
        folder = Path(name)
        made = make_corpus(out, folder, options.sentences, options.copies)
        tiny = make_corpus(out, folder, 1)
        shards = made / "shards"
        bank = PatchBank.open(str(made / "bank"))
        vocabulary = load_vocabulary(manifest.read(str(made / "tagged"), TAG).details.vocabulary)
        tagger = Tagger(vocabulary, options.spacy_model, HARDLY_VISUAL)
        parts = sorted((made / "tagged").glob("*.parquet"))
        texts = list(islice((text for part in parts for text in pq.read_table(part)["text"].to_pylist()), 4000))
        tagger.tag(texts[:BATCH])  # loads what is loaded on first use

        peak = stage(made, 1)
        sizes = json.loads((shards / ".nv-meta" / ".info.json").read_text())["shard_counts"]
        count = sum(sizes.values())
        size = sum(path.stat().st_size for path in shards.glob("*.tar"))
        paths = sorted(shards.glob("mixed-*.tar"))[:SHARDS_HELD]
        samples = [sample for path in paths for sample in read_shard(str(path)) if isinstance(sample, MixedSample)]
        members = [encode(sample) for sample in samples]
        ways: dict[str, tuple[Callable[[], object], int]] = {
            "start": (lambda: stage(tiny, 1, "--set", "mix.image_samples=false"), 1),
            "mix, 1 worker": (lambda: stage(made, 1), count),
            "tars": (lambda: write_tars(members, folder), len(members)),
            "writer": (lambda: write_ours(samples, folder), len(samples)),
            "on the fly": (lambda: on_the_fly(texts, tagger, bank), len(texts)),
            "mix, 2 workers": (lambda: stage(made, 2), count),
        }
        taken = in_turn(options.rounds, {way: do for way, (do, _) in ways.items()})
        pairs = zip(taken["start"], taken["mix, 1 worker"], strict=True)
        taken["mix without its start"] = [whole - start for start, whole in pairs]
        ways["mix without its start"] = (lambda: None, count)
        print(f"{count:,} samples, {size / count:,.0f} bytes each in the tars")
        for way, (_, number) in ways.items():
            middle = median(taken[way])
            rate = number / middle.cpu
            megabytes = rate * size / count / 1e6
            print(f"  {way:<22}{rate:>9,.0f} samples per CPU second{megabytes:>8.1f} MB/s{middle.wall:>8.1f} s wall")

        def ratio(label: str, first: str, second: str, clock: Literal["cpu", "wall"] = "cpu") -> None:
            scale = ways[second][1] / ways[first][1]
            values = [
                getattr(two, clock) / getattr(one, clock) / scale
                for one, two in zip(taken[first], taken[second], strict=True)
            ]
            print(f"  {label:<56}{statistics.median(values):>6.2f}  ({', '.join(f'{value:.2f}' for value in values)})")

        ratio("mix / tars, samples per CPU second (goal 0.5)", "mix, 1 worker", "tars")
        ratio("the same without its start", "mix without its start", "tars")
        ratio("mix / on the fly (goal 5)", "mix, 1 worker", "on the fly")
        ratio("the same without its start", "mix without its start", "on the fly")
        ratio("2 workers / 1, wall", "mix, 2 workers", "mix, 1 worker", clock="wall")
        if options.memory:
            more = stage(make_corpus(out, folder, options.sentences, options.copies * 10), 1)
            print(f"\nown memory of the largest process: {peak / MIB:.0f} MiB, for ten times the sentences "
                  f"{more / MIB:.0f} MiB: ratio {more / peak:.2f}")  # fmt: skip
        if options.stage_only:
            return
        compare_layouts(samples[:5000], folder, options.rounds)
        compare_reads(bank, samples[:5000], options.rounds)
        reading(shards, bank.feature_dim, options.rounds)


if __name__ == "__main__":
    main()
