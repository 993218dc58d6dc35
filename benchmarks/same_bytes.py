"""Whether two output folders hold the same bytes, and nothing temporary."""

import hashlib
from pathlib import Path

from vlmixer.artifacts.files import TEMPORARY

VARYING = ("config.yaml", "run/log.jsonl", "run/pipeline.yaml")
"""Files that hold times or the output's own path; those in logs/ do, too."""


def contents(out: Path) -> dict[str, str]:
    """SHA-256 of every file that must be the same in every run, by its path in `out`."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if path.is_file() and name not in VARYING and not name.startswith("logs/"):
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def faults(expected: dict[str, str], out: Path) -> str:
    """What is wrong with `out`: files that differ from `expected`, and temporary files; empty if nothing is."""
    found = contents(out)
    differ = sorted(name for name in {*expected, *found} if expected.get(name) != found.get(name))
    stray = [str(path) for path in out.rglob("*") if TEMPORARY in path.name or path.name == "lock"]
    return f"DIFFERENT: {differ}, left behind: {stray}" if differ or stray else ""
