"""Speed and memory of `vlmixer index` for 10⁵, 10⁶ and 10⁷ generated regions.

    python benchmarks/bank_build.py --out DIR [--regions 100000 1000000 10000000] [--workers 2] [--compare]

"own" is the private memory of all processes together; "all" also counts pages of memory-mapped files, which the system
takes back when it needs them. Ten million regions take about 6 GB in DIR, and as much again while they are indexed.
"""

import argparse
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `benchmarks`

from benchmarks.generated_regions import write_regions
from benchmarks.watching import MIB, vlmixer, watch

from vlmixer.artifacts import manifest
from vlmixer.bank.store import PatchBank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for regions and banks")
    parser.add_argument("--regions", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--compare", action="store_true", help="build again with one worker and compare the bytes")
    options = parser.parse_args()
    print(f"{'regions':>12}{'patches':>12}{'workers':>9}{'seconds':>9}{'regions/s':>11}{'own MiB':>9}{'all MiB':>9}")
    for count in options.regions:
        out = options.out / f"{count}"
        if not (out / "regions" / manifest.NAME).exists():
            write_regions(out, count)
        row(out, count, options.workers)
        if options.compare:
            first = manifest.read(str(out / "bank")).content_hash
            row(out, count, 1)
            same = manifest.read(str(out / "bank")).content_hash == first
            print(f"one worker: {'same bytes' if same else 'DIFFERENT BYTES'}")


def row(out: Path, count: int, workers: int) -> None:
    """Build a bank and print its line of the table."""
    for folder in ("bank", "work", "rejects"):
        shutil.rmtree(out / folder, ignore_errors=True)
    taken = watch(vlmixer("index", out / "config.yaml", "--out", out, "--workers", workers))
    patches = len(PatchBank.open(str(out / "bank")))
    print(
        f"{count:>12,}{patches:>12,}{workers:>9}{taken.seconds:>9.0f}{count / taken.seconds:>11,.0f}"
        f"{taken.together / MIB:>9,.0f}{taken.resident / MIB:>9,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
