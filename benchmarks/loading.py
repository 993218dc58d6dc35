"""How many samples one reading process of the trainer makes, with the code of two checkouts in turn.

    python benchmarks/loading.py --shards DIR [--a-code ../before/src] [--b-code src] [--rounds 3]

The process learns a vocabulary from the first 20,000 texts and hides its imports from the garbage collector if a worker
of that checkout does. Then it makes parts of steps with the default settings: it reads shards, divides texts into word
pieces, masks and pads. It is measured from one group of shards to the next, because it reads one group ahead. Printed
are samples per second of its work (processor time of all threads) and by the clock, and whether both sides made the
same arrays.
"""

import argparse
import gc
import hashlib
import inspect
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.timing import spread

from vlmixer.model import readers
from vlmixer.model import tokenizer as tokenizers
from vlmixer.model.config import Settings
from vlmixer.model.data import Loader
from vlmixer.model.shards import open_shards


def measure(shards: str) -> None:
    """Print the numbers of this process as JSON."""
    settings = Settings()
    folder = open_shards(shards)
    tokenizer = tokenizers.learn(itertools.islice(folder.texts(), 20_000), settings.model.vocabulary_size)
    loader = Loader(folder, tokenizer, settings.model, replace(settings.train, workers=0), 0)
    if "gc.freeze" in inspect.getsource(readers):
        gc.freeze()
    train = settings.train
    rows = sum(shard.rows for shard in folder.mixed) / len(folder.mixed)
    group = round(train.shards_in_memory * rows / train.batch_size)
    parts = loader.parts(0, [0])
    digest = hashlib.sha256()
    for part in itertools.islice(parts, group):
        # Of the numbers of sentences only matters which are equal.
        _add(digest, replace(part, sentences=part.sentences[:, None] == part.sentences[None, :]))
    clock, work = time.perf_counter(), time.process_time()
    samples = 0
    for part in itertools.islice(parts, group):
        samples += sum(len(each.sequences.ids) for each in (part.mixed, part.images) if each is not None)
    clock, work = time.perf_counter() - clock, time.process_time() - work
    print(json.dumps({"by_work": samples / work, "by_clock": samples / clock, "digest": digest.hexdigest()}))


def _add(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype} {value.shape}".encode() + np.ascontiguousarray(value).tobytes())
    elif hasattr(value, "__dataclass_fields__"):
        for part in vars(value).values():
            _add(digest, part)
    else:
        digest.update(repr(value).encode())


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    parser.add_argument("--a-code", help="folder of the other checkout's vlmixer")
    parser.add_argument("--b-code", default="src", help="folder with this vlmixer (default: src)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.shards)
        return
    sides = {name: code for name, code in (("a", options.a_code), ("b", options.b_code)) if code}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    call = [sys.executable, str(Path(__file__).resolve()), "--measure", "--shards", options.shards]
    for _ in range(options.rounds):
        for name, code in sides.items():
            environment = {**os.environ, "PYTHONPATH": str(Path(code).resolve())}
            done = subprocess.run(call, check=True, env=environment, stdout=subprocess.PIPE)
            found[name].append(json.loads(done.stdout))
            print(f"{name}: {found[name][-1]['by_work']:.0f} samples per second of work, "
                  f"{found[name][-1]['by_clock']:.0f} by the clock", flush=True)  # fmt: skip
    if len(sides) == 2:
        pairs = list(zip(found["a"], found["b"], strict=True))
        print("b over a, by work:", spread([b["by_work"] / a["by_work"] for a, b in pairs]))
        print("the same arrays:", len({one["digest"] for ones in found.values() for one in ones}) == 1)


if __name__ == "__main__":
    main()
