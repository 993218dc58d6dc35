"""Runs each short command many times on a finished demo, and counts exit codes and what was said on stderr.

    vlmixer demo --small --out demo
    python benchmarks/short_commands.py demo --times 200

A command that ends in one way 199 times and in another way once shows here: an abort in a thread at exit, a race in the
order of messages. Numbers and paths of temporary files in messages are made equal before they are compared.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq

VLMIXER = f"{sys.executable} -m vlmixer"


def commands(demo: Path, scratch: Path) -> dict[str, str]:
    """Shell lines by what they show. The demo is only read; what a command writes goes to `scratch`."""
    bank = demo / "bank"
    image = scratch / "images.txt"
    image.write_text(pq.read_table(bank / "patches.parquet", columns=["image_id"])[0][0].as_py() + "\n")
    return {
        "version": f"{VLMIXER} --version",
        "no such command": f"{VLMIXER} nonsense",
        "bank stats": f"{VLMIXER} bank stats {bank}",
        "bank stats, no bank": f"{VLMIXER} bank stats {scratch}/none",
        "bank stats | head": f"{VLMIXER} bank stats {bank} | head -1",
        "bank query": f"{VLMIXER} bank query {bank} --concept dog --json",
        "bank query, unknown": f"{VLMIXER} bank query {bank} --concept dgo",
        "bank query --save": f"{VLMIXER} bank query {bank} --concept dog --save {scratch}/crops",
        "bank show": f"{VLMIXER} bank show {bank} --html {scratch}/bank.html",
        "bank drop": f"{VLMIXER} bank drop {bank} --images {image} --out {scratch}/bank2",
        "show": f"{VLMIXER} show {demo} --json",
        "show | head": f"{VLMIXER} show {demo} --json | head -1",
        "verify": f"{VLMIXER} verify {demo}/tagged",
        "index --dry-run": f"cd {demo}; {VLMIXER} index demo.yaml --out . --dry-run",
    }


def main() -> int:
    """Run the commands and print a line for each way in which one ended. Returns 1 if one ended in several ways."""
    parser = argparse.ArgumentParser(description="Run short commands many times and count how they end.")
    parser.add_argument("demo", type=Path, help="folder of a finished `vlmixer demo`")
    parser.add_argument("--times", type=int, default=200, help="runs of each command (default: 200)")
    options = parser.parse_args()
    several = False
    with tempfile.TemporaryDirectory(prefix="short-commands-") as folder:
        scratch = Path(folder)
        lines = commands(options.demo.resolve(), scratch)
        for name, line in lines.items():
            ends: Counter[tuple[int, str]] = Counter()
            for _ in range(options.times):
                for place in ("bank2", "crops"):
                    shutil.rmtree(scratch / place, ignore_errors=True)
                done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
                ends[done.returncode, _said(done.stderr, scratch)] += 1
            several = several or len(ends) > 1
            for (code, said), count in ends.most_common():
                print(f"{name}: {count} × rc {code}: {said or '(nothing)'}", flush=True)
    return int(several)


def _said(stderr: str, scratch: Path) -> str:
    """The messages on one line, without what differs from run to run."""
    text = re.sub(r"\d+([.,]\d+)*", "#", stderr.replace(str(scratch), "TMP"))
    return " | ".join(line for line in text.splitlines() if line.strip())[:300]


if __name__ == "__main__":
    sys.exit(main())
