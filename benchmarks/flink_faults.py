"""Kills parts of a Flink cluster in the middle of a run: does the job finish, and with the right bytes?

    examples/flink/cluster.sh start
    python benchmarks/flink_faults.py --out DIR [--config CONFIG.yaml] [--stage run] [--after 2] [--faults FAULT…]

Runs the stage locally, then on the cluster once for each fault. A fault falls when --after units of detection (or of
the stage, if it is another) are done:

    none            nothing happens
    taskmanager     a TaskManager is killed (kill -9); it comes back ten seconds later
    pool            its worker pool is killed with its workers; it comes back ten seconds later
    worker          one Python worker process is killed
    forever         a TaskManager is killed and does not come back

Needs the environment variables of cluster.sh. Prints for each trial the exit codes of the command, which is restarted
until all is done, its errors, and whether the bytes are those of the local run.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.kill_run import write_config
from benchmarks.same_bytes import contents, faults

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "examples" / "flink" / "cluster.sh"
FAULTS = ("none", "taskmanager", "pool", "worker", "forever")
VICTIM = "1"


def cluster(*arguments: str) -> str:
    """Call cluster.sh."""
    return subprocess.run([CLUSTER, *arguments], check=True, capture_output=True, text=True).stdout


def command(stage: str, config: Path, out: Path, *arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "vlmixer", stage, str(config), "--out", str(out), *arguments]


def units_done(out: Path, stage: str) -> int:
    """Number of finished units of the stage."""
    work = out / "work" / ("detect" if stage == "run" else stage)
    return sum(path.name.startswith("part-") for path in work.glob("*.json"))


def worker_processes() -> list[int]:
    """Ids of the Python workers of the pool VICTIM."""
    pool = next(line.split()[1] for line in cluster("status").splitlines() if line.startswith(f"pool-{VICTIM} "))
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[2] == pool and status.parent.name != pool:  # of the pool's process group
            found.append(int(status.parent.name))
    return found


def strike(fault: str) -> None:
    """Do the damage, and repair it if the fault says so."""
    if fault == "worker":
        for process in worker_processes()[:1]:
            os.kill(process, signal.SIGKILL)
    elif fault in ("taskmanager", "pool", "forever"):
        name = f"{'pool' if fault == 'pool' else 'taskmanager'}-{VICTIM}"
        cluster("kill", name)
        if fault != "forever":
            time.sleep(10)
            cluster("restart", name)


def trial(fault: str, after: int, stage: str, config: Path, out: Path, log: Path) -> tuple[list[int], float]:
    """Run on the cluster until the stage is done, at most three times; returns exit codes and seconds."""
    codes: list[int] = []
    began = time.monotonic()
    while not codes or (codes[-1] == 1 and len(codes) < 3):
        with log.open("a") as said:
            process = subprocess.Popen(
                command(stage, config, out, "--", *cluster("options").split()), cwd=ROOT, stdout=said, stderr=said
            )
            while not codes and fault != "none" and process.poll() is None:
                if units_done(out, stage) >= after:
                    strike(fault)
                    break
                time.sleep(0.05)
            codes.append(process.wait())
    return codes, time.monotonic() - began


def main() -> int:
    """Run the benchmark; returns 1 if a trial does not end with the local bytes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, help="a config of yours (default: a drawn world, the demo's detector)")
    parser.add_argument("--stage", default="run", choices=["run", "tag", "detect"])
    parser.add_argument("--photos", type=int, default=384)
    parser.add_argument("--after", type=int, default=2)
    parser.add_argument("--faults", nargs="+", default=FAULTS, choices=FAULTS)
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    config = options.config or write_config(options.out, options.photos, train=False)
    config = config.resolve()
    began = time.monotonic()
    subprocess.run(command(options.stage, config, options.out / "local", "--workers", "1"), cwd=ROOT, check=True)
    print(f"local, one worker: {time.monotonic() - began:.0f} s", flush=True)
    expected = contents(options.out / "local")
    failed = False
    for fault in options.faults:
        out, log = options.out / fault, options.out / f"{fault}.log"
        codes, seconds = trial(fault, options.after, options.stage, config, out, log)
        wrong = faults(expected, out)
        failed = failed or bool(wrong)
        print(f"{fault}: {seconds:.0f} s, exit codes {codes}, {wrong or 'same bytes'}", flush=True)
        for line in log.read_text().splitlines():
            if line.startswith("error: "):
                print(f"    {line}", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
