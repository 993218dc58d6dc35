"""Kills whole runs at random moments, in all stages and in training, and compares every byte at the end.

    python benchmarks/kill_run.py --out DIR [--kills 50] [--seed 0] [--stage NAME]... [--signal TERM] [--within 3]

Draws small corpora and runs everything on them once undisturbed. Then it starts a run in a process group of its own,
kills it at a random moment, starts the same command again, and so on until the run ends; then the next run, until all
kills are done. One worker and two take turns. Two kills of three hit the whole group; the third hits only the command,
as the system does when memory runs out, and its workers have to notice.

Every run must end with the bytes of the undisturbed one, except for logs, and leave no temporary file. The table says
in which stage the kills fell. Exit code 1 if anything differs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml
from benchmarks.same_bytes import contents, faults

from vlmixer.artifacts import stages
from vlmixer.pipeline.demo.world import write_world

PHOTOS, SENTENCES = 160, 1500
MOMENTS = ("start", *stages.NAMES, "train", "end")
OUT = "out"
"""The same name for all: pages are named by it."""
REFUSED = b"another run is at work"
KILLS_PER_STAGE = 3


def write_config(folder: Path, photos: int = PHOTOS, *, train: bool = True) -> Path:
    """Write corpora and a config of all stages and, with `train`, a short training; returns the config's path."""
    world = folder / "world"
    write_world(world, seed=0, photos=photos, sentences=SENTENCES, pairs=1)
    config: dict[str, object] = {
        "vocabulary": str(world / "vocabulary.txt"),
        "text": {"inputs": [str(world / "captions.txt")], "spacy_model": "rules"},
        "images": {"inputs": [str(world / "photos" / "*.jpg")], "detector": "demo", "score_threshold": 0.5},
        "bank": {"max_patches_per_concept": 20},
        "mix": {"samples_per_shard": 200},
        "train": {"steps": 24, "batch_size": 16, "checkpoint_every": 6, "warmup_steps": 4, "device": "cpu"},
    }
    if not train:
        del config["train"]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def start(config: Path, out: Path, workers: int, temporary: Path) -> subprocess.Popen[bytes]:
    """Start the command as the leader of a process group, with `temporary` as its folder for temporary files."""
    call = [sys.executable, "-m", "vlmixer", "run", str(config), "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(
        call, cwd=Path(__file__).parents[1], env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def reached(out: Path) -> str:
    """The stage in which a run was killed."""
    if not (out / "logs").exists():
        return "start"
    for stage in stages.STAGES:
        if not (out / stage.folder / "manifest.json").exists():
            return stage.name
    return "end" if (out / "run" / "model.safetensors").exists() else "train"


@dataclass(frozen=True)
class Kills:
    """signal: what is sent. stages: where the kills should fall. within: up to so many seconds after a stage begins (or
    after the command begins, if that is later), so that all stages are hit on slow and fast machines alike."""

    signal: signal.Signals
    stages: Sequence[str]
    within: float


def disturbed(
    config: Path, out: Path, budget: int, kills: Kills, moments: random.Random, temporary: Path
) -> Counter[str]:
    """Kill a run up to `budget` times and restart it until it ends; returns how many kills fell in each stage.

    Each stage gets up to three kills.
    """
    fell: Counter[str] = Counter()
    wanted = [stage for stage in kills.stages for _ in range(moments.randint(0, KILLS_PER_STAGE))][:budget]
    turn = 0
    while True:
        turn += 1
        process = start(config, out, 1 + turn % 2, temporary)
        if wanted:
            while process.poll() is None and MOMENTS.index(reached(out)) < MOMENTS.index(wanted[0]):
                time.sleep(0.02)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, kills.within))
            if process.poll() is None:
                fell[reached(out)] += 1
                (os.kill if turn % 3 == 0 else os.killpg)(process.pid, kills.signal)
            wanted = wanted[1:]
        _, said = process.communicate()
        if process.returncode == 0:
            return fell
        asked_to_stop = process.returncode == 128 + kills.signal
        if b"Traceback" in said or (process.returncode > 0 and not asked_to_stop and REFUSED not in said):
            raise SystemExit(f"{out}: ended with {process.returncode}:\n{said.decode()}")
        if process.returncode > 0:
            time.sleep(1)


def main() -> int:
    """Run the benchmark; returns 1 if a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stage", action="append", choices=MOMENTS[:-1], help="where kills fall; default: everywhere")
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM", "INT"])
    parser.add_argument("--within", type=float, default=3.0, help="seconds from a stage's beginning to the kill")
    options = parser.parse_args()
    kills = Kills(signal.Signals[f"SIG{options.signal}"], options.stage or MOMENTS[:-1], options.within)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    config = write_config(options.out)
    temporary = options.out / "tmp"
    temporary.mkdir()

    began = time.monotonic()
    _, said = start(config, options.out / "undisturbed" / OUT, 1, temporary).communicate()
    whole = time.monotonic() - began
    expected = contents(options.out / "undisturbed" / OUT)
    if "run/model.safetensors" not in expected:
        raise SystemExit(said.decode())
    left = len(list(temporary.iterdir()))
    print(f"undisturbed: {whole:.0f} s, {len(expected)} files, {left} left behind in TMPDIR", flush=True)

    moments = random.Random(options.seed)
    fell: Counter[str] = Counter()
    runs = wrong = 0
    while fell.total() < options.kills:
        place = options.out / f"run-{runs:02d}"
        out = place / OUT
        here = disturbed(config, out, options.kills - fell.total(), kills, moments, temporary)
        fell += here
        runs += 1
        wrong_here = faults(expected, out)
        wrong += bool(wrong_here)
        where = ", ".join(f"{stage} {number}" for stage, number in here.items())
        print(f"{place.name}: {here.total()} kills ({where}), {wrong_here or 'same bytes'}", flush=True)
        shutil.rmtree(place)
    print(f"\nstage     kills   ({fell.total()} in {runs} runs)")
    for stage in MOMENTS:
        print(f"{stage:8} {fell[stage]:6}")
    kinds = Counter(path.name.rstrip("0123456789")[:14] for path in temporary.iterdir())
    print(f"left behind in TMPDIR by the kills: {dict(kinds)}")
    print("every run has the bytes of the undisturbed one" if not wrong else f"{wrong} runs differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
