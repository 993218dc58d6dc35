"""Do other programs read the shards? Runs the code blocks of docs/reading-shards.md, each with its packages.

    python benchmarks/readers.py --shards OUT/shards [--environments FOLDER] [--only energon]

OUT/shards must have been made with `mix.crops: true`, and OUT must have bank/ and tagged/. Each `pip install` line of a
section gets an environment of its own, which is kept in FOLDER; a section without one runs in this environment.
Energon's own `info` and `lint` run, too.
"""

import argparse
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reading-shards.md"


@dataclass(frozen=True)
class Block:
    """A code block of the page: its section, its packages, its code."""

    section: str
    packages: tuple[str, ...]
    code: str


def blocks(page: str) -> Iterator[Block]:
    """The Python blocks of a page, one for each `pip install` line of their section."""
    for section in page.split("\n## ")[1:]:
        installs = re.findall(r"^pip install (.*)$", section, re.MULTILINE) or [""]
        for code in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
            yield from (Block(section.split("\n")[0], tuple(install.split()), code) for install in installs)


def interpreter(packages: tuple[str, ...], environments: Path) -> Path:
    """A Python interpreter with the packages."""
    if not packages:
        return Path(sys.executable)
    folder = environments / hashlib.sha256(" ".join(packages).encode()).hexdigest()[:12]
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (folder / "ready").touch()
    return python


def attempt(name: str, command: list[str | Path], where: Path, path: str = "") -> bool:
    """Run a command; print whether it succeeded, and its last line of output."""
    environment = os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HOME": str(where / "cache")}
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, env=environment)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or [""]
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name}: {said[-1][:150]}", flush=True)
    return done.returncode == 0


def main() -> int:
    """Print one line per attempt; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--environments", type=Path, default=Path(tempfile.gettempdir()) / "vlmixer-readers")
    parser.add_argument("--only", default="", help="only sections and packages with this in their name")
    options = parser.parse_args()
    sound = True
    with tempfile.TemporaryDirectory() as name:
        where = Path(name)
        (where / "out").symlink_to(options.shards.resolve().parent)
        for block in blocks(PAGE.read_text(encoding="utf-8")):
            title = f"{block.section} [{' '.join(block.packages) or 'here'}]"
            if options.only.lower() not in title.lower():
                continue
            python = interpreter(block.packages, options.environments)
            own = "" if block.packages else str(ROOT)
            sound &= attempt(title, [python, "-c", block.code], where, own)
            if "megatron-energon" in title:
                energon = python.parent / "energon"
                for call in ("info", "lint", "lint --split-parts images"):
                    sound &= attempt(f"energon {call}", [energon, *call.split(), "out/shards"], where)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
