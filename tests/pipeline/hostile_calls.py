"""The commands that read a file of an output folder, called in this process on a folder with one changed file.

They must end with exit code 0, 1 or 2, with at most a line of error, and within a minute. A traceback, a hang or a
gigabyte of memory is a finding. test_hostile_files.py tries some changes, benchmarks/hostile_files.py any number.
"""

import contextlib
import io
import resource
import shutil
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from tests.pipeline.hostile_changes import Change, sign

SECONDS = 60
LIGHT = ("verify", "manifest", "bank", "show", "rejects")
"""Commands that load neither Beam nor PyTorch."""
MOST_MEMORY = 1 << 30
"""Bytes by which a command may raise the peak memory of the process."""


def calls(out: Path, name: str, config: Path, *, light: bool = False) -> list[list[str]]:
    """The commands that read the file `name` of OUT. light: without those that load Beam or PyTorch."""
    folder = name.partition("/")[0]
    bank = [["bank", "stats", f"{out}/bank"], ["bank", "query", f"{out}/bank", "--concept", "dog", "--json"],
            ["bank", "query", f"{out}/bank", "--like", _a_patch(out), "--json"],
            ["bank", "show", f"{out}/bank", "--html", f"{out}.html"]]  # fmt: skip
    shards = [["show", str(out), "--html", f"{out}.html", "-n", "400"]]
    again = [[stage, str(config), "--out", str(out)] for stage in ("tag", "detect", "index", "mix")]
    train = ["train", str(config), "--set", f"train.shards={out}/shards", "--out"]
    pairs, photo = f"{config.parent}/pairs.jsonl", f"{config.parent}/photos/0001.jpg"
    whole = ["run", str(config), "--out", str(out)]
    drop = ["drop", str(out), "--images", f"{config.parent}/dropped.txt", "--workers", "1"]
    rejects = [["rejects", str(out)], ["rejects", str(out), "--reason", "no_mention"]]
    readers = {
        "tagged": [again[0], again[3], rejects[0], drop],
        "regions": [*again[1:], rejects[0], drop],
        "bank": [*bank, again[2], again[3]],
        "shards": [*shards, again[3], [*train, f"{out}-new"]],
        "run": [
            [*train, f"{out}/run", "--resume"],
            ["eval", "retrieval", "--run", f"{out}/run", "--images", pairs, "--trust-detector"],
        ],
        "vqa": [
            ["verify", f"{out}/vqa"],
            ["eval", "vqa", "--run", f"{out}/vqa", "--regions", f"{out}/regions"],
            ["finetune", "vqa", f"{config.parent}/finetune.yaml", "--set", f"out={out}", "--workers", "1", "--resume"],
        ],
        "rejects": [*rejects, again[3], drop],
        "work": [whole, drop],
        "contents.json": [whole, *shards, drop],
        "config.yaml": [["bank", "query", f"{out}/bank", "--like", photo, "--trust-detector"], drop],
    }
    found = [["verify", str(out)], ["verify", str(out), "--sample", "1"], ["manifest", str(out)]]
    found += readers.get(folder, [])
    if light:
        found = [call for call in found if call[0] in LIGHT and "--trust-detector" not in call]
    return found


def _a_patch(out: Path) -> str:
    try:
        found: str = pq.read_table(out / "bank" / "patches.parquet", columns=["patch_id"])["patch_id"][0].as_py()
        return str(found)
    except Exception:  # it was changed
        return "none"


class Stuck(BaseException):
    """A command did not end in time."""


@dataclass(frozen=True)
class Outcome:
    """How a call ended: its exit code, or None; its messages; and "" or what it did instead of ending well."""

    code: int | None
    said: str
    wrong: str = ""


def call(arguments: Sequence[str], seconds: int = SECONDS) -> str:
    """ "" if the command ended as it should, else what it did instead."""
    from vlmixer.pipeline.commands.main import main

    return outcome(partial(main, list(arguments)), seconds).wrong


def outcome(do: Callable[[], int], seconds: int = SECONDS, most_memory: int = MOST_MEMORY) -> Outcome:
    """How a command that is called in this process ends. most_memory: bytes by which it may raise the peak."""

    def stop(*_: object) -> None:
        raise Stuck

    said = io.StringIO()
    before = _peak()
    # Of processor time, since other programs may hold the machine; and of time by the clock, for what waits.
    for clock, name, most in ((signal.ITIMER_PROF, signal.SIGPROF, seconds), (signal.ITIMER_REAL, signal.SIGALRM, 600)):
        signal.signal(name, stop)
        signal.setitimer(clock, most)
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            code = do()
    except Stuck:
        return Outcome(None, said.getvalue(), f"still running after {seconds} s")
    except SystemExit as leaving:
        return Outcome(None, said.getvalue(), f"exit {leaving.code}: {said.getvalue()}")
    except BaseException:
        return Outcome(None, said.getvalue(), traceback.format_exc())
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
    text = said.getvalue()
    errors = [line for line in text.splitlines() if line.startswith("error: ")]
    wrong = ""
    if "Traceback" in text:
        wrong = text
    elif code not in (0, 1, 2) or len(errors) > 1 or any(len(line) > 3000 for line in errors):
        wrong = f"exit code {code}: {text}"
    elif _peak() - before > most_memory:
        wrong = f"took {(_peak() - before) / 1e6:,.0f} MB more memory"
    return Outcome(code, text, wrong)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def attempt(
    sound: Path, name: str, change: Change, config: Path, place: Path, *, light: bool = False
) -> tuple[int, list[str]]:
    """Make the change in a copy at `place` and call the commands, each on the folder as the one before left it.

    Returns how many were called, and what went wrong.
    """
    out = place / "out"
    shutil.copytree(sound, out)
    try:
        change.make(out / name)
        if change.signed:
            sign(out, out / name)
        wrong = []
        called = calls(out, name, config, light=light)
        for arguments in called:
            found = call(arguments)
            if found:
                shown = " ".join(arguments).replace(str(place), "")
                wrong.append(f"{name}: {change.name}{' (signed)' if change.signed else ''}: {shown}\n{found}")
        return len(called), wrong
    finally:
        for left in place.iterdir():
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
