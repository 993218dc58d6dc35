"""Runs the steps of the Dockerfile without Docker: each stage in its own folder, RUN in a chroot.

    debootstrap --variant=minbase --include=python3-dev,python3-venv,ca-certificates bookworm ROOT/base
    python docker/try_steps.py ROOT [--arg NAME=VALUE]... [--share PATH]... [--env NAME]... [--after LINE]

ROOT/base stands for the base image. Files that COPY --from takes out of images in a registry are not available; empty
files replace them, and the report says so. `--share` copies files of this machine into each stage before its first step
(certificates, pip's settings); `--env` passes environment variables on. `--after LINE` resumes after a failure: the
steps above that line count as done. Needs root and dockerfile-parse.
"""

import argparse
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

CONTEXT = Path(__file__).resolve().parents[1]


@dataclass
class Stage:
    """A stage of the build. `root`: its folder, None for an image in a registry; the rest is the state of its steps."""

    root: Path | None
    env: dict[str, str] = field(default_factory=dict)
    args: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"

    def inside(self, path: str) -> Path:
        """The place on this machine of a path in the image."""
        assert self.root is not None
        return self.root / os.path.join(self.folder, path).lstrip("/")


def expand(text: str, values: Mapping[str, str]) -> str:
    """`text` with $NAME and ${NAME} replaced."""
    return re.sub(r"\$\{?(\w+)\}?", lambda match: values.get(match.group(1), ""), text)


def assignments(text: str) -> dict[str, str]:
    """NAME=VALUE pairs of an ARG or ENV."""
    pairs = re.findall(r'(\w+)=("[^"]*"|\S*)', text)
    return {name: value.strip('"') for name, value in pairs} or {text.strip(): ""}


def main() -> int:
    """Run all steps. Returns 1 at the first that fails."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("--arg", action="append", default=[], metavar="NAME=VALUE", help="docker build's --build-arg")
    parser.add_argument("--share", action="append", default=[], type=Path)
    parser.add_argument("--env", action="append", default=[], metavar="NAME")
    parser.add_argument("--after", type=int, default=0, metavar="LINE")
    options = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in options.arg)
    passed = {name: os.environ[name] for name in options.env if name in os.environ}
    steps = DockerfileParser(fileobj=io.BytesIO((CONTEXT / "docker" / "Dockerfile").read_bytes())).structure
    outer: dict[str, str] = {}
    stages: dict[str, Stage] = {}
    stage = Stage(None)
    for step in steps:
        verb, text = step["instruction"], step["value"]
        done = step["startline"] < options.after
        if verb == "COMMENT" or (done and verb in ("COPY", "RUN")):
            continue
        values = {**stage.args, **stage.env}
        began = time.monotonic()
        note = ""
        if verb == "FROM":
            image, _, name = (part.strip() for part in text.partition(" AS "))
            stage = begin(expand(image, outer), name or "final", outer["BASE"], options, passed, done)
            stages[name or "final"] = stage
            note = "" if stage.root else "not available: an image in a registry"
        elif verb == "ARG":
            found = {name: given.get(name, value) for name, value in assignments(text).items()}
            (stage.args if stages else outer).update(found)
        elif verb == "ENV":
            stage.env |= {name: expand(value, values) for name, value in assignments(text).items()}
        elif verb in ("WORKDIR", "USER"):
            value = expand(text, values)
            stage.folder, stage.user = (value, stage.user) if verb == "WORKDIR" else (stage.folder, value)
            stage.inside(".").mkdir(parents=True, exist_ok=True)
        elif verb == "COPY":
            note = copy(stage, stages, expand(text, values))
        elif verb == "RUN":
            command = [
                "chroot",
                f"--userspec={stage.user}",
                str(stage.root),
                "/bin/sh",
                "-c",
                f"cd {stage.folder}; {text}",
            ]
            code = subprocess.run(command, env={"HOME": "/root", **passed, **values}).returncode
            if code:
                print(f"line {step['startline'] + 1}: {verb} {text}\n  FAILED with {code}", flush=True)
                return 1
        elif verb == "ENTRYPOINT":
            program = stage.inside(json.loads(text)[0])
            note = "present" if program.exists() else "MISSING"
        print(
            f"line {step['startline'] + 1}: {verb} {text[:100]}  [{time.monotonic() - began:.0f} s] {note}", flush=True
        )
    return 0


def begin(
    image: str, name: str, base: str, options: argparse.Namespace, passed: Mapping[str, str], done: bool
) -> Stage:
    """A fresh stage on the base image; the existing one if it is partly `done`. An empty stage for any other image."""
    if image != base:
        return Stage(None)
    root = options.root / name
    first = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
    if done and root.exists():
        return Stage(root, first)
    if root.exists():
        shutil.rmtree(root)
    subprocess.run(["cp", "-a", str(options.root / "base"), str(root)], check=True)
    (root / "usr/bin/python").symlink_to("python3")  # as the base image has it
    for path in options.share:
        place = root / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(["cp", "-aL", "-T", str(path), str(place)], check=True)
    return Stage(root, first)


def copy(stage: Stage, stages: Mapping[str, Stage], text: str) -> str:
    """Do a COPY. Returns a note for the report."""
    *sources, target = [word for word in text.split() if not word.startswith("--")]
    origin = re.search(r"--from=(\S+)", text)
    place = stage.inside(target)
    if origin is None:
        for source in sources:
            into = place / Path(source).name if target.endswith("/") or len(sources) > 1 else place
            into.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-aT", str(CONTEXT / source), str(into)], check=True)
        return ""
    place.parent.mkdir(parents=True, exist_ok=True)
    other = stages[origin.group(1)]
    if other.root is None:
        # Beam's is a folder with the program `boot`, the launcher's a file.
        (place / "boot" if place.name == "beam" else place).parent.mkdir(parents=True, exist_ok=True)
        (place / "boot" if place.name == "beam" else place).touch()
        return "EMPTY FILE instead of the image's"
    # Hard links: a copy of torch would take several GB more.
    subprocess.run(["cp", "-al", str(other.inside(sources[0])), str(place)], check=True)
    return ""


if __name__ == "__main__":
    sys.exit(main())
