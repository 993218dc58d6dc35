"""How fast `tag` is, as ratios of things run alternately: against a bare loop, the pipeline on everything, two workers.

    python benchmarks/tagging_speed.py --captions CAPTIONS.txt.gz --spacy-model PIPELINE [--rounds 3] [--copies 1]
                                       [--memory]

Two texts: the captions, of which nearly every one holds a concept, --copies times (made different), and English prose
of which few sentences do: the docstrings of the standard library, a sentence a line.

    stage       the whole stage: reading, matching, duplicates, tagging, Parquet, rejects, summary and page
    bare loop   the same lines read and tagged in batches by the same tagger, in this process, and nothing else
    everything  the same spaCy pipeline over every sentence, then matching (of one caption in twenty, times twenty)

Figures are CPU seconds of all processes, and wall seconds; ratios are of CPU seconds but for the two workers'. --memory
runs the stage on the captions once and on ten copies (made different), and compares the largest process.
"""

import argparse
import ast
import gzip
import os
import resource
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

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
    """So many copies of the lines, no two of them equal."""
    with path.open("w", encoding="utf-8") as file:
        for copy in range(copies):
            file.writelines(f"{line} {copy}.\n" for line in lines)


def clocks() -> tuple[float, float]:
    """CPU seconds of this process and its finished children, and the wall clock."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(entry.ru_utime + entry.ru_stime for entry in used), time.monotonic()


def timed(do: Callable[[], object]) -> tuple[float, float]:
    """CPU and wall seconds that `do` takes."""
    cpu, wall = clocks()
    do()
    cpu_then, wall_then = clocks()
    return cpu_then - cpu, wall_then - wall


def stage(text: Path, model: str, workers: int, folder: Path) -> None:
    """Run `vlmixer tag` on the text, in processes of its own."""
    out = Path(tempfile.mkdtemp(dir=folder))
    config = out / "config.yaml"
    config.write_text(f"out: {out / 'out'}\ntext: {{inputs: [{text}], spacy_model: {model}}}\n")
    command = [sys.executable, "-m", "vlmixer", "tag", str(config), "--workers", str(workers)]
    subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).resolve().parents[1])


def bare_loop(text: Path, tagger: Tagger) -> int:
    """Read the lines, tag them in batches, throw away what is found."""
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
    """The pipeline on every sentence; matching costs the same whenever it comes."""
    nlp = load_spacy(model)
    assert nlp is not None
    for _ in nlp.pipe(lines, batch_size=BATCH):
        pass
    for line in lines:
        tagger._matcher.find(line)


def start_up(model: str, folder: Path) -> tuple[float, float]:
    """What the stage takes for one sentence: imports, Beam, the pipeline's loading."""
    text = folder / "one.txt"
    text.write_text("a dog stand by the sheep graze\n")
    return timed(lambda: stage(text, model, 1, folder))


def compare(name: str, text: Path, model: str, rounds: int, folder: Path, sample: int) -> None:
    """A text's table."""
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
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in [*ways, "start-up"]}
    for _ in range(rounds):
        taken["start-up"].append(start_up(model, folder))
        for way, (do, factor) in ways.items():
            cpu, wall = timed(do)
            taken[way].append((cpu * factor, wall * factor))
    for way, figures in taken.items():
        cpu, wall = (statistics.median(column) for column in zip(*figures, strict=True))
        print(f"  {way:<18}{cpu:>9.1f} s CPU{wall:>9.1f} s wall{len(lines) / cpu:>12,.0f} sentences/s of CPU")

    def ratio(label: str, values: list[float]) -> None:
        print(f"  {label:<62}{statistics.median(values):>6.2f}  ({', '.join(f'{value:.2f}' for value in values)})")

    rows = list(zip(*(taken[way] for way in [*ways, "start-up"]), strict=True))
    ratio("bare loop / (stage - start-up), CPU (goal 0.95)", [b[0] / (s[0] - u[0]) for s, b, _, _, u in rows])
    ratio("bare loop / stage, CPU", [b[0] / s[0] for s, b, _, _, _ in rows])
    ratio(
        "everything / (stage - start-up), CPU (goal 5 on sparse text)", [e[0] / (s[0] - u[0]) for s, _, _, e, u in rows]
    )
    ratio("stage, 1 worker / 2 workers, wall (goal 1.8)", [s[1] / t[1] for s, _, t, _, _ in rows])


def memory(text: Path, model: str, folder: Path) -> None:
    """The largest process on the text and on ten times as much."""
    lines = text.read_text(encoding="utf-8").splitlines()
    tenfold = folder / "tenfold.txt"
    write_copies(lines, 10, tenfold)
    peaks = []
    for path in (text, tenfold):
        script = (
            "import resource, runpy, sys; sys.argv[0] = 'vlmixer'\n"
            "from vlmixer.pipeline.commands.main import main\n"
            "code = main(sys.argv[1:])\n"
            "usage = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]\n"
            "print('PEAK', max(usage)); sys.exit(code)"
        )
        config = folder / f"{path.stem}.yaml"
        config.write_text(f"out: {folder / path.stem}-out\ntext: {{inputs: [{path}], spacy_model: {model}}}\n")
        done = subprocess.run(
            [sys.executable, "-c", script, "tag", str(config), "--workers", "2"],
            check=True, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip
        peaks.append(int(done.stdout.rsplit("PEAK", 1)[1]) / 1024)
    print(f"\nmemory of the largest process, 2 workers: {peaks[0]:.0f} MB for {len(lines):,} sentences, "
          f"{peaks[1]:.0f} MB for {10 * len(lines):,}: ratio {peaks[1] / peaks[0]:.2f} (goal 1.1)")  # fmt: skip


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
