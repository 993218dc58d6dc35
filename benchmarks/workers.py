"""What several workers gain over one, and what the start of their processes costs.

    python benchmarks/workers.py CONFIG.yaml [--command run] [--workers 1 2] [--code src ../before/src] [--rounds 2]
    python benchmarks/workers.py demo

Runs `vlmixer run CONFIG.yaml` (or another stage, or `vlmixer demo`) into fresh folders, with each number of workers and
the code of each checkout in turn. Printed are wall-clock time, CPU time of all processes, and ratios of the medians to
the first way.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.timing import in_turn, median, spread

DEMO = "demo"


def call(what: str, command: str, workers: int, code: str) -> None:
    """Run the command once, with the code in this folder. Raises CalledProcessError with its output if it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        given = [DEMO] if what == DEMO else [command, what]
        line = [sys.executable, "-m", "vlmixer", *given, "--out", f"{scratch}/out", "--workers", str(workers)]
        environment = {**os.environ, "PYTHONPATH": code}
        subprocess.run(line, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def main() -> None:
    """Print a line per way, and its ratios to the first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="CONFIG.yaml", help="a config, or `demo`")
    parser.add_argument("--command", default="run", help="run, tag, detect, index or mix (default: run)")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--code", nargs="+", default=["src"], help="folders with a vlmixer (default: src)")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    what = options.what if options.what == DEMO else str(Path(options.what).resolve())
    ways = {
        f"{code}, {workers} workers": partial(call, what, options.command, workers, str(Path(code).resolve()))
        for workers, code in itertools.product(options.workers, options.code)
    }
    found = in_turn(options.rounds, ways)
    first = next(iter(found.values()))
    for name, taken in found.items():
        middle = median(taken)
        wall = spread([one.wall / other.wall for one, other in zip(first, taken, strict=True)])
        cpu = spread([one.cpu / other.cpu for one, other in zip(first, taken, strict=True)])
        print(f"{name:<30}{middle.wall:>8.1f} s{middle.cpu:>8.1f} CPU s   the first over it: {wall}, by work {cpu}")


if __name__ == "__main__":
    main()
