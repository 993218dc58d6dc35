"""Forges results, so that all hashes match, and says which command takes them badly or for true.

    python benchmarks/forged_results.py --folder DIR [--only "regions: feature*"] [--calls "finetune*"] [--minutes M]

Makes a small result with a trained and a fine-tuned run in DIR once. Each forgery (tests/pipeline/forgeries.py) is made
in a copy, alone; then each command that reads its folder is called, in a process of its own. Bad is a traceback, an end
after 60 seconds, more than 2 GB of memory, a crash, and `verify` that sees nothing. Prints these, with --all every
answer, and a Markdown table: per command, how many forgeries it was given, refused, took, and took badly.
"""

import argparse
import fnmatch
import json
import os
import pickle
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `tests`

from benchmarks.hostile_files import make
from tests.pipeline import forged_readers
from tests.pipeline.forgeries import FORGERIES
from tests.pipeline.forging import Forgery, seal
from tests.pipeline.hostile_calls import Outcome, outcome

SECONDS = 60
MOST_MEMORY = 2 << 30
"""Bytes by which a call may raise the peak memory of its process."""

Call = tuple[str, Callable[[], int]]
"""What is called, by its name in the table."""


def command(name: str, *arguments: object) -> Call:
    """A call of the `vlmixer` command."""
    from vlmixer.pipeline.commands.main import main

    return name, partial(main, [*name.split(), *map(str, arguments)])


def python(name: str, read: Callable[[str], object], folder: Path) -> Call:
    """A reader that is called from Python."""
    return f"Python: {name}", partial(forged_readers.call, read, str(folder))


def task_files(folder: Path) -> dict[str, str]:
    """A file of annotations for each task, about the photos of the small corpus."""
    photos = [f"{number:04d}.jpg" for number in range(60)]
    names = ["dog" if number % 2 else "kite" for number in range(60)]
    rows: dict[str, list[dict[str, Any]]] = {
        "vqa": [{"question_id": n, "image": photo, "question": "which toy?", "answer": names[n]}
                for n, photo in enumerate(photos)],
        "captioning": [{"image": photo, "captions": [f"a {names[n]} here"]} for n, photo in enumerate(photos)],
        "retrieval": [{"image": photo, "captions": [f"a {names[n]} here"]} for n, photo in enumerate(photos)],
        "refcoco": [{"image": photo, "expression": f"the {names[n]}", "bbox": [16, 16, 16, 16], "split": split}
                    for split in ("train", "val") for n, photo in enumerate(photos)],
        "nlvr2": [{"sentence": "a dog", "label": str(n % 2 == 1), "identifier": f"{n}-0", "image": photo}
                  for n, photo in enumerate(photos)],
        "snli_ve": [{"Flikr30kID": photo, "pairID": str(n), "sentence2": "a dog", "gold_label": "neutral"}
                    for n, photo in enumerate(photos)],
    }  # fmt: skip
    found = {}
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        found[name] = f"{folder}/{name}.jsonl"
    questions = {str(n): {"imageId": photo[:4], "question": "which toy?", "answer": names[n], "isBalanced": True,
                          "types": {}} for n, photo in enumerate(photos)}  # fmt: skip
    (folder / "gqa.json").write_text(json.dumps(questions))
    return {**found, "gqa": f"{folder}/gqa.json"}


def calls(folder: str, out: Path, config: Path, files: dict[str, str]) -> list[Call]:
    """What reads a folder of OUT. Each call is made on a copy of its own."""
    given, pairs, photo = config.parent, config.parent / "pairs.jsonl", config.parent / "photos" / "0001.jpg"
    new = ("--out", f"{out}-new")
    at = (config, "--out", out, "--workers", "1", "--overwrite")
    drop = command("drop", out, "--images", given / "dropped.txt", "--workers", "1")
    show = command("show", out, "--html", f"{out}.html", "-n", "400")
    train = command("train", config, "--set", f"train.shards={out}/shards", "--set", "train.device=cpu", *new)
    tunings = {
        task: [config, "--set", f"task.train=[{file}]", "--set", f"task.validation=[{file}]", "--set",
               f"task.init={out}/run", "--set", f"task.regions={out}/regions", "--set", "task.steps=2", "--set",
               "task.workers=0", "--set", "task.device=cpu", "--out", f"{out}-{task}", "--workers", "1"]
        for task, file in files.items()
    }  # fmt: skip
    tuning = [command(f"finetune {task}", *arguments) for task, arguments in tunings.items()]
    captions = tunings["captioning"]
    tuned = command("eval vqa", files["vqa"], "--run", f"{out}/vqa", "--regions", f"{out}/regions",
                    "--html", f"{out}.html")  # fmt: skip
    retrieval = command("eval retrieval", "--run", f"{out}/run", "--images", pairs, "--trust-detector")
    bank = out / "bank"
    found = {
        "tagged": [command("mix", *at), drop, command("bank stats", bank),
                   python("mix_sentences", forged_readers.mix, out)],
        "regions": [
            command("index", *at), command("mix", *at), command("mix", *at, "--set", "mix.crops=true"), *tuning, tuned,
            retrieval, drop, python("Regions", forged_readers.regions, out / "regions"),
        ],
        "bank": [
            command("mix", *at), command("mix", *at, "--set", "mix.crops=true"),
            command("bank merge", bank, given / "out" / "bank", *new),
            command("bank merge", given / "out" / "bank", bank, *new),
            command("bank drop", bank, "--images", given / "dropped.txt", *new),
            command("bank stats", bank, "--quality"), command("bank show", bank, "--html", f"{out}.html"),
            command("bank query", bank, "--concept", "dog", "--save", f"{out}-save", "--html", f"{out}.html"),
            command("bank query", bank, "--concept", "cat", "--context", "dog", "--to-wds", f"{out}-wds"),
            command("bank query", bank, "--like", photo, "--trust-detector"),
            command("bank query", bank, "--text", "a dog", "--trust-detector"),
            python("bank serve", forged_readers.serve, bank), python("PatchBank", forged_readers.bank, bank),
        ],
        "shards": [
            train, show, drop, python("read_shard", forged_readers.shards, out / "shards"),
            command("bank drop", bank, "--images", given / "dropped.txt", "--shards", f"{out}/shards", *new),
            command("train", config, "--set", f"train.shards={out}/shards", "--out", f"{out}/run", "--resume"),
            command("push", f"{out}/shards", "me/it", "--dry-run"),
            python("Loader", forged_readers.loader, out / "shards"),
            python("webdataset", forged_readers.webdataset, out / "shards"),
        ],
        "run": [
            command("train", config, "--set", f"train.shards={out}/shards", "--out", f"{out}/run", "--resume"),
            retrieval, *tuning[:3],
            command("push", f"{out}/run", "me/it", "--dry-run"), python("load_run", forged_readers.run, out / "run"),
        ],
        "vqa": [
            tuned, command("finetune captioning", *captions, "--set", f"task.init={out}/vqa"),
            command("finetune vqa", given / "finetune.yaml", "--set", f"out={out}", "--workers", "1", "--resume"),
            command("push", f"{out}/vqa", "me/it", "--dry-run"),
        ],
    }  # fmt: skip
    return [command("verify", out / folder if folder == "vqa" else out), *found[folder]]


def apart(do: Callable[[], Outcome]) -> Outcome:
    """The outcome in a process of its own, whatever happens to it."""
    into, out_of = os.pipe()[::-1]
    child = os.fork()
    if not child:
        os.close(out_of)
        with os.fdopen(into, "wb") as file:
            pickle.dump(do(), file)
        os._exit(0)
    os.close(into)
    with os.fdopen(out_of, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    crashed = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return pickle.loads(data) if data else Outcome(None, "", f"crashed: {crashed}")  # our own bytes


def attempt(forgery: Forgery, call: Call, original: Path, place: Path) -> Outcome:
    """Call it on a copy with the forgery. The copy is at the same path for all."""
    out = place / "out"
    shutil.copytree(original, out)
    try:
        forgery.make(out)
        seal(out)
        name, do = call
        made = apart(lambda: outcome(do, SECONDS, MOST_MEMORY))
        unseen = name == "verify" and forgery.seen and not made.code
        return replace(made, wrong="verify saw nothing") if unseen and not made.wrong else made
    finally:
        for left in place.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def warm() -> None:
    """Import what the calls need, so that each need not."""
    import apache_beam  # noqa: F401
    import spacy  # noqa: F401
    import torch  # noqa: F401

    from vlmixer.model import finetuning, training  # noqa: F401
    from vlmixer.pipeline.jobs import chain  # noqa: F401


def main() -> int:
    """Run the benchmark; returns 1 if a command took a forgery badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--only", default="*", help="forgeries, as FOLDER: NAME")
    parser.add_argument("--calls", default="*", help="commands")
    parser.add_argument("--all", action="store_true", help="print every answer")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after this time")
    options = parser.parse_args()
    out, config = make(options.folder.resolve())
    files = task_files(options.folder.resolve())
    warm()
    given, refused, bad = Counter[str](), Counter[str](), Counter[str]()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        for forgery in FORGERIES:
            title = f"{forgery.folder}: {forgery.name}"
            if not fnmatch.fnmatch(title, options.only) or time.monotonic() - began > 60 * options.minutes:
                continue
            for call in calls(forgery.folder, Path(place) / "out", config, files):
                if not fnmatch.fnmatch(call[0], options.calls):
                    continue
                started = time.monotonic()
                made = attempt(forgery, call, out, Path(place))
                given[call[0]] += 1
                refused[call[0]] += made.code != 0 and not made.wrong
                bad[call[0]] += bool(made.wrong)
                if made.wrong or options.all:
                    took = f"{time.monotonic() - started:.1f} s"
                    said = made.wrong if made.wrong else f"{made.code}: {made.said.strip()[-300:]}"
                    print(f"{'BAD ' if made.wrong else ''}{title} | {call[0]} | {took} | {said}", flush=True)
    print("| command | forgeries | refused | taken | bad |\n|---|---|---|---|---|")
    for name in given:
        print(f"| {name} | {given[name]} | {refused[name]} | {given[name] - refused[name] - bad[name]} | {bad[name]} |")
    print(f"| all | {given.total()} | {refused.total()} | {(given - refused - bad).total()} | {bad.total()} |")
    return 1 if bad.total() else 0


if __name__ == "__main__":
    sys.exit(main())
