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
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq

VLMIXER = f"{sys.executable} -m vlmixer"


def commands(demo: Path, scratch: Path) -> dict[str, str]:
    """Shell lines by what they show. The demo is only read; what a command writes goes to `scratch`."""
    bank = demo / "bank"
    image = scratch / "images.txt"
    image.write_text(pq.read_table(bank / "patches.parquet", columns=["image_id"])[0][0].as_py() + "\n")
    listed = {
        "version": "--version",
        "no such command": "nonsense",
        "bank stats": f"bank stats {bank}",
        "bank stats, no bank": f"bank stats {scratch}/none",
        "bank stats | head": f"bank stats {bank} | head -1",
        "bank query": f"bank query {bank} --concept dog --json",
        "bank query | head": f"bank query {bank} --concept dog | head -1",
        "bank query, unknown": f"bank query {bank} --concept dgo",
        "bank query --save": f"bank query {bank} --concept dog --save {scratch}/crops",
        "bank show": f"bank show {bank} --html {scratch}/bank.html",
        "bank drop": f"bank drop {bank} --images {image} --out {scratch}/bank2",
        "show": f"show {demo} --json",
        "show | head": f"show {demo} --json | head -1",
        "rejects": f"rejects {demo}",
        "rejects | head": f"rejects {demo} | head -1",
        "verify tagged": f"verify {demo}/tagged",
        "verify": f"verify {demo}",
        "index --dry-run": f"index {demo}/demo.yaml --out {demo} --dry-run",
    }
    return {name: f"cd {demo}; {VLMIXER} {arguments}" for name, arguments in listed.items()}


def main() -> int:
    """Run the commands and print a line for each way in which one ended. Returns 1 if one ended in several ways."""
    parser = argparse.ArgumentParser(description="Run short commands many times and count how they end.")
    parser.add_argument("demo", type=Path, help="folder of a finished `vlmixer demo`")
    parser.add_argument("--times", type=int, default=200, help="runs of each command (default: 200)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="short-commands-") as folder:
        scratch = Path(folder)
        lines = commands(options.demo.resolve(), scratch)
        ends: dict[str, Counter[tuple[int, str]]] = {name: Counter() for name in lines}
        # Every command once, then again: whoever stops early has as many runs of each.
        with suppress(KeyboardInterrupt):
            for _ in range(options.times):
                for name, line in lines.items():
                    for place in ("bank2", "crops"):
                        shutil.rmtree(scratch / place, ignore_errors=True)
                    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)
                    # Whether the output was written before `head` ended is no difference.
                    code = 0 if "|" in line and done.returncode == 141 else done.returncode
                    ends[name][code, _said(done.stderr, scratch)] += 1
    for name, counted in ends.items():
        for (code, said), count in counted.most_common():
            print(f"{name}: {count} × rc {code}: {said or '(nothing)'}")
    return int(any(len(counted) > 1 for counted in ends.values()))


def _said(stderr: str, scratch: Path) -> str:
    """The messages on one line, without what differs from run to run."""
    text = re.sub(r"\d+([.,]\d+)*", "#", stderr.replace(str(scratch), "TMP"))
    return " | ".join(line for line in text.splitlines() if line.strip())[:300]


if __name__ == "__main__":
    sys.exit(main())
