"""Changes files of a finished output folder in every way that we know, and says which command takes it badly.

    python benchmarks/hostile_files.py --folder DIR [--number N] [--seed 0] [--only GLOB] [--light]

Makes a small result with a trained and a fine-tuned run in DIR once. Each change (tests/pipeline/hostile_changes.py) is
made in a copy, alone; then the commands that read the file are called in this process (hostile_calls.py
there). Without --number all changes are tried, which takes a day; with it, N that are drawn by the seed, equally many
of each file. Prints what each bad command did, and a Markdown table: changes tried and commands called, and those that
ended as they must.
"""

import argparse
import fnmatch
import json
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for imports of `tests`

import yaml
from tests.model.runs import SHORT, SMALL
from tests.pipeline.hostile_calls import attempt
from tests.pipeline.hostile_changes import Change, changes
from tests.pipeline.jobs.small_corpus import make_corpus, run

from vlmixer.pipeline.commands.main import main as main_of_vlmixer

Case = tuple[str, Change]


def make(folder: Path) -> tuple[Path, Path]:
    """A finished OUT with a run and a fine-tuned one, and its config, in `folder`; those that are there if they are."""
    sys.path.append(str(folder))  # runs and banks name the detector that the corpus brings
    out, config, tuned = folder / "out", folder / "config.yaml", folder / "finetune.yaml"
    if not (out / "run" / "manifest.json").exists():
        folder.mkdir(parents=True)
        corpus = make_corpus(folder)
        corpus.write_config(model=asdict(SMALL), train={**asdict(replace(SHORT, shards=None)), "device": "cpu"})
        if run(config, out):
            raise SystemExit("the run over the small corpus failed")
        pairs = [{"image": f"photos/{number:04d}.jpg", "captions": ["a dog and a cat"]} for number in range(4)]
        (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
        (folder / "dropped.txt").write_text(f"{folder}/photos/0003.jpg\n")
    if not (out / "vqa" / "manifest.json").exists():
        rows = [{"question_id": number, "image": f"{number:04d}.jpg", "question": "which toy?",
                 "answer": "dog" if number % 2 else "kite"} for number in range(60)]  # fmt: skip
        for name, part in (("learnt.jsonl", rows[:40]), ("scored.jsonl", rows[40:])):
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in part))
        task = {"init": str(out / "run"), "train": [str(folder / "learnt.jsonl")], "workers": 0, "batch_size": 8,
                "validation": [str(folder / "scored.jsonl")], "epochs": 1, "device": "cpu"}  # fmt: skip
        tuned.write_text(yaml.safe_dump({**yaml.safe_load(config.read_text()), "task": task, "out": str(out)}))
        if main_of_vlmixer(["finetune", "vqa", str(tuned), "--workers", "1"]):
            raise SystemExit("the fine-tuning failed")
    return out, config


def draw(out: Path, only: str, number: int | None, seed: int) -> list[Case]:
    """Changes of the files of OUT: all, or `number` of them, equally many of each file if it has as many."""
    names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    names = [name for name in names if fnmatch.fnmatch(name, only) and not name.startswith(("logs/", "reports/"))]
    random.seed(seed)
    by_file = [[(name, change) for change in changes(out / name)] for name in names]
    print(f"{sum(map(len, by_file)):,} changes of {len(names)} files", flush=True)
    if number is None:
        return [case for cases in by_file for case in cases]
    for cases in by_file:
        random.shuffle(cases)
    turns = [(turn, place) for place, cases in enumerate(by_file) for turn in range(len(cases))]
    drawn = [by_file[place][turn] for turn, place in sorted(turns)[:number]]
    random.shuffle(drawn)
    return drawn


def main() -> int:
    """Run the benchmark; returns 1 if a command took a change badly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--number", type=int, help="changes to try; default: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="*", help="files below OUT")
    parser.add_argument("--light", action="store_true", help="without commands that load Beam or PyTorch")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end after this time")
    options = parser.parse_args()
    out, config = make(options.folder.resolve())
    if not options.light:  # an import that is interrupted would fail ever after
        import apache_beam  # noqa: F401
        import spacy  # noqa: F401
        import torch  # noqa: F401
    tried: Counter[str] = Counter()
    called: Counter[str] = Counter()
    bad: Counter[str] = Counter()
    seen: set[str] = set()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        for name, change in draw(out, options.only, options.number, options.seed):
            start = time.monotonic()
            if start - began > 60 * options.minutes:
                break
            folder = name.partition("/")[0]
            calls, wrong = attempt(out, name, change, config, Path(place), light=options.light)
            tried[folder] += 1
            called[folder] += calls
            bad[folder] += len(wrong)
            for one in wrong:
                last = one.strip().splitlines()[-1]
                print(one if last not in seen else one.splitlines()[0] + " … " + last[:200], flush=True)
                seen.add(last)
            if tried.total() % 50 == 0 or time.monotonic() - start > 40:
                took = time.monotonic() - start
                print(f"… {tried.total()} ({name}: {change.name}, {took:.1f} s), {bad.total()} bad", flush=True)
    print("| files | changes | commands | held |\n|---|---|---|---|")
    for folder in sorted(tried):
        print(f"| {folder} | {tried[folder]:,} | {called[folder]:,} | {called[folder] - bad[folder]:,} |")
    print(f"| all | {tried.total():,} | {called.total():,} | {called.total() - bad.total():,} |")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
