"""Do small files that somebody gave us make a command take gigabytes or minutes, or end in a traceback?

    python benchmarks/bombs.py --folder DIR [--only "bank: index.faiss*"] [--minutes M]

Makes a small result with a trained run in DIR once. Then, for each bomb of bomb_files.py and image_bombs.py, calls the
whole command that reads it, in a process of its own, forked after the libraries were loaded, that may take 4 GB more
address space. Prints a Markdown table: the time, by how much the memory grew, and what came of it. A bomb is held if
the command ends within two minutes with exit code 0, 1 or 2, at most one line of error, no traceback, and less than
2 GB more; "out of memory" is not held. Ends with the numbers tried and held.
"""

import argparse
import fnmatch
import itertools
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `tests`

from benchmarks.bomb_cases import Command, Place, corpora, networks, results
from benchmarks.forged_results import warm
from benchmarks.hostile_files import make

from vlmixer.pipeline.commands.main import main as vlmixer

SECONDS = 120
CEILING = 4 << 30
MOST_MEMORY = 2 << 30


@dataclass(frozen=True)
class Outcome:
    """How a command ended. wrong: what it did instead of ending well, or "". said: the last line. grown: bytes."""

    said: str
    wrong: str
    seconds: float
    grown: int


def attempt(command: Command, folder: Path) -> Outcome:
    """Call the command in a process of its own, which is limited. folder: for what it says."""
    began = time.monotonic()
    child = os.fork()
    if not child:
        _run(command, folder)
    found = 0
    while not found and time.monotonic() - began < SECONDS:
        time.sleep(0.02)
        found, status, used = os.wait4(child, os.WNOHANG)
    seconds = time.monotonic() - began
    if not found:
        os.killpg(child, signal.SIGKILL)
        _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    text = (folder / "said").read_text(errors="replace").strip()
    grown = 1024 * used.ru_maxrss - int((folder / "before").read_text())
    wrong = _wrong(code, text, grown) if found else f"still running after {SECONDS} s"
    return Outcome(f"{code}: {text.rpartition(chr(10))[2]}", wrong, seconds, grown)


def _memory() -> tuple[int, int]:
    """The address space of this process and what it holds of it, in bytes."""
    with open("/proc/self/statm") as file:
        size, resident, *_ = (int(pages) * resource.getpagesize() for pages in file.read().split())
    return size, resident


def _run(command: Command, folder: Path) -> NoReturn:
    """The command, in a process that ends with it."""
    os.setsid()
    code = 1
    try:
        for number, path in enumerate((os.devnull, os.devnull, str(folder / "said"))):
            os.dup2(os.open(path, os.O_RDWR | os.O_CREAT), number)
        size, before = _memory()
        (folder / "before").write_text(str(before))
        resource.setrlimit(resource.RLIMIT_AS, (size + CEILING,) * 2)
        code = vlmixer(command)
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wrong(code: int, text: str, grown: int) -> str:
    """What is wrong with a command that ended, or ""."""
    errors = [line for line in text.splitlines() if line.startswith("error:")]
    if code < 0:
        return signal.Signals(-code).name
    if "Traceback" in text:
        return "a traceback"
    if code not in (0, 1, 2) or len(errors) > 1 or any(len(line) > 3000 for line in errors):
        return f"exit code {code}, {len(errors)} lines of errors"
    if grown > MOST_MEMORY or "out of memory" in text:
        return "too much memory"
    return ""


def prepared(folder: Path) -> tuple[Path, Path]:
    """The folder of the config and what it names, and a finished result there."""
    sound, config = make(folder)
    encoder = config.parent / "encoder.safetensors"
    if not encoder.exists():
        import timm
        from safetensors.torch import save_file
        from tests.pipeline.image.detectors.small_transformers import write_model

        save_file(timm.create_model("test_efficientnet").state_dict(), encoder)
        write_model("yolos", config.parent / "yolos")
    return config.parent, sound


def main() -> int:
    """Run the benchmark; returns 1 if a bomb was not held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="*", help="bombs, as COMMAND: NAME")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after this time")
    options = parser.parse_args()
    given, sound = prepared(options.folder.resolve())
    warm()
    import torchvision  # noqa: F401

    tried = bad = 0
    began = time.monotonic()
    print("| bomb | seconds | MB more | came of it |\n|---|---|---|---|")
    for name, case in itertools.chain(corpora(), networks(), results()):
        if not fnmatch.fnmatch(name, options.only) or time.monotonic() - began > 60 * options.minutes:
            continue
        with tempfile.TemporaryDirectory() as scratch:
            outcome = attempt(case(Place(given, sound, Path(scratch))), Path(scratch))
            said = outcome.said.replace(scratch, "").replace("|", "/")
        wrong = outcome.wrong or (said if name.endswith(": sound") and not said.startswith("0:") else "")
        tried += 1
        bad += bool(wrong)
        verdict = f"**{wrong}**, " if wrong else ""
        print(f"| {name} | {outcome.seconds:.0f} | {outcome.grown / 1e6:,.0f} | {verdict}{said[:200]} |", flush=True)
    print(f"\ntried {tried}, held {tried - bad}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
