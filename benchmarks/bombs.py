"""Do small files that somebody gave us make a command take gigabytes or minutes, or end in a traceback?

    python benchmarks/bombs.py --folder DIR [--only "bank: index.faiss*"] [--minutes M]

Makes a small result with a trained run in DIR once. Then, for each bomb of bomb_files.py and image_bombs.py, calls the
whole command that reads it, in a process of its own that may take 4 GB of address space more than it has with its
libraries. Prints a Markdown table: what came of it, the time, and by how much the memory grew. A bomb is held if the
command ends within two minutes with exit code 0, 1 or 2, at most one line of error, no traceback, and less than 2 GB
more; "out of memory" is not held. Ends with the numbers tried and held.
"""

import argparse
import fnmatch
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `tests`

from benchmarks.bomb_cases import Command, Place, corpora, networks, results
from benchmarks.hostile_files import make

SECONDS = 120
CEILING = 4 << 30
MOST_MEMORY = 2 << 30
LIBRARIES = {"tag": "apache_beam,spacy", "train": "torch", "eval": "apache_beam,torch", "show": "", "bank": "faiss"}
"""What a command imports before its memory is measured and limited; others import both Beam and torch."""
CHILD = """
import importlib, resource, sys
result, ceiling, names, *arguments = sys.argv[1:]
for name in filter(None, ["pyarrow.parquet", *names.split(",")]):
    importlib.import_module(name)
with open("/proc/self/statm") as file:
    size, resident = (int(pages) * resource.getpagesize() for pages in file.read().split()[:2])
with open(result, "w") as file:
    file.write(str(resident))
resource.setrlimit(resource.RLIMIT_AS, (size + int(ceiling),) * 2)
from vlmixer.pipeline.commands.main import main
sys.exit(main(arguments))
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended. wrong: what it did instead of ending well, or "". said: the last line. grown: bytes."""

    said: str
    wrong: str
    seconds: float
    grown: int


def attempt(command: Command, folder: Path) -> Outcome:
    """Call the command in a process that is limited. folder: for its output, and to run in."""
    libraries = LIBRARIES.get(command[0], "" if command[0] == "verify" else "apache_beam,torch")
    before = folder / "resident"
    call = [sys.executable, "-c", CHILD, str(before), str(CEILING), libraries, *command]
    root = Path(__file__).resolve().parents[1]
    with (folder / "said").open("w+b") as said:
        began = time.monotonic()
        process = subprocess.Popen(
            call, stdout=subprocess.DEVNULL, stderr=said, stdin=subprocess.DEVNULL, start_new_session=True, cwd=root
        )
        status = None
        while status is None and time.monotonic() - began < SECONDS:
            time.sleep(0.02)
            found, ended, used = os.wait4(process.pid, os.WNOHANG)
            status = ended if found else None
        seconds = time.monotonic() - began
        if status is None:
            os.killpg(process.pid, signal.SIGKILL)
            _, _, used = os.wait4(process.pid, 0)
        process.returncode = -1 if status is None else os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    grown = 1024 * used.ru_maxrss - (int(before.read_text()) if before.exists() else 0)
    last = text.strip().splitlines()[-1] if text.strip() else ""
    wrong = f"still running after {SECONDS} s" if status is None else _wrong(process.returncode, text, grown)
    return Outcome(f"{process.returncode}: {last}", wrong, seconds, grown)


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
