"""All that is to be measured on an accelerator, in one call that goes on where an earlier one was stopped.

    python benchmarks/accelerator.py --results results.jsonl [--minutes 8] [--peak-teraflops 989] [--photos DIR]
    python benchmarks/accelerator.py --results tiny.jsonl --size tiny --device cpu [--compiled]

Each case prints a line and appends it to --results; a case that is there is not measured again, and none is begun after
--minutes. An error, such as too little memory, is a result, too. Cases, the most telling ones first:

    ours N       masked language modelling with the encoder and loader of model/, N sentences per batch
    compiled N   the same after torch.compile, on batches of few shapes; graphs N: with CUDA graphs, too
    float32 N    ours without bfloat16
    hf N         transformers.BertForMaskedLM with scaled-dot-product attention on the same batches
    detect W     the stage with W workers and a torchvision model of random weights: images per second

Of a training: samples and tokens per second (without padding), share of the peak (MFU) in the encoder's layers, share
of the time spent waiting for batches, memory; of a compiled one also the number of shapes that were first met, and
compiled, within the time measured. Of detection also how busy the card is, and a hash of the regions: equal ones say
that runs and numbers of workers agree.
"""

import argparse
import itertools
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.detection import random_weights
from benchmarks.training import flops, hugging_face, made_up, token_count, tokenizer_of

from vlmixer.bank.concepts import load_vocabulary
from vlmixer.model import objectives
from vlmixer.model.config import ModelConfig, Settings, TrainConfig
from vlmixer.model.data import Loader
from vlmixer.model.network import Network, Sequences
from vlmixer.model.padding import Masked
from vlmixer.model.shards import open_shards
from vlmixer.pipeline.config import Config, ImageSettings
from vlmixer.pipeline.jobs.detect import run_detect
from vlmixer.pipeline.jobs.engine import Engine

METHODS = ("ours", "hf", "compiled", "graphs", "float32")
DETECT = "detect"
MOST_SHAPES = 64
"""Shapes that an encoder is compiled for. After its default of 8 torch stops compiling, without a word."""


@dataclass(frozen=True)
class Size:
    """What is measured. steps: after the first ones, which are not timed."""

    model: ModelConfig
    batches: tuple[int, ...]
    sentences: int
    warm_up: int
    steps: int
    detector: str
    photos: int
    workers: tuple[int, ...]
    methods: tuple[str, ...] = METHODS


SIZES = {
    "base": Size(
        ModelConfig(layers=12, hidden_size=768, heads=12, feed_forward_size=3072), (512, 1024, 2048, 4096), 50_000, 8,
        12, "fasterrcnn_resnet50_fpn_v2", 512, (1, 4),
    ),
    "tiny": Size(
        ModelConfig(layers=1, hidden_size=32, heads=2, feed_forward_size=64, vocabulary_size=500), (16,), 400, 1, 2,
        "fasterrcnn_mobilenet_v3_large_320_fpn", 3, (1,), ("ours", "hf", "float32"),
    ),
}  # fmt: skip


def cases(size: Size) -> list[str]:
    """The names of all cases, in order."""
    trained = [f"{method} {batch}" for batch in size.batches for method in size.methods]
    return [trained[0], *(f"{DETECT} {workers}" for workers in size.workers), *trained[1:]]


class Measurements:
    """Measures cases; what they share is made once."""

    def __init__(self, size: Size, device: torch.device, scratch: Path, peak: float, photos: Path | None) -> None:
        self._size, self._device, self._scratch, self._peak = size, device, scratch, peak
        self._photos = photos
        self._shards = ""
        self._detector: ImageSettings | None = None

    def measure(self, case: str) -> dict[str, Any]:
        """The numbers of a case."""
        method, number = case.split()
        if method == DETECT:
            return self._detect(int(number))
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return self._train(method, int(number))

    def _train(self, method: str, batch_size: int) -> dict[str, Any]:
        size, device = self._size, self._device
        self._shards = self._shards or made_up(str(self._scratch / "shards"), size.sentences, 200)
        readers = 4 if device.type == "cuda" else 0
        train = TrainConfig(batch_size=batch_size, image_ratio=0.0, workers=readers)
        shards = open_shards(self._shards)
        tokenizer = tokenizer_of(Settings(model=size.model), shards)
        torch.manual_seed(0)
        network: torch.nn.Module = Network(size.model, tokenizer.size, shards.feature_dim)
        if method == "hf":
            network = hugging_face(Settings(model=size.model), tokenizer)
        network.to(device).train()
        few_shapes = method in ("compiled", "graphs")
        if few_shapes:
            assert isinstance(network, Network)
            torch.compiler.reset()
            torch._dynamo.config.recompile_limit = MOST_SHAPES
            network.bert.compile(dynamic=False, mode="reduce-overhead" if method == "graphs" else None)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        loader = Loader(shards, tokenizer, size.model, train, 0).batches(0)
        waited = tokens = operations = samples = 0.0
        shapes: dict[tuple[int, ...], int] = {}
        began = time.perf_counter()
        for step in range(size.warm_up + size.steps):
            if step == size.warm_up:
                _synchronise(device)
                waited = tokens = operations = samples = 0.0
                began = time.perf_counter()
            asked = time.perf_counter()
            batch = next(loader).mixed
            waited += time.perf_counter() - asked
            tokens, samples = tokens + token_count(batch), samples + len(batch.sequences.ids)
            operations += flops(size.model, batch)
            batch = (of_few_shapes(batch) if few_shapes else batch).to(device)
            shapes.setdefault((*batch.sequences.ids.shape, *batch.sequences.regions.shape), step)
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device.type, torch.bfloat16, enabled=method != "float32"):
                loss = _their_loss(network, batch) if method == "hf" else _our_loss(network, batch)
            loss.backward()
            optimizer.step()
        _synchronise(device)
        took = time.perf_counter() - began
        found = {
            "samples_per_second": samples / took,
            "tokens_per_second": tokens / took,
            "share_waiting": waited / took,
            "memory_gb": _memory(device) / 1e9,
        }
        if few_shapes:
            found["late_shapes"] = sum(step >= size.warm_up for step in shapes.values())
        return found | ({"mfu": operations / took / self._peak / 1e12} if self._peak else {})

    def _detect(self, workers: int) -> dict[str, Any]:
        size = self._size
        photos = self._photos or draw_photos(self._scratch / "photos", size.photos)
        files = [str(path) for path in sorted(photos.iterdir())[: size.photos]]
        if self._detector is None:
            weights, threshold = random_weights(size.detector, self._scratch, files, 6, self._device.type)
            self._detector = ImageSettings(
                inputs=tuple(files), detector=f"torchvision:{size.detector}", weights=weights,
                score_threshold=threshold, device="cuda" if self._device.type == "cuda" else "cpu", nms_threshold=1.0,
            )  # fmt: skip
        found = {}
        with tempfile.TemporaryDirectory(dir=self._scratch) as out:
            config = Config(out=out, images=self._detector, max_bad_fraction=1.0)
            began = time.perf_counter()
            with busy(self._device) as shares:
                done = run_detect(
                    config, load_vocabulary("coco"), Engine(workers), overwrite=False, import_paths=[os.getcwd()]
                )
            took = time.perf_counter() - began
            found = {"images_per_second": len(files) / took, "seconds": took, "regions_hash": done.content_hash}
        return found | ({"busy": float(np.mean(shares)) / 100} if shares else {})


def of_few_shapes(batch: Masked, text: int = 16, regions: int = 4) -> Masked:
    """The batch padded to multiples of so many columns of text and of regions."""
    sequences = batch.sequences
    before = sequences.ids.shape[1]
    columns = -(-before // text) * text
    places = max(-(-sequences.regions.shape[1] // regions), 1) * regions
    length = columns + places
    widths = {
        "ids": columns, "positions": columns, "segments": columns, "region_positions": places, "order": length,
        "mask": length, "content": length,
    }  # fmt: skip
    arrays: dict[str, Tensor] = {}
    for field in fields(Sequences):
        value = getattr(sequences, field.name)
        if field.name == "order":  # regions begin after the columns of text
            value = value + (columns - before) * (value >= before)
        if field.name == "regions":
            arrays["regions"] = functional.pad(value, (0, 0, 0, places - value.shape[1]))
            continue
        filler = -1 if field.name == "region_positions" else 0
        arrays[field.name] = functional.pad(value, (0, widths[field.name] - value.shape[1]), value=filler)
    row, column = batch.used // sequences.mask.shape[1], batch.used % sequences.mask.shape[1]
    return replace(batch, sequences=Sequences(**arrays), used=row * length + column)


def draw_photos(folder: Path, count: int) -> Path:
    """Photos of noise, of one size."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / f"{number:04d}.jpg")
    return folder


@contextmanager
def busy(device: torch.device, every: float = 0.5) -> Iterator[list[float]]:
    """How busy the card is during the block, in percent, as nvidia-smi says it; nothing on a CPU."""
    found: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(every):
            call = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
            found.append(float(subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[0]))

    watcher = threading.Thread(target=look)
    if device.type == "cuda":
        watcher.start()
    yield found
    ended.set()
    if device.type == "cuda":
        watcher.join()


def _our_loss(network: torch.nn.Module, batch: Masked) -> Tensor:
    assert isinstance(network, Network)
    return objectives.masked_language_modelling(
        network.words(network.bert(batch.sequences), batch.chosen), batch.targets
    )


def _their_loss(network: torch.nn.Module, batch: Masked) -> Tensor:
    ids = batch.sequences.ids
    labels = torch.full_like(ids, -100)
    labels[batch.chosen[:, 0], batch.chosen[:, 1]] = batch.targets
    loss: Tensor = network(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
    return loss


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Measure what is not in the results yet, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, required=True, metavar="FILE.jsonl")
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compiled", action="store_true", help="also those cases of `tiny`, which need a C++ compiler")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--peak-teraflops", type=float, default=0.0, help="peak of the device in bfloat16")
    parser.add_argument("--photos", type=Path, metavar="DIR", help="photos to detect (default: drawn noise)")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    began, device = time.monotonic(), torch.device(options.device)
    size = replace(SIZES[options.size], methods=METHODS) if options.compiled else SIZES[options.size]
    lines = options.results.read_text().splitlines() if options.results.exists() else []
    done = {json.loads(line)["case"] for line in lines}
    print(f"{len(done)} cases were measured before", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        measurements = Measurements(size, device, Path(scratch), options.peak_teraflops, options.photos)
        for case in itertools.filterfalse(done.__contains__, cases(size)):
            if time.monotonic() - began > 60 * options.minutes:
                print("the time is up; call again to go on")
                break
            try:
                found = measurements.measure(case)
            except Exception as error:
                found = {"error": f"{type(error).__name__}: {str(error)[:300]}"}
            with options.results.open("a") as file:
                file.write(json.dumps({"case": case, **found}) + "\n")
            shown = (
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in found.items()
            )
            print(f"{case:<14}", ", ".join(shown), flush=True)


if __name__ == "__main__":
    main()
