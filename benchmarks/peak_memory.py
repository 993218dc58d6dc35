"""Does the peak memory of the commands grow with their inputs?

    python benchmarks/peak_memory.py [--kind NAME]... [--scale 1.0]

For each kind of input (peak_inputs.py) it runs the commands that read it over a small input and over one ten times as
large, one process after the other, and prints a line of a Markdown table per command: the seconds of the larger one and
the peaks of both. *Own* is what the largest process holds without pages of mapped files, which the system takes back
when it needs them; *RSS* is with them. 1.1 times the own memory is the most that we accept.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.peak_inputs import KINDS, Kind
from benchmarks.watching import Watched, watch

TIMES = 10
EVERY = 0.05
"""Seconds between two looks at the memory: imports and single steps are short."""


def measure(kind: Kind, number: int, folder: Path) -> dict[str, Watched]:
    """What each command of the kind took over `number` items."""
    return {name: watch(command, EVERY) for name, command in kind.make(folder, number).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the sizes of all inputs")
    parser.add_argument("--folder", help="where temporary folders are made")
    options = parser.parse_args()
    print("| input | items | command | seconds | own, MB | | times | RSS, MB | | times |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in options.kind or KINDS:
        number = int(KINDS[name].small * options.scale)
        taken = []
        for items in (number, number * TIMES):
            with tempfile.TemporaryDirectory(dir=options.folder) as place:
                try:
                    taken.append(measure(KINDS[name], items, Path(place)))
                except subprocess.CalledProcessError as error:
                    raise SystemExit(f"{name}, {items:,} items: {error}\n{error.output[-2000:]}") from None
        for command, small in taken[0].items():
            large = taken[1][command]
            own = f"{small.largest / 1e6:.0f} | {large.largest / 1e6:.0f} | {large.largest / small.largest:.2f}"
            rss = f"{small.resident / 1e6:.0f} | {large.resident / 1e6:.0f} | {large.resident / small.resident:.2f}"
            print(f"| {name} | {number * TIMES:,} | {command} | {large.seconds:.0f} | {own} | {rss} |", flush=True)


if __name__ == "__main__":
    main()
