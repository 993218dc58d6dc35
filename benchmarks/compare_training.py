"""Trains with two settings, or with the code of two checkouts, in turn: speed, and whether the losses agree.

    python benchmarks/compare_training.py --shards DIR --a train.precision=float32 --b train.precision=bfloat16
    python benchmarks/compare_training.py --shards DIR --a-code ../before/src --b-code src

Both sides train with the same seeds, in processes of their own. Printed are samples per second by the clock and per
CPU second (of the training and its readers, without a run of one step), and how far the losses of both sides are
apart, next to how far those of two seeds of one side are. Rounds take the sides in turn, each round with a new seed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.timing import Taken, spread, timed

from vlmixer.model.training import LOSSES

TAIL = 0.25
"""The share of the steps, at the end, over which losses are averaged."""


@dataclass(frozen=True)
class Side:
    """One of the two: the folder from which Python imports vlmixer, and assignments of settings."""

    code: str
    assignments: tuple[str, ...]

    def train(self, shards: str, run: str, steps: int, seed: int) -> Taken:
        """Train into the folder `run`."""
        common = [f"train.shards={shards}", f"train.steps={steps}", f"seed={seed}", "train.log_every=1"]
        given = [part for assignment in (*common, *self.assignments) for part in ("--set", assignment)]
        Path(run).mkdir(parents=True)
        config = Path(run).with_suffix(".yaml")
        config.write_text("train: {}\n")
        call = [sys.executable, "-P", "-m", "vlmixer.model.train", str(config), "--out", run, *given]
        environment = {**os.environ, "PYTHONPATH": self.code}
        return timed(lambda: subprocess.run(call, check=True, env=environment, stderr=subprocess.DEVNULL))


@dataclass(frozen=True)
class Trained:
    """A training without its start, and the losses of its steps: (steps,) by name."""

    taken: Taken
    losses: dict[str, np.ndarray]
    samples: float


def trained(side: Side, shards: str, folder: Path, steps: int, seed: int) -> Trained:
    """Train with one seed. The samples are those of the log."""
    start = side.train(shards, str(folder / "start"), 1, seed)
    taken = side.train(shards, str(folder / "run"), steps, seed)
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    clock = sum(line["samples_per_second"] for line in lines[1:]) / max(len(lines) - 1, 1)
    losses = {name: np.array([line[name] for line in lines]) for name in ("loss", *LOSSES)}
    return Trained(Taken(taken.wall, taken.cpu - start.cpu), losses, clock)


def tail(losses: np.ndarray) -> float:
    """The mean at the end."""
    return float(losses[-max(round(len(losses) * TAIL), 1) :].mean())


def main() -> None:
    """Print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", required=True)
    for name in "ab":
        parser.add_argument(f"--{name}", nargs="*", default=[], metavar="KEY=VALUE", help="settings of this side")
        parser.add_argument(f"--{name}-code", default="src", help="folder with its vlmixer (default: src)")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    shards = str(Path(options.shards).resolve())
    sides = {
        name: Side(str(Path(getattr(options, f"{name}_code")).resolve()), tuple(getattr(options, name)))
        for name in "ab"
    }
    found: dict[str, list[Trained]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.rounds):
            for name, side in sides.items():
                one = trained(side, shards, Path(scratch, f"{name}-{seed}"), options.steps, seed)
                found[name].append(one)
                print(f"{name}, seed {seed}: {one.samples:.0f} samples/s, {one.taken.cpu:.1f} CPU s without the start, "
                      f"loss at the end {tail(one.losses['loss']):.4f}", flush=True)  # fmt: skip
    pairs = list(zip(found["a"], found["b"], strict=True))
    print("b over a, speed by the clock:", spread([b.samples / a.samples for a, b in pairs]))
    print("b over a, speed by work:", spread([a.taken.cpu / b.taken.cpu for a, b in pairs]))
    print("\nlosses, mean of the last quarter: a, b, median difference per step of a and b, and of two seeds of a")
    for name in ("loss", *LOSSES):
        between = statistics.median(float(np.median(np.abs(a.losses[name] - b.losses[name]))) for a, b in pairs)
        ones = [one.losses[name] for one in found["a"]]
        seeds = f"{float(np.median(np.abs(ones[0] - ones[1]))):.4f}" if len(ones) > 1 else "-"
        ends = [statistics.mean(tail(one.losses[name]) for one in found[side]) for side in "ab"]
        print(f"  {name:<16}{ends[0]:>9.4f}{ends[1]:>9.4f}{between:>9.4f}{seeds:>9}")


if __name__ == "__main__":
    main()
