"""How fast a bank is built, and how much memory that takes, for 10⁵, 10⁶ and 10⁷ generated regions.

    python benchmarks/bank_build.py --out DIR [--regions 100000 1000000 10000000] [--workers 2]

Runs `vlmixer index` and looks at its processes every half second. "own" is memory that is theirs alone (RssAnon);
"all" counts the pages of memory-mapped files too, which the system takes back when it needs them, and what processes
share as often as it is shared. Ten million regions take about 6 GB in DIR, and as much again while they are indexed.
"""

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # so that the parts beside this one are found

from benchmarks.generated_regions import write_regions

from vlmixer.artifacts import manifest
from vlmixer.bank.store import PatchBank

MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for regions and banks")
    parser.add_argument("--regions", type=int, nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--again", action="store_true", help="build once more with one worker, and compare the bytes")
    options = parser.parse_args()
    print(f"{'regions':>12}{'patches':>12}{'workers':>9}{'seconds':>9}{'regions/s':>11}{'own MiB':>9}{'all MiB':>9}")
    for count in options.regions:
        out = options.out / f"{count}"
        if not (out / "regions" / manifest.NAME).exists():
            write_regions(out, count)
        row(out, count, options.workers)
        if options.again:
            first = manifest.read(str(out / "bank")).content_hash
            row(out, count, 1)
            print("same bytes" if manifest.read(str(out / "bank")).content_hash == first else "OTHER BYTES")


def row(out: Path, count: int, workers: int) -> None:
    """Build once and print a line of the table."""
    for folder in ("bank", "work", "rejects"):
        shutil.rmtree(out / folder, ignore_errors=True)
    command = [sys.executable, "-m", "vlmixer", "index", str(out / "config.yaml"), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--workers", str(workers)], stderr=subprocess.DEVNULL)
    own = everything = 0
    while process.poll() is None:
        anonymous, resident = memory(process.pid)
        own, everything = max(own, anonymous), max(everything, resident)
        time.sleep(0.5)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    patches = len(PatchBank.open(str(out / "bank")))
    print(
        f"{count:>12,}{patches:>12,}{workers:>9}{seconds:>9.0f}{count / seconds:>11,.0f}{own / MIB:>9,.0f}"
        f"{everything / MIB:>9,.0f}",
        flush=True,
    )


def memory(root: int) -> tuple[int, int]:
    """Bytes that a process and all that it started hold: anonymous, and all resident."""
    children: dict[int, list[int]] = {}
    held: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            except OSError:  # it ended meanwhile
                continue
            children.setdefault(int(fields["PPid"]), []).append(int(folder.name))
            sizes = (fields.get(key, "0 kB").split()[0] for key in ("RssAnon", "VmRSS"))
            anonymous, resident = (1024 * int(size) for size in sizes)
            held[int(folder.name)] = (anonymous, resident)
    waiting, total = [root], (0, 0)
    while waiting:
        number = waiting.pop()
        waiting += children.get(number, [])
        own = held.get(number, (0, 0))
        total = (total[0] + own[0], total[1] + own[1])
    return total


if __name__ == "__main__":
    main()
