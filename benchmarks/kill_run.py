"""Kill whole runs at random moments, over all stages and training, and compare every byte in the end.

    python benchmarks/kill_run.py --out DIR [--kills 50] [--seed 0]

Draws small corpora, runs everything on them once undisturbed, then again and again: a run is started in a process
group of its own, killed with SIGKILL at a random moment, started again with the same command, killed again, until it
ends; then the next run, until there were so many kills. One worker and two take turns. Two kills of three hit the
whole group, the third one only the command itself, as the system does when memory runs out; its workers have to notice.

Every run must end with the bytes of the undisturbed one in all files but those of logs/ and the trainer's log, and
leave no temporary file. The table says at which stage the kills fell; exit code 1 if anything differs.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from vlmixer.artifacts.files import TEMPORARY
from vlmixer.pipeline.demo.world import write_world

PHOTOS, SENTENCES = 160, 1500
STEPS = ("tagged", "regions", "bank", "shards")
MOMENTS = ("start", "tag", "detect", "index", "mix", "train", "end")
REFUSED = b"another run is at work"
KILLS_A_STAGE = 3


def write_config(folder: Path, photos: int = PHOTOS, *, train: bool = True) -> Path:
    """Corpora and a config over them, all stages and, with `train`, a short training."""
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


def start(config: Path, out: Path, workers: int, temporary: Path) -> subprocess.Popen:
    """The command, as the leader of a process group; its temporary files go to a folder of their own."""
    call = [sys.executable, "-m", "vlmixer", "run", str(config), "--out", str(out), "--workers", str(workers)]
    return subprocess.Popen(
        call, cwd=Path(__file__).parents[1], env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file, but of those that hold times or the output's own place."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_file() and not name.startswith("logs/") and name not in ("run/log.jsonl", "config.yaml"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    found.pop("run/pipeline.yaml", None)
    return found


def reached(out: Path) -> str:
    """The stage that a killed run was at."""
    if not (out / "logs").exists():
        return "start"
    for name, stage in zip(STEPS, ("tag", "detect", "index", "mix"), strict=True):
        if not (out / name / "manifest.json").exists():
            return stage
    return "end" if (out / "run" / "model.safetensors").exists() else "train"


def disturbed(config: Path, out: Path, budget: int, moments: random.Random, temporary: Path) -> Counter:
    """A run that is killed again and again, at most `budget` times, until it ends; where the kills fell.

    Up to three kills are meant for each stage, one after the other, and fall up to three seconds after its begin (or
    after the command's, if that is later), so that no stage is spared whatever the machine's speed.
    """
    fell: Counter[str] = Counter()
    wanted = [stage for stage in MOMENTS[:-1] for _ in range(moments.randint(0, KILLS_A_STAGE))][:budget]
    turn = 0
    while True:
        turn += 1
        process = start(config, out, 1 + turn % 2, temporary)
        if wanted:
            while process.poll() is None and MOMENTS.index(reached(out)) < MOMENTS.index(wanted[0]):
                time.sleep(0.02)
            with suppress(subprocess.TimeoutExpired):
                process.wait(moments.uniform(0, 3))
            if process.poll() is None:
                fell[reached(out)] += 1
                (os.kill if turn % 3 == 0 else os.killpg)(process.pid, signal.SIGKILL)
            wanted = wanted[1:]
        _, said = process.communicate()
        if process.returncode == 0:
            return fell
        if process.returncode > 0 and REFUSED not in said:
            raise SystemExit(f"{out}: ended with {process.returncode}:\n{said.decode()}")
        if process.returncode > 0:
            time.sleep(1)


def main() -> int:
    """The program; 1 if a byte differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    config = write_config(options.out)
    temporary = options.out / "tmp"
    temporary.mkdir()

    began = time.monotonic()
    _, said = start(config, options.out / "undisturbed", 1, temporary).communicate()
    whole = time.monotonic() - began
    expected = contents(options.out / "undisturbed")
    if "run/model.safetensors" not in expected:
        raise SystemExit(said.decode())
    left = len(list(temporary.iterdir()))
    print(f"undisturbed: {whole:.0f} s, {len(expected)} files, {left} left in TMPDIR", flush=True)

    moments = random.Random(options.seed)
    fell: Counter[str] = Counter()
    runs = wrong = 0
    while fell.total() < options.kills:
        out = options.out / f"run-{runs:02d}"
        here = disturbed(config, out, options.kills - fell.total(), moments, temporary)
        fell += here
        runs += 1
        found = contents(out)
        differ = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
        stray = [str(path) for path in out.rglob("*") if TEMPORARY in path.name or path.name == "lock"]
        wrong += bool(differ or stray)
        where = ", ".join(f"{stage} {number}" for stage, number in here.items())
        verdict = f"DIFFER: {differ}, stray: {stray}" if differ or stray else "same bytes"
        print(f"{out.name}: {here.total()} kills ({where}), {verdict}", flush=True)
        shutil.rmtree(out)
    print(f"\nstage     kills   ({fell.total()} in {runs} runs)")
    for stage in MOMENTS:
        print(f"{stage:8} {fell[stage]:6}")
    kinds = Counter(path.name.rstrip("0123456789")[:14] for path in temporary.iterdir())
    print(f"left in TMPDIR by the kills: {dict(kinds)}")
    print("all bytes are those of the undisturbed run" if not wrong else f"{wrong} runs differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
