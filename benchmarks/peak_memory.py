"""Does the peak memory of `vlmixer tag` and `vlmixer detect` grow with their inputs?

    python benchmarks/peak_memory.py [--small 200000] [--kind NAME]...

For each kind of input it runs the stage over a small one and one ten times as large, each in a process of its own, and
prints the peak memory (RSS) of both and their ratio: 1.1 is the most that we accept. Images are tiny, and need
`--small 5000` or less.
"""

import argparse
import gzip
import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml
from PIL import Image

TIMES = 10


def _lines(line: Callable[[int], bytes], name: str) -> Callable[[Path, int], str]:
    def make(folder: Path, number: int) -> str:
        path = folder / name
        with gzip.open(path, "wb", 1) if name.endswith(".gz") else open(path, "wb") as file:
            file.write(b"a dog on the grass\n")
            for place in range(number):
                file.write(line(place))
        return str(path)

    return make


def _members(ending: str, content: bytes) -> Callable[[Path, int], str]:
    def make(folder: Path, number: int) -> str:
        path = folder / "a.tar"
        with tarfile.open(path, "w") as tar:
            for place in range(number):
                info = tarfile.TarInfo(f"{place:08d}.{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return str(path)

    return make


def _picture() -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), "green").save(data, "JPEG")
    return data.getvalue()


KINDS: Mapping[str, tuple[str, Callable[[Path, int], str]]] = {
    "blank lines, packed": ("text", _lines(lambda place: b"\n", "a.txt.gz")),
    "sentences without a mention": ("text", _lines(lambda place: b"no word here %d\n" % place, "a.txt")),
    "bad lines": ("text", _lines(lambda place: b"\xff\xfe %d\n" % place, "a.txt")),
    "sentences": ("text", _lines(lambda place: b"a dog number %d\n" % place, "a.txt")),
    "duplicates": ("text", _lines(lambda place: b"a dog\n", "a.txt")),
    "members of a tar": ("text", _members("txt", b"a dog")),
    "images of a tar": ("images", _members("jpg", _picture())),
}
"""By name, the section of the config, and what writes an input of a given size."""


def peak(section: str, pattern: str, folder: Path) -> int:
    """Peak memory of the stage over this input, in bytes."""
    inputs: dict[str, object] = {"inputs": [pattern]}
    inputs |= {"spacy_model": "rules"} if section == "text" else {"detector": "demo", "drop_duplicates": False}
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump({"vocabulary": "coco", "max_bad_fraction": 1.0, section: inputs}))
    stage = "tag" if section == "text" else "detect"
    command = [sys.executable, "-m", "vlmixer", stage, str(config), "--out", str(folder / "out")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, default=200_000, help="items in the small input")
    parser.add_argument("--kind", action="append", choices=sorted(KINDS), help="default: all")
    options = parser.parse_args()
    for name in options.kind or KINDS:
        section, make = KINDS[name]
        found = []
        for number in (options.small, options.small * TIMES):
            with tempfile.TemporaryDirectory() as place:
                found.append(peak(section, make(Path(place), number), Path(place)))
        small, large = found
        print(f"{name}: {small / 1e6:.0f} MB → {large / 1e6:.0f} MB, {large / small:.2f} times", flush=True)


if __name__ == "__main__":
    main()
