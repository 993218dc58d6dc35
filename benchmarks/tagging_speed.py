"""Speed of `tag` against a bare loop, against spaCy on every sentence, and with two workers; all take turns.

    python benchmarks/tagging_speed.py --captions CAPTIONS.txt.gz --spacy-model PIPELINE [--rounds 3] [--copies 1]
                                       [--memory]

There are two texts: the captions in --copies altered copies, nearly all with a concept, and English prose
with few concepts: the docstrings of the standard library, one sentence per line.

    stage       the whole stage: reading, matching, duplicates, tagging, Parquet, rejects, summary and page
    bare loop   only reads the same lines and tags them in batches with the same tagger, in this process
    everything  the same spaCy pipeline on every sentence, then matching (one caption in twenty, times twenty)

Ratios are of CPU seconds over all processes, except for two workers: wall seconds. --memory runs the stage on the
captions and on ten altered copies, and compares the largest process.
"""

import argparse
import ast
import gzip
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.timing import Taken, in_turn, median, timed
from benchmarks.watching import MIB, vlmixer, watch

from vlmixer.bank.concepts import HARDLY_VISUAL, load_vocabulary
from vlmixer.pipeline.text.sentences import SentenceSplitter
from vlmixer.pipeline.text.tagger import BATCH, Tagger, load_spacy

LINES_AT_ONCE = 1024


def docstrings() -> Iterator[str]:
    """Sentences of the standard library's docstrings."""
    splitter = SentenceSplitter()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py")):
        if "site-packages" in path.parts or "test" in path.parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
                yield from (sentence for sentence in splitter.split(text) if len(sentence) > 20)


def write_copies(lines: list[str], copies: int, path: Path) -> None:
    """Write `copies` copies of the lines, no two of them equal."""
    with path.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            file.writelines(f"{line} {copy}.\n" for line in lines)


def stage(text: Path, model: str, workers: int, folder: Path) -> None:
    """Run `vlmixer tag` on the text in processes of its own."""
    out = Path(tempfile.mkdtemp(dir=folder))
    config = out / "config.yaml"
    config.write_text(f"out: {out / 'out'}\ntext: {{inputs: [{text}], spacy_model: {model}}}\n")
    subprocess.run(vlmixer("tag", config, "--workers", workers), check=True, capture_output=True)


def bare_loop(text: Path, tagger: Tagger) -> int:
    """Read the lines and tag them in batches; returns the number of mentions."""
    mentions = 0
    with text.open(encoding="utf-8") as lines:
        held: list[str] = []
        for line in lines:
            held.append(line.strip())
            if len(held) == LINES_AT_ONCE:
                mentions += sum(len(found.mentions) for found in tagger.tag(held))
                held = []
        return mentions + sum(len(found.mentions) for found in tagger.tag(held))


def everything(lines: list[str], model: str, tagger: Tagger) -> None:
    """Run the pipeline on every sentence, then match; matching costs the same before or after."""
    nlp = load_spacy(model)
    assert nlp is not None
    for _ in nlp.pipe(lines, batch_size=BATCH):
        pass
    for line in lines:
        tagger._matcher.find(line)


def start_up(model: str, folder: Path) -> Taken:
    """The stage on one sentence: imports, Beam, loading of the pipeline."""
    text = folder / "one.txt"
    text.write_text("a dog stand by the sheep graze\n")
    return timed(lambda: stage(text, model, 1, folder))


def compare(name: str, text: Path, model: str, rounds: int, folder: Path, sample: int) -> None:
    """Print the table of one text."""
    tagger = Tagger(load_vocabulary("coco"), model, HARDLY_VISUAL)
    lines = text.read_text(encoding="utf-8").splitlines()
    holding = sum(bool(tagger._matcher.find(line)) for line in lines)
    print(f"\n{name}: {len(lines):,} sentences, {holding / len(lines):.1%} with a word of the vocabulary")
    ways: dict[str, tuple[Callable[[], object], float]] = {
        "stage, 1 worker": (lambda: stage(text, model, 1, folder), 1),
        "bare loop": (lambda: bare_loop(text, tagger), 1),
        "stage, 2 workers": (lambda: stage(text, model, 2, folder), 1),
        "everything": (lambda: everything(lines[::sample], model, tagger), sample),
    }
    found = in_turn(rounds, {way: do for way, (do, _) in ways.items()})
    taken = {way: [one * ways[way][1] for one in figures] for way, figures in found.items()}
    taken["start-up"] = [start_up(model, folder) for _ in range(rounds)]
    for way, figures in taken.items():
        middle = median(figures)
        rate = len(lines) / middle.cpu
        print(f"  {way:<18}{middle.cpu:>9.1f} s CPU{middle.wall:>9.1f} s wall{rate:>12,.0f} sentences per CPU second")

    def ratio(label: str, values: list[float]) -> None:
        print(f"  {label:<62}{statistics.median(values):>6.2f}  ({', '.join(f'{value:.2f}' for value in values)})")

    rows = list(zip(*(taken[way] for way in [*ways, "start-up"]), strict=True))
    ratio("bare loop / (stage - start-up), CPU (goal 0.95)", [b.cpu / (s.cpu - u.cpu) for s, b, _, _, u in rows])
    ratio("bare loop / stage, CPU", [b.cpu / s.cpu for s, b, _, _, _ in rows])
    ratio(
        "everything / (stage - start-up), CPU (goal 5 on sparse text)",
        [e.cpu / (s.cpu - u.cpu) for s, _, _, e, u in rows],
    )
    ratio("stage, 1 worker / 2 workers, wall (goal 1.8)", [s.wall / t.wall for s, _, t, _, _ in rows])


def memory(text: Path, model: str, folder: Path) -> None:
    """Print the own memory of the largest process for the text and for ten times as much."""
    lines = text.read_text(encoding="utf-8").splitlines()
    tenfold = folder / "tenfold.txt"
    write_copies(lines, 10, tenfold)
    peaks = []
    for path in (text, tenfold):
        config = folder / f"{path.stem}.yaml"
        config.write_text(f"out: {folder / path.stem}-out\ntext: {{inputs: [{path}], spacy_model: {model}}}\n")
        peaks.append(watch(vlmixer("tag", config, "--workers", 2)).largest / MIB)
    print(f"\nown memory of the largest process, 2 workers: {peaks[0]:.0f} MiB for {len(lines):,} sentences, "
          f"{peaks[1]:.0f} MiB for {10 * len(lines):,}: ratio {peaks[1] / peaks[0]:.2f} (goal 1.1)")  # fmt: skip


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, required=True)
    parser.add_argument("--spacy-model", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copies", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    model = str(Path(options.spacy_model).resolve()) if "/" in options.spacy_model else options.spacy_model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        captions = folder / "captions.txt"
        opened = gzip.open if options.captions.suffix == ".gz" else open
        with opened(options.captions, "rt", encoding="utf-8") as file:
            lines = file.read().splitlines()
        captions.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        prose = folder / "prose.txt"
        prose.write_text("".join(f"{sentence}\n" for sentence in docstrings()), encoding="utf-8")
        if options.rounds:
            copied = folder / "copied.txt"
            write_copies(lines, options.copies, copied)
            compare("captions", copied, model, options.rounds, folder, sample=20)
            compare("prose", prose, model, options.rounds, folder, sample=1)
        if options.memory:
            memory(captions, model, folder)


if __name__ == "__main__":
    main()
